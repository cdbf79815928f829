"""The TIFF sink: what is written comes back with axes and pixel size; nothing half-written stays."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from segcore.card import PixelSize
from segcore.data.open import open_source
from segcore.errors import JobError
from segcore.inference import tiff_sink as tiff_files
from segcore.inference.sinks import check_space, tiff_sink

SIZE = PixelSize(z=0.5, y=0.2, x=0.1)


def _write(path: Path, axes: str, image: np.ndarray, size: PixelSize = SIZE, plane_axes: int = 2) -> None:
    planes = image.reshape(-1, *image.shape[-plane_axes:])
    with tiff_sink(path, axes, image.shape, image.dtype, size, plane_axes) as sink:
        for index in reversed(range(len(planes))):
            sink.write(index, planes[index])


def _image(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    image = np.arange(np.prod(shape)).reshape(shape)
    return (image - 20 if dtype.startswith("int") else image).astype(dtype)


@pytest.mark.parametrize(
    ("axes", "shape", "dtype", "imagej"),
    [
        ("YX", (5, 7), "uint8", True),
        ("ZYX", (3, 5, 7), "uint8", True),
        ("TZYX", (2, 3, 5, 7), "uint16", True),
        ("ZYX", (3, 5, 7), "int8", False),
        ("ZYX", (3, 5, 7), "uint32", False),
        ("ZTYX", (3, 2, 5, 7), "uint8", False),
    ],
)
def test_what_is_written_comes_back(
    tmp_path: Path, axes: str, shape: tuple[int, ...], dtype: str, imagej: bool
) -> None:
    image = _image(shape, dtype)
    _write(tmp_path / "a.tif", axes, image)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert (tif.is_imagej, tif.is_ome) == (imagej, not imagej)
        assert tif.series[0].axes == axes
        np.testing.assert_array_equal(tif.asarray(), image)
    source = open_source(tmp_path / "a.tif")
    assert source.axes == axes
    sizes = (source.pixel_size.y, source.pixel_size.x, source.pixel_size.z)
    assert sizes[:2] == pytest.approx((0.2, 0.1))
    assert "Z" not in axes or sizes[2] == pytest.approx(0.5)


def test_probabilities_have_their_channels_where_imagej_has_them(tmp_path: Path) -> None:
    image = _image((2, 3, 5, 7), "float32")
    _write(tmp_path / "p.tif", "ZCYX", image, plane_axes=3)
    with tifffile.TiffFile(tmp_path / "p.tif") as tif:
        assert tif.is_imagej
        assert (tif.imagej_metadata["channels"], tif.imagej_metadata["slices"]) == (3, 2)
        np.testing.assert_array_equal(tif.asarray(), image)


def test_an_unknown_pixel_size_stays_unknown(tmp_path: Path) -> None:
    _write(tmp_path / "a.tif", "ZYX", _image((3, 5, 7), "uint8"), PixelSize())
    assert open_source(tmp_path / "a.tif").pixel_size == PixelSize()


def test_a_large_image_becomes_an_ome_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_files, "CLASSIC_LIMIT", 100)
    image = _image((3, 5, 7), "uint8")
    _write(tmp_path / "a.tif", "ZYX", image)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_bigtiff
        assert tif.is_ome
        np.testing.assert_array_equal(tif.asarray(), image)


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), tiff_sink(tmp_path / "a.tif", "YX", (5, 7), np.dtype("u1"), SIZE):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["start", "middle"])
def test_a_full_disk_is_told_and_leaves_nothing_behind(
    tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    where = (os, "posix_fallocate") if moment == "start" else (os, "fsync")
    monkeypatch.setattr(*where, full, raising=False)
    with pytest.raises(JobError, match="No space left") as caught:
        _write(tmp_path / "a.tif", "ZYX", _image((3, 5, 7), "uint8"))
    assert "disk space" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_a_disk_too_small_is_told_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**10, 0, 10**9))
    check_space(tmp_path, 10**9)
    with pytest.raises(JobError, match=r"needs 2\.0 GB, but only 1\.0 GB are free"):
        check_space(tmp_path, 2 * 10**9)
