"""Repairs: text and back, undone they leave no trace, and a part of the repaired is the repaired part."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from segcore.card import PixelSize
from segcore.data.recipe import Step, parse_recipe, repair_images, repair_labels, repair_mask, swapped
from segcore.data.source import ImageSource, Region, full_region
from segcore.errors import ConfigError, DataError

values = st.integers(-5, 300)
LINES = {
    "labels.values": st.dictionaries(values, values, min_size=1, max_size=5).map(
        lambda pairs: " ".join(f"{old}={new}" for old, new in pairs.items())
    ),
    "labels.round": st.just(""),
    "labels.nearest": st.lists(values, min_size=1, max_size=4).map(lambda some: " ".join(map(str, some))),
    "labels.objects": st.just(""),
    "labels.shift": st.tuples(st.integers(-9, 9), st.integers(-9, 9)).map(lambda by: f"{by[0]} {by[1]}"),
    "labels.flip": st.sampled_from("YX"),
    "labels.transpose": st.just(""),
    "images.invert": st.just(""),
    "images.depth": st.sampled_from(["uint8", "uint16", "float32"]),
    "slices.drop": st.sampled_from(["0", "1,2", "0-1", "0,2"]),
    "pair.crop": st.sampled_from(["3 2", "9 9", "2 4 0 0", "5 5 0 0"]),
}
DTYPES = ["uint8", "int8", "uint16", "int16", "int32", "float32", "bool"]

patiently = settings(deadline=None, max_examples=60)


@dataclass(frozen=True)
class Memory:
    """An image in memory, as an ImageSource."""

    pixels: np.ndarray
    axes: str
    path: Path = Path("memory.tif")
    pixel_size: PixelSize = field(default_factory=lambda: PixelSize(y=1, x=2))
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return self.pixels.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the pixels."""
        return self.pixels.dtype

    def read(self, region: Region) -> np.ndarray:
        """Return part of the pixels."""
        return self.pixels[tuple(slice(*bound) for bound in full_region(region, self.shape))].copy()


@st.composite
def steps(draw: st.DrawFn, names: tuple[str, ...] = tuple(LINES)) -> Step:
    verb = draw(st.sampled_from(names))
    return parse_recipe([f"{verb} {draw(LINES[verb])}"])[0]


