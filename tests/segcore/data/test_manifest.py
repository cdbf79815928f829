"""Splits share nothing and lose nothing; labels survive the way to class indices and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from segcore.config import DataConfig
from segcore.data.manifest import Split, class_table, decode_labels, encode_labels, parse_slices, split_planes
from segcore.data.open import open_source
from segcore.data.planes import Planes
from segcore.errors import ConfigError, DataError


def covered(split: Split, count: int, height: int) -> np.ndarray:
    """Return how often every row of every plane occurs in the split."""
    times = np.zeros((count, height), int)
    for region in (*split.train, *split.validation):
        times[region.plane, slice(*region.rows)] += 1
    return times


@settings(deadline=None, max_examples=100)
@example(count=2, height=64, fraction=0.9)
@example(count=1, height=48, fraction=0.9)
@given(count=st.integers(1, 200), height=st.integers(48, 2000), fraction=st.floats(0.01, 0.9))
def test_every_row_trains_or_validates_and_never_both(count: int, height: int, fraction: float) -> None:
    split = split_planes(count, height, DataConfig(validation_fraction=fraction, patch_size=32))
    assert (covered(split, count, height) == 1).all()
    assert split.train
    assert split.validation


@settings(deadline=None, max_examples=100)
@given(count=st.integers(2, 300), fraction=st.floats(0.01, 0.5))
def test_a_fraction_is_spread_evenly(count: int, fraction: float) -> None:
    split = split_planes(count, 64, DataConfig(validation_fraction=fraction))
    chosen = [region.plane for region in split.validation]
    assert len(chosen) == pytest.approx(count * fraction, abs=1)
    if len(chosen) > 1:
        gaps = np.diff(chosen)
        assert gaps.max() - gaps.min() <= 1


@settings(deadline=None, max_examples=100)
@given(height=st.integers(80, 3000), fraction=st.floats(0.01, 0.9))
def test_a_single_slice_keeps_room_for_a_patch_and_says_so(height: int, fraction: float) -> None:
    split = split_planes(1, height, DataConfig(validation_fraction=fraction, patch_size=64))
    (train,), (validation,) = split.train, split.validation
    assert train.rows[1] >= 64
    assert (validation.rows[1] - validation.rows[0]) % 16 == 0
    assert "single slice" in split.notes[0]


def test_a_single_slice_too_small_to_divide_is_refused() -> None:
    with pytest.raises(ConfigError, match="80 rows"):
        split_planes(1, 79, DataConfig(patch_size=64))


def test_explicit_slices_validate_and_only_they() -> None:
    split = split_planes(30, 512, DataConfig(validation_slices="24-29, 3"))
    assert [region.plane for region in split.validation] == [3, 24, 25, 26, 27, 28, 29]
    assert (covered(split, 30, 512) == 1).all()


@pytest.mark.parametrize(
    ("slices", "count", "told"),
    [
        ("24-31", 30, "names 30, 31, but the stack has the slices 0 to 29"),
        ("0-29", 30, "nothing to train on"),
        ("0", 1, "only slice 0"),
        ("9-3", 30, "must rise"),
        ("0-99999999999", 30, "stay below"),
    ],
)
def test_slices_that_cannot_be_are_refused(slices: str, count: int, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        split_planes(count, 512, DataConfig(validation_slices=slices))


@pytest.mark.parametrize("text", ["", "a", "1,,2", "1-2-3", "-4"])
def test_text_that_names_no_slices_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_slices(text)


@settings(deadline=None, max_examples=50)
@given(
    values=st.sets(st.integers(-300, 70_000), min_size=1, max_size=40),
    dtype=st.sampled_from(["int32", "int64", "float64"]),
    seed=st.integers(0, 9),
)
def test_labels_survive_the_way_to_indices_and_back(values: set[int], dtype: str, seed: int) -> None:
    known = tuple(sorted(values))
    labels = np.random.default_rng(seed).choice(known, (1, 11, 13)).astype(dtype)
    indices = encode_labels(labels, known, "classes")
    assert indices.shape == (11, 13)
    assert indices.dtype == np.int16
    assert np.array_equal(decode_labels(indices, known), labels[0])


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ((0, 255), "uint8"),
        ((0, 256), "uint16"),
        ((0, 70_000), "uint32"),
        ((-1, 127), "int8"),
        ((-1, 128), "int16"),
    ],
)
def test_output_has_the_smallest_type_that_holds_all_values(values: tuple[int, ...], dtype: str) -> None:
    assert decode_labels(np.zeros((2, 2), np.int16), values).dtype == dtype


def test_unknown_values_are_named() -> None:
    with pytest.raises(DataError, match=r"unknown values: 3, 9; known are 0, 255"):
        encode_labels(np.array([[0, 9], [3, 255]]), (0, 255), "classes")


def test_fractions_and_colours_are_no_labels() -> None:
    with pytest.raises(DataError, match="whole numbers"):
        encode_labels(np.array([[0.0, 0.5]]), (0, 1), "classes")
    with pytest.raises(DataError, match="whole numbers"):
        encode_labels(np.array([[0.0, np.nan]], np.float32), (0, 1), "classes")
    with pytest.raises(DataError, match="3 channels"):
        encode_labels(np.zeros((3, 4, 4), np.uint8), (0, 1), "classes")


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int32", "float32"])
def test_the_class_table_counts_every_pixel_once(tmp_path: Path, dtype: str) -> None:
    labels = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 5, (3, 16, 20)).astype(dtype)
    tifffile.imwrite(tmp_path / "labels.tif", labels, photometric="minisblack", compression="zlib")
    planes = Planes(open_source(tmp_path / "labels.tif"))
    table = class_table(planes, "classes")
    assert table == {int(value): int((labels == value).sum()) for value in np.unique(labels)}
    assert list(table) == sorted(table)
    objects = class_table(planes, "foreground")
    assert objects == {0: int((labels == 0).sum()), 1: int((labels > 0).sum())}
    assert np.array_equal(encode_labels(planes.read(1), (0, 1), "foreground"), (labels[1] > 0))
