"""One suite for every ImageSource and every flavour of its format: what is read is what was written."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from segcore.data import tiff
from segcore.data.open import open_source
from segcore.data.planes import Planes


@dataclass(frozen=True)
class Flavour:
    """A way to store an image: how it is written and what must be read."""

    name: str
    axes: str
    shape: tuple[int, ...]
    dtype: str = "uint8"
    options: dict[str, Any] = field(default_factory=dict)

    def pixels(self) -> np.ndarray:
        """Return random pixels over the whole range of the data type."""
        rng = np.random.default_rng(len(self.name))
        if self.dtype == "bool":
            return rng.random(self.shape) < 0.5
        if self.dtype.startswith("float"):
            return rng.normal(0, 100, self.shape).astype(self.dtype)
        limits = np.iinfo(self.dtype)
        return rng.integers(limits.min, limits.max, self.shape, self.dtype, endpoint=True)

    def write(self, path: Path) -> np.ndarray:
        """Write the image and return its pixels."""
        pixels = self.pixels()
        tifffile.imwrite(path, pixels, **{"photometric": "minisblack", **self.options})
        return pixels


def named(axes: str) -> dict[str, Any]:
    return {"metadata": {"axes": axes}}


FLAVOURS = [
    Flavour("imagej-8bit", "ZYX", (4, 30, 41), "uint8", {"imagej": True, **named("ZYX")}),
    Flavour("imagej-16bit-time", "TYX", (4, 30, 41), "uint16", {"imagej": True, **named("TYX")}),
    Flavour("imagej-float-hyperstack", "TZCYX", (2, 3, 2, 9, 7), "float32",
            {"imagej": True, **named("TZCYX")}),
    Flavour("imagej-zlib", "ZCYX", (3, 2, 19, 17), "uint16",
            {"imagej": True, "compression": "zlib", **named("ZCYX")}),
    Flavour("imagej-single", "YX", (31, 17), "uint16", {"imagej": True}),
    Flavour("ome-16bit", "CZYX", (2, 3, 21, 33), "uint16", {"ome": True, **named("CZYX")}),
    Flavour("ome-tiled-zstd", "TCYX", (2, 3, 40, 50), "float32",
            {"ome": True, "tile": (16, 16), "compression": "zstd", **named("TCYX")}),
    Flavour("ome-big", "ZYX", (3, 20, 21), "uint8", {"ome": True, "bigtiff": True, **named("ZYX")}),
    Flavour("plain-zlib-pages", "ZYX", (5, 22, 31), "uint16", {"compression": "zlib", "predictor": True}),
    Flavour("plain-lzw-strips", "YX", (64, 31), "uint8", {"compression": "lzw", "rowsperstrip": 7}),
    Flavour("plain-big-endian", "ZYX", (3, 22, 31), "uint16", {"byteorder": ">"}),
    Flavour("plain-big-endian-zlib", "ZYX", (3, 22, 31), "int32", {"byteorder": ">", "compression": "zlib"}),
    Flavour("plain-unnamed-pages", "ZYX", (3, 22, 31), "uint8", {"metadata": None}),
    Flavour("plain-int8", "ZYX", (2, 12, 13), "int8"),
    Flavour("plain-uint32", "ZYX", (2, 12, 13), "uint32"),
    Flavour("plain-float64", "ZYX", (2, 12, 13), "float64"),
    Flavour("plain-float16", "YX", (12, 13), "float16", {"compression": "zlib"}),
    Flavour("plain-bool", "ZYX", (2, 12, 16), "bool"),
    Flavour("tiled-uncompressed", "YX", (100, 90), "uint16", {"tile": (32, 16)}),
    Flavour("colour", "YXC", (33, 21, 3), "uint8", {"photometric": "rgb"}),
    Flavour("colour-planar", "CYX", (3, 33, 21), "uint8", {"photometric": "rgb", "planarconfig": "separate"}),
]  # fmt: skip

Opened = tuple[Any, np.ndarray]


@pytest.fixture(params=["pages", "segments"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Read pages as a whole, or as huge pages are read: segment by segment."""
    if request.param == "segments":
        monkeypatch.setattr(tiff, "_HUGE_PAGE", 0)
    return str(request.param)


@pytest.fixture(params=FLAVOURS, ids=lambda flavour: flavour.name)
def opened(request: pytest.FixtureRequest, tmp_path: Path, reader: str) -> Opened:
    pixels = request.param.write(tmp_path / "image.tif")
    source = open_source(tmp_path / "image.tif")
    assert source.axes == request.param.axes
    return source, pixels


def whole(source: Any) -> np.ndarray:
    return source.read((slice(None),) * len(source.axes))


def test_reads_what_was_written(opened: Opened) -> None:
    source, pixels = opened
    assert source.shape == pixels.shape
    assert source.dtype == pixels.dtype
    assert source.dtype.isnative
    read = whole(source)
    assert read.dtype == pixels.dtype
    assert np.array_equal(read, pixels)


def test_every_region_is_that_part_of_the_whole(opened: Opened) -> None:
    source, pixels = opened
    rng = np.random.default_rng(0)
    for _ in range(12):
        region = tuple(slice(*sorted(rng.integers(0, size + 1, 2).tolist())) for size in pixels.shape)
        assert np.array_equal(source.read(region), pixels[region])


def test_what_is_read_belongs_to_the_reader(opened: Opened) -> None:
    source, pixels = opened
    first = whole(source)
    first[...] = 0
    assert np.array_equal(whole(source), pixels)


def test_no_file_stays_open(opened: Opened) -> None:
    source, _ = opened
    whole(source)
    links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
    assert str(source.path) not in [os.readlink(link) for link in links if link.is_symlink()]


def test_a_region_that_is_none_is_refused(opened: Opened) -> None:
    source, _ = opened
    with pytest.raises(IndexError):
        source.read((slice(None),))
    with pytest.raises(IndexError):
        source.read((slice(None, None, 2),) * len(source.axes))


def test_planes_hold_all_pixels_in_channel_row_column_order(opened: Opened) -> None:
    source, pixels = opened
    planes = Planes(source)
    order = [source.axes.index(axis) for axis in source.axes if axis in "TZ"]
    order += [source.axes.index(axis) for axis in "CYX" if axis in source.axes]
    expected = pixels.transpose(order).reshape(planes.count, planes.channels, planes.height, planes.width)
    assert np.array_equal(np.stack([planes.read(index) for index in range(planes.count)]), expected)
