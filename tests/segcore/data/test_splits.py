"""Splits: no pixel and no group on two sides, whatever is asked for; what is named is where it was put."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from segcore.config import DataConfig
from segcore.data.grouping import group_names, unmatched_notes
from segcore.data.splits import Extent, Region, Split, parse_slices, split_images
from segcore.errors import ConfigError

METHODS = ["even", "random", "stratified", "blocks", "groups"]


def slices(regions: tuple[Region, ...]) -> list[tuple[int, int]]:
    return [(region.item, plane) for region in regions for plane in range(*region.planes)]


def parts(split: Split) -> list[list[tuple[int, int]]]:
    return [slices(split.train), slices(split.validation), slices(split.test)]


@st.composite
def data_sets(draw: st.DrawFn) -> list[Extent]:
    extents = []
    for number in range(draw(st.integers(1, 9))):
        planes = draw(st.integers(1, 7))
        known = draw(st.booleans())
        seen = st.frozensets(st.integers(0, 3))
        extents.append(
            Extent(
                name=f"Pos{draw(st.integers(0, 4)):03}/{number}.tif",
                planes=planes,
                height=draw(st.integers(16, 160)),
                use=draw(st.sampled_from(["split", "split", "split", "train", "validation", "test"])),
                classes=tuple(draw(seen) for _ in range(planes)) if known else (),
                depth=planes // 2 if planes % 2 == 0 and draw(st.booleans()) else 0,
            )
        )
    return extents


@st.composite
def options(draw: st.DrawFn) -> DataConfig:
    folds = draw(st.sampled_from([0, 0, 0, 2, 3]))
    chosen: dict[str, Any] = {
        "split_by": draw(st.sampled_from(METHODS)),
        "validation_fraction": draw(st.sampled_from([0.1, 0.2, 0.5])),
        "test_fraction": draw(st.sampled_from([0, 0, 0.2])),
        "validation_slices": draw(st.sampled_from([None, None, "0", "1-2"])),
        "test_slices": draw(st.sampled_from([None, None, "2", "0-1"])),
        "group_pattern": draw(st.sampled_from([None, r"(Pos\d+)", r"Pos00"])),
        "validation_groups": draw(st.sampled_from([[], [], ["Pos*1"]])),
        "test_groups": draw(st.sampled_from([[], [], ["Pos*0"], ["*.tif"]])),
        "mode": draw(st.sampled_from(["2d", "2.5d", "3d"])),
        "patch_depth": draw(st.sampled_from([4, 16])),
        "patch_size": 32,
        "folds": folds,
        "fold": draw(st.integers(0, max(0, folds - 1))),
    }
    return DataConfig(**chosen)


@settings(max_examples=300, deadline=None)
@given(data_sets(), options())
def test_no_pixel_and_no_group_is_on_two_sides(extents: list[Extent], data: DataConfig) -> None:
    try:
        split = split_images(extents, data)
    except ConfigError:
        return
    assert split.train
    assert split.validation
    pixels = [
        (region.item, plane, row)
        for side in (split.train, split.validation, split.test)
        for region in side
        for plane in range(*region.planes)
        for row in range(*region.rows)
    ]
    assert len(pixels) == len(set(pixels))
    assert all(
        region.planes[1] <= extents[region.item].planes and region.rows[1] <= extents[region.item].height
        for side in (split.train, split.validation, split.test)
        for region in side
    )
    if data.group_pattern and len(extents) > 1:
        groups = group_names([extent.name for extent in extents], data.group_pattern)
        train, validation, test = ({groups[item] for item, _ in side} for side in parts(split))
        assert not train & validation
        assert not train & test
        assert not validation & test
    for name, side in zip(("train", "validation", "test"), parts(split), strict=True):
        assert all(extents[item].use in ("split", name) for item, _ in side)
    assert split == split_images(extents, data)


@settings(max_examples=100, deadline=None)
@given(data_sets(), options())
def test_slices_without_annotation_are_in_no_part(extents: list[Extent], data: DataConfig) -> None:
    assume(data.mode != "3d")
    try:
        split = split_images(extents, data)
    except ConfigError:
        return
    assert all(extents[item].annotated(plane) for side in parts(split) for item, plane in side)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=12),
    st.integers(2, 5),
    st.sampled_from(METHODS),
    st.sampled_from(["2d", "3d"]),
)
def test_every_slice_validates_in_exactly_one_fold(
    planes: list[int], folds: int, method: str, mode: str
) -> None:
    extents = [Extent(f"{number}.tif", count, 64) for number, count in enumerate(planes)]
    assume(len(planes) >= folds)
    found = []
    for fold in range(folds):
        data = DataConfig(split_by=method, mode=mode, patch_depth=4, folds=folds, fold=fold)
        split = split_images(extents, data)
        found += slices(split.validation)
        assert {item for item, _ in slices(split.train)}.isdisjoint(
            item for item, _ in slices(split.validation)
        )
    assert sorted(found) == [(item, plane) for item, count in enumerate(planes) for plane in range(count)]


@pytest.mark.parametrize(
    ("count", "fraction", "expected"), [(2, 0.9, 1), (5, 0.2, 1), (30, 0.2, 6), (3, 0.01, 1)]
)
def test_an_even_split_keeps_the_share_and_never_all(count: int, fraction: float, expected: int) -> None:
    split = split_images([Extent("a.tif", count, 64)], DataConfig(validation_fraction=fraction))
    assert len(split.validation) == expected
    assert len(split.train) == count - expected
    if expected > 1:  # spread over the whole stack
        assert split.validation[0].planes[0] < count / expected
        assert split.validation[-1].planes[1] > count - count / expected


def test_slices_are_counted_through_all_images() -> None:
    extents = [Extent("a.tif", 2, 64), Extent("b.tif", 3, 64), Extent("c.tif", 1, 64)]
    split = split_images(extents, DataConfig(validation_slices="1-2", test_slices="5"))
    assert slices(split.validation) == [(0, 1), (1, 0)]
    assert slices(split.test) == [(2, 0)]
    assert slices(split.train) == [(0, 0), (1, 1), (1, 2)]


def test_positions_that_end_in_some_numbers_are_the_test() -> None:
    extents = [Extent(f"Pos{number:03}/{name}.tif", 1, 64) for number in range(1, 31) for name in "ab"]
    data = DataConfig(
        group_pattern=r"(Pos\d+)", test_groups=["Pos*09", "Pos*10", "Pos*19", "Pos*20"], split_by="groups"
    )
    split = split_images(extents, data)
    names = {extents[item].name[:6] for item, _ in slices(split.test)}
    assert names == {"Pos009", "Pos010", "Pos019", "Pos020"}
    assert len(slices(split.test)) == 8
    assert len(slices(split.validation)) == 10  # a fifth of the 52 others, in whole positions
    assert any("Pos009" in note for note in split.notes)


def test_images_that_the_pattern_does_not_match_are_told() -> None:
    extents = [Extent(name, 1, 64) for name in ("Pos001/a.tif", "Pos002/a.tif", "Pos003/a.tif", "test.tif")]
    said = split_images(extents, DataConfig(group_pattern=r"(Pos\d+)")).notes
    assert any("1 of 4" in note and note.endswith(": test.tif.") for note in said)
    assert not any("match" in note for note in split_images(extents, DataConfig(group_pattern="^.")).notes)


def test_without_a_pattern_every_image_is_a_group() -> None:
    extents = [Extent(f"{number}.tif", 4, 64) for number in range(10)]
    split = split_images(extents, DataConfig(split_by="groups", validation_groups=["3", "7.tif"]))
    assert {item for item, _ in slices(split.validation)} == {3, 7}
    assert len(split.train) == 32


def test_stratified_parts_hold_every_class_that_is_in_enough_slices() -> None:
    rare = {
        3: frozenset({0, 5}),
        17: frozenset({0, 5}),
        40: frozenset({0, 5}),
        8: frozenset({0, 9}),
        9: frozenset({0, 9}),
    }
    classes = tuple(rare.get(number, frozenset({0, 1})) for number in range(50))
    data = DataConfig(split_by="stratified", validation_fraction=0.1, test_fraction=0.1)
    split = split_images([Extent("a.tif", 50, 64, classes=classes)], data)

    def found(part: tuple[Region, ...]) -> set[int]:
        return {value for _, plane in slices(part) for value in classes[plane]}

    assert found(split.train) == {0, 1, 5, 9}
    assert found(split.validation) == {0, 1, 5, 9}
    assert found(split.test) >= {0, 1, 5}
    assert (len(split.validation), len(split.test)) == (5, 5)


def test_a_volume_is_cut_into_blocks_with_a_slice_between() -> None:
    data = DataConfig(mode="3d", patch_depth=8, validation_fraction=0.2, test_fraction=0.2)
    split = split_images([Extent("a.tif", 60, 64)], data)
    train, validation, test = (
        region.planes for side in (split.train, split.validation, split.test) for region in side
    )
    assert train[1] + 1 == validation[0]
    assert validation[1] + 1 == test[0]
    assert test[1] == 60
    assert validation[1] - validation[0] == 12
    assert any("left out" in note for note in split.notes)


def test_volumes_too_shallow_for_blocks_stay_whole() -> None:
    extents = [Extent(f"{number}.tif", 10, 64) for number in range(5)]
    split = split_images(extents, DataConfig(mode="3d", patch_depth=8))
    assert [region.planes for region in split.train + split.validation] == [(0, 10)] * 5
    assert len(split.validation) == 1


def test_volumes_of_a_time_lapse_are_not_divided_by_blocks() -> None:
    split = split_images([Extent("a.tif", 40, 64, depth=4)], DataConfig(mode="3d", patch_depth=4))
    assert [region.planes for region in split.validation] == [(32, 36), (36, 40)]
    assert len(split.train) == 8


def test_slices_between_annotated_ones_belong_to_their_block() -> None:
    classes = tuple(frozenset({0, 1} if number % 4 == 0 else ()) for number in range(40))
    extents = [Extent("a.tif", 40, 64, classes=classes)]
    split = split_images(extents, DataConfig(mode="3d", patch_depth=4))
    assert len(split.train) == len(split.validation) == 1
    assert split.train[0].planes[1] <= split.validation[0].planes[0]


@pytest.mark.parametrize("tested", [0.0, 0.2])
@pytest.mark.parametrize("height", [96, 97, 200, 512])
def test_a_single_slice_is_divided_by_rows(height: int, tested: float) -> None:
    split = split_images([Extent("a.tif", 1, height)], DataConfig(patch_size=64, test_fraction=tested))
    rows = [region.rows for side in (split.train, split.validation, split.test) for region in side]
    assert rows[0][0] == 0
    assert rows[-1][1] == height
    assert all(before[1] == after[0] for before, after in pairwise(rows))
    assert len(rows) == (3 if tested else 2)
    assert rows[0][1] >= 64
    assert all((stop - start) % 16 == 0 for start, stop in rows[1:])


def test_a_set_for_validation_replaces_the_fraction() -> None:
    extents = [
        Extent("a/1.tif", 6, 64),
        Extent("b/1.tif", 3, 64, "validation"),
        Extent("c/1.tif", 2, 64, "test"),
    ]
    split = split_images(extents, DataConfig())
    assert [{item for item, _ in side} for side in parts(split)] == [{0}, {1}, {2}]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"validation_slices": "3,12"}, ["validation_slices", "12", "0 to 11"]),
        ({"validation_slices": "1", "test_slices": "1-2"}, ["validation_slices", "test_slices", "1"]),
        ({"validation_slices": "0-11"}, ["nothing to train on", "12"]),
        ({"validation_groups": ["Pos9*"]}, ["validation_groups", "Pos9*", "Pos001/a.tif"]),
        ({"group_pattern": "(Pos"}, ["group_pattern", "(Pos"]),
        ({"group_pattern": "Well"}, ["group_pattern", "Well", "Pos001/a.tif"]),
        ({"group_pattern": "Pos"}, ["Pos", "1"]),
        ({"group_pattern": r"(Pos\d+)", "validation_slices": "0"}, ["Pos001", "divided"]),
        ({"test_groups": ["Pos*"]}, ["nothing to train on"]),
        (
            {"test_groups": ["Pos001"], "validation_groups": ["Pos*"], "group_pattern": r"Pos\d+"},
            ["test_groups"],
        ),
        ({"validation_fraction": 0.6, "test_fraction": 0.5}, ["0.6", "0.5"]),
        ({"test_slices": "0-11"}, ["nothing to train on"]),
        ({"folds": 13}, ["folds", "13", "12"]),
        ({"folds": 4, "group_pattern": r"Pos\d+"}, ["folds", "4", "Pos003"]),
    ],
)
def test_an_error_names_the_option_its_value_and_what_there_is(
    data: dict[str, Any], words: list[str]
) -> None:
    extents = [Extent(f"Pos00{number}/a.tif", 4, 64) for number in (1, 2, 3)]
    with pytest.raises(ConfigError) as caught:
        split_images(extents, DataConfig(**data))
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert caught.value.remedy


def test_groups_that_sets_have_put_on_two_sides_are_refused() -> None:
    extents = [Extent("a/Pos1.tif", 2, 64, "train"), Extent("b/Pos1.tif", 2, 64, "validation")]
    with pytest.raises(ConfigError, match="Pos1"):
        split_images(extents, DataConfig(group_pattern=r"Pos\d"))


def test_many_images_are_divided_by_group_and_class() -> None:
    extents = [Extent(f"Pos{number // 10:05}/{number}.tif", 1, 64) for number in range(20_000)]
    split = split_images(extents, DataConfig(group_pattern=r"Pos\d+", split_by="stratified"))
    assert len(split.validation) == 4000


@settings(deadline=None, max_examples=100)
@given(count=st.integers(2, 300), fraction=st.floats(0.01, 0.5))
def test_a_fraction_is_spread_evenly(count: int, fraction: float) -> None:
    split = split_images([Extent("a.tif", count, 64)], DataConfig(validation_fraction=fraction))
    chosen = [plane for _, plane in slices(split.validation)]
    assert len(chosen) == pytest.approx(count * fraction, abs=1)
    gaps = {after - before for before, after in pairwise(chosen)}
    assert len(gaps) <= 1 or max(gaps) - min(gaps) <= 1


@settings(deadline=None, max_examples=100)
@given(height=st.integers(80, 3000), fraction=st.floats(0.01, 0.9))
def test_a_single_slice_keeps_room_for_a_patch_and_says_so(height: int, fraction: float) -> None:
    split = split_images(
        [Extent("a.tif", 1, height)], DataConfig(validation_fraction=fraction, patch_size=64)
    )
    (train,), (validation,) = split.train, split.validation
    assert train.rows[1] >= 64
    assert validation.rows == (train.rows[1], height)
    assert "single slice" in split.notes[0]


def test_a_single_slice_cannot_be_named_for_validation() -> None:
    with pytest.raises(ConfigError, match="rows of a single slice"):
        split_images([Extent("a.tif", 1, 512)], DataConfig(validation_slices="0"))


def test_named_slices_go_before_folds() -> None:
    split = split_images([Extent("a.tif", 9, 64)], DataConfig(validation_slices="4", folds=3))
    assert slices(split.validation) == [(0, 4)]
    assert any("folds" in note for note in split.notes)


@pytest.mark.parametrize(("height", "tested"), [(79, 0.0), (95, 0.2)])
def test_a_single_slice_too_small_to_divide_is_refused(height: int, tested: float) -> None:
    with pytest.raises(ConfigError, match=f"{height + 1} rows"):
        split_images([Extent("a.tif", 1, height)], DataConfig(patch_size=64, test_fraction=tested))


@pytest.mark.parametrize("text", ["", "a", "1,,2", "1-2-3", "-4"])
def test_text_that_names_no_slices_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_slices(text)


@pytest.mark.parametrize("text", ["9-3", "0-99999999999"])
def test_slices_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a range"):
        parse_slices(text)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "a*a*a*a*a*a*a*b", "(?:a?){40}a{40}$"])
def test_a_pattern_that_would_take_for_ever_is_refused(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segcore.data.grouping.LONGEST", 0.5)
    with pytest.raises(ConfigError, match=r"still being tried after 0\.5 s") as caught:
        group_names([f"{'a' * 70}!/{number}.tif" for number in range(50)], pattern)
    assert pattern in caught.value.message
    assert r"\d+" in caught.value.remedy


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (r"(?P<day>d\d+)/(Pos\d+)", ["d1-Pos01", "d1-Pos02", "d2-Pos01", "other/é\udcff.tif"]),
        (r"(?:d(\d))+/", ["1", "1", "2", "other/é\udcff.tif"]),
        (r"^[^/]+/.[^.]*", ["d1/Pos01", "d1/Pos02", "d2/Pos01", "other/é\udcff"]),
        (r"^d\d", ["d1", "d1", "d2", "other/é\udcff.tif"]),
    ],
)
def test_a_pattern_catches_the_same_wherever_it_is_tried(pattern: str, expected: list[str]) -> None:
    names = ["d1/Pos01.tif", "d1/Pos02.tif", "d2/Pos01.tif", "other/é\udcff.tif"]
    assert group_names(names, pattern) == expected
    assert bool(unmatched_notes(names, pattern)) == (names[-1] in expected)