@st.composite
def stacks(draw: st.DrawFn) -> Memory:
    """Draw an image with at least four slices."""
    sizes = {"T": 2, "Z": 4, "C": 2} | {axis: draw(st.integers(1, 9)) for axis in "YX"}
    axes = draw(st.sampled_from(["ZYX", "TZYX", "ZCYX", "CZYX", "ZYXC", "TCZYX", "ZXY"]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    limits = (0, 2) if dtype.kind == "b" else (0 if dtype.kind == "u" else -5, 120)
    return Memory(rng.integers(*limits, [sizes[axis] for axis in axes]).astype(dtype), axes)


def repaired(source: ImageSource, *some: Step) -> ImageSource:
    return repair_images(
        repair_labels(source, [step for step in some if step.verb not in ("slices.drop", "pair.crop")]), some
    )


def whole(source: ImageSource) -> np.ndarray:
    return source.read((slice(None),) * len(source.axes))


@patiently
@given(steps(), st.sampled_from(["", "a.tif", "Pos 1/[b].tif"]))
def test_a_step_is_read_from_its_text(step: Step, item: str) -> None:
    named = Step(step.verb, step.arguments, item)
    assert parse_recipe([named.text]) == (named,)
    assert named.describe().endswith((".", ")."))


@patiently
@given(stacks(), steps())
def test_a_repair_undone_leaves_no_trace(source: Memory, step: Step) -> None:
    inverse = step.inverse()
    assume(inverse is not None)
    assert inverse is not None
    if step.verb == "labels.values":
        pairs = [[int(part) for part in argument.split("=")] for argument in step.arguments]
        stray = np.isin(whole(source), [new for _, new in pairs])
        known = np.where(stray, pairs[0][0], source.pixels)
        dtype = source.dtype if source.dtype.kind == "f" else np.int32
        source = Memory(known.astype(dtype), source.axes)
    back = repaired(source, step, inverse)
    assert back.axes == source.axes
    assert back.pixel_size == source.pixel_size
    assert np.array_equal(whole(back), source.pixels)


@patiently
@given(stacks(), st.lists(steps(), min_size=1, max_size=3), st.data())
def test_a_part_of_the_repaired_is_the_repaired_part(
    source: Memory, some: list[Step], data: st.DataObject
) -> None:
    assume(sum(step.verb == "slices.drop" for step in some) < 2)
    image = repaired(source, *some)
    pixels = whole(image)
    assert pixels.shape == image.shape
    assert pixels.dtype == image.dtype
    bounds = [sorted(data.draw(st.tuples(*[st.integers(0, size)] * 2))) for size in image.shape]
    region = tuple(slice(*bound) for bound in bounds)
    part = image.read(region)
    assert part.dtype == image.dtype
    assert np.array_equal(part, pixels[region])
    assert image.notes == tuple(step.describe() for step in _in_order(some))


def _in_order(some: list[Step]) -> list[Step]:
    labels = [step for step in some if step.verb.startswith("labels.")]
    return labels + [step for step in some if step not in labels]


@patiently
@given(st.integers(-9, 9), st.integers(-9, 9))
def test_a_shift_moves_down_and_right_and_fills_up(rows: int, columns: int) -> None:
    pixels = np.random.default_rng(0).integers(1, 9, (6, 7)).astype(np.uint8)
    moved = whole(
        repair_labels(Memory(pixels, "YX"), [Step("labels.shift", (f"{rows}", f"{columns}"))], "", 255)
    )
    for row, column in np.ndindex(6, 7):
        inside = 0 <= row - rows < 6 and 0 <= column - columns < 7
        assert moved[row, column] == (pixels[row - rows, column - columns] if inside else 255)


def test_a_fill_that_the_type_cannot_hold_widens_it() -> None:
    source = Memory(np.ones((3, 3), np.uint8), "YX")
    assert whole(repair_labels(source, [Step("labels.shift", ("1", "0"))], "", -1))[0].tolist() == [-1] * 3


def test_values_are_changed_all_at_once_and_others_stay() -> None:
    source = Memory(np.array([[0, 1, 2, 255]], np.uint8), "YX")
    steps = parse_recipe(["labels.values 1=2 2=1 255=300"])
    assert whole(repair_labels(source, steps)).tolist() == [[0, 2, 1, 300]]


@patiently
@given(st.lists(st.integers(0, 255), min_size=1, max_size=5, unique=True))
def test_every_value_becomes_the_nearest(known: list[int]) -> None:
    source = Memory(np.arange(256, dtype=np.uint8)[None], "YX")
    found = whole(repair_labels(source, parse_recipe([f"labels.nearest {' '.join(map(str, known))}"])))[0]
    distance = np.abs(np.arange(256)[:, None] - np.array(known)).min(1)
    assert set(found.tolist()) <= set(known)
    assert np.array_equal(np.abs(found.astype(int) - np.arange(256)), distance)


def test_fractions_are_rounded_and_nan_is_0() -> None:
    source = Memory(np.array([[0.9999, 2.2, np.nan, np.inf, -1.0]], np.float32), "YX")
    assert whole(repair_labels(source, parse_recipe(["labels.round"]))).tolist() == [[1, 2, 0, 0, -1]]


def test_objects_are_numbered_in_every_slice_and_stay_apart_by_value() -> None:
    plane = np.array([[1, 1, 0, 0], [0, 2, 0, 1], [0, 0, 0, 1]], np.uint8)
    source = Memory(np.stack([plane, np.roll(plane, 1, 1)]), "ZYX")
    objects = repair_labels(source, parse_recipe(["labels.objects"]))
    assert whole(objects)[0].tolist() == [[1, 1, 0, 0], [0, 2, 0, 3], [0, 0, 0, 3]]
    assert objects.read((slice(0, 1), slice(1, 3), slice(3, 4))).ravel().tolist() == [3, 3]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "bool"])
@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
def test_one_depth_keeps_order_and_ends(dtype: str, depth: str) -> None:
    kind = np.dtype(dtype)
    low, high = (np.iinfo(kind).min, np.iinfo(kind).max) if kind.kind in "iu" else (0, 1)
    source = Memory(np.linspace(low, high, 50)[None].astype(kind), "YX")
    image = repair_images(source, parse_recipe([f"images.depth {depth}"]))
    pixels = whole(image)[0]
    assert pixels.dtype == image.dtype == depth
    top = np.iinfo(depth).max if depth.startswith("u") else 1
    if dtype == depth:
        assert np.array_equal(pixels, source.pixels[0])
    else:
        assert (pixels[0], pixels[-1]) == (0, top)
    assert (np.diff(pixels.astype(float)) >= 0).all()


