"""Planes: any order of axes becomes planes of channel, row, column."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from segcore.card import PixelSize
from segcore.data.neighbours import neighbours
from segcore.data.planes import Planes
from segcore.data.source import Region

SIZES = {"T": 2, "Z": 3, "C": 4, "Y": 5, "X": 6}
ORDERS = [
    "".join(order)
    for rest in ("", "Z", "T", "C", "TZ", "CZ", "TC", "TCZ")
    for order in permutations(rest + "YX")
]


class InMemory:
    """An ImageSource whose pixels tell where they are."""

    path = Path("memory.tif")
    pixel_size = PixelSize()
    notes = ()
    dtype = np.dtype(np.uint32)

    def __init__(self, axes: str) -> None:
        self.axes = axes
        self.shape = tuple(SIZES[axis] for axis in axes)
        grids = np.meshgrid(*(np.arange(size) for size in self.shape), indexing="ij")
        weight = {"T": 10_000, "Z": 1000, "C": 100, "Y": 10, "X": 1}
        self.pixels = sum(grid * weight[axis] for grid, axis in zip(grids, axes, strict=True)).astype(
            np.uint32
        )

    def read(self, region: Region) -> np.ndarray:
        """Return a copy of the region."""
        return self.pixels[region].copy()


@pytest.mark.parametrize("axes", ORDERS)
def test_every_pixel_is_where_its_plane_channel_row_and_column_say(axes: str) -> None:
    planes = Planes(InMemory(axes))
    seen = 0
    for index in range(planes.count):
        at = planes.position(index)
        plane = planes.read(index)
        assert plane.shape == (planes.channels, planes.height, planes.width)
        assert plane.flags.c_contiguous
        channel, row, column = np.indices(plane.shape)
        expected = 10_000 * at.get("T", 0) + 1000 * at.get("Z", 0) + 100 * channel + 10 * row + column
        assert np.array_equal(plane, expected)
        seen += plane.size
    assert seen == planes.source.pixels.size


@pytest.mark.parametrize("axes", ORDERS)
def test_a_window_is_that_part_of_the_plane(axes: str) -> None:
    planes = Planes(InMemory(axes))
    window = planes.window(planes.count - 1, slice(1, 4), slice(2, 3))
    assert np.array_equal(window, planes.read(planes.count - 1)[:, 1:4, 2:3])
    beyond = planes.window(0, slice(3, 99), slice(0, 99))
    assert np.array_equal(beyond, planes.read(0)[:, 3:])


@pytest.mark.parametrize("axes", ["TZYX", "ZTYX", "CZTYX", "YXZT"])
def test_slices_of_a_frame_follow_each_other_however_they_are_stored(axes: str) -> None:
    planes = Planes(InMemory(axes))
    assert [planes.name(index) for index in (0, 1, 5)] == ["t 0, z 0", "t 0, z 1", "t 1, z 2"]
    assert planes.depth == SIZES["Z"]
    for index in range(planes.count):
        at = planes.position(index)
        frame, plane = divmod(index, planes.depth)
        near = [frame * planes.depth + one for one in neighbours(plane, planes.depth, 3)]
        assert {planes.position(one)["T"] for one in near} == {at["T"]}
        assert {abs(planes.position(one)["Z"] - at["Z"]) for one in near} <= {0, 1}


@pytest.mark.parametrize(
    ("axes", "sizes", "depth"),
    [("ZTYX", {"Z": 1}, 2), ("TZYX", {"Z": 1}, 2), ("TZYX", {"T": 1}, 3), ("TYX", {}, 2), ("CYX", {}, 1)],
)
def test_frames_of_single_slices_follow_each_other(axes: str, sizes: dict[str, int], depth: int) -> None:
    source = InMemory(axes)
    source.shape = tuple((SIZES | sizes)[axis] for axis in axes)
    assert Planes(source).depth == depth


def test_a_plane_without_t_and_z_has_a_name() -> None:
    assert Planes(InMemory("CZYX")).name(2) == "slice 2"
    assert Planes(InMemory("YX")).name(0) == "slice 0"


def test_labels_of_an_image_have_its_axes_without_channels() -> None:
    planes = Planes(InMemory("TCZYX"))
    assert (planes.label_axes, planes.label_shape) == ("TZYX", (2, 3, 5, 6))
    assert Planes(InMemory("YXC")).label_axes == "YX"
    assert Planes(InMemory("ZCTYX")).label_axes == "TZYX"


def test_five_channels_are_one_plane() -> None:
    planes = Planes(InMemory("CYX"))
    assert (planes.count, planes.channels) == (1, 4)
    assert planes.shape_text == "4 × 5 × 6, CYX"


@pytest.mark.parametrize("index", [-1, 3])
def test_a_plane_that_does_not_exist_is_refused(index: int) -> None:
    with pytest.raises(IndexError, match="of 3"):
        Planes(InMemory("ZYX")).read(index)