def test_slices_are_counted_among_those_that_are_left() -> None:
    source = Memory(np.arange(6)[:, None, None] * np.ones((6, 2, 2), int), "TYX")
    steps = parse_recipe(["slices.drop 0, 2-3", "[b] slices.drop 0"])
    assert whole(repair_images(source, steps, "a"))[:, 0, 0].tolist() == [1, 4, 5]
    assert whole(repair_labels(source, steps, "b"))[:, 0, 0].tolist() == [4, 5]
    assert whole(repair_mask(source, steps, "b"))[:, 0, 0].tolist() == [4, 5]
    with pytest.raises(DataError, match="names slice 9"):
        repair_images(source, parse_recipe(["slices.drop 9"]))
    with pytest.raises(DataError, match="leaves no slice"):
        repair_images(source, parse_recipe(["slices.drop 0-5"]))


def test_a_mask_moves_with_the_labels_it_came_with_only() -> None:
    source = Memory(np.eye(4, dtype=np.uint8), "YX")
    steps = parse_recipe(["labels.shift 1 0", "labels.values 1=7", "images.invert"])
    assert np.array_equal(whole(repair_mask(source, steps)), np.eye(4))
    assert np.array_equal(whole(repair_mask(source, steps, with_labels=True)), np.eye(4, k=-1))


def test_repairs_of_labels_leave_images_alone_and_the_reverse() -> None:
    source = Memory(np.eye(4, dtype=np.uint8), "YX")
    assert repair_images(source, parse_recipe(["labels.flip Y"])) is source
    assert repair_labels(source, parse_recipe(["images.invert"])) is source
    assert repair_labels(source, parse_recipe(["[a] labels.flip Y"]), "b") is source


def test_names_follow_their_values(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Named(Memory):
        names: dict[int, str] = field(default_factory=lambda: {1: "cell", 2: "debris"})

    labels = repair_labels(
        Named(np.eye(3, dtype=np.uint8), "YX"), parse_recipe(["labels.values 1=4", "labels.flip Y"])
    )
    assert getattr(labels, "names", None) == {4: "cell", 2: "debris"}


def test_all_bad_lines_are_told_at_once() -> None:
    lines = [
        "labels.flip Y", "labels.flip Z", "labels.mirror", "labels.values 1=2 1=3", "labels.values", "",
        "nonsense",
        "labels.colours red=1", "slices.drop 9-3", "images.depth float16", "labels.round 3",
    ]  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        parse_recipe(lines)
    told = [number for number in range(1, 12) if f"line {number}," in str(caught.value)]
    assert told == [2, 3, 4, 5, 7, 8, 9, 10, 11]


def test_swapping_is_said_and_its_own_inverse() -> None:
    (step,) = parse_recipe(["pair.swap"])
    assert step.swaps
    assert step.inverse() == step
    assert swapped([step])
    assert swapped([Step("pair.swap", (), "a")], "a")
    assert not swapped([step, step])
    assert not swapped([Step("pair.swap", (), "a")], "b")


def test_a_crop_is_the_same_part_of_image_labels_and_mask() -> None:
    source = Memory(np.arange(2 * 7 * 9).reshape(2, 7, 9), "ZYX")
    for line, part in (
        ("pair.crop 3 4", (slice(2, 5), slice(2, 6))),
        ("pair.crop 30 4", (slice(0, 7), slice(2, 6))),
        ("pair.crop 3 4 5 0", (slice(5, 7), slice(0, 4))),
    ):
        steps = parse_recipe([line])
        for repaired_one in (
            repair_images(source, steps), repair_labels(source, steps), repair_mask(source, steps)
        ):  # fmt: skip
            assert np.array_equal(whole(repaired_one), source.pixels[:, *part]), line
    with pytest.raises(DataError, match="begins at row 7"):
        repair_images(source, parse_recipe(["pair.crop 3 4 7 0"]))
    with pytest.raises(ConfigError, match="ROWS COLUMNS"):
        parse_recipe(["pair.crop 3"])
