"""Results as plain TIFF files, and room on the disk for them."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import tifffile

from segcore.card import PixelSize
from segcore.errors import JobError
from segcore.inference import tiff_sink
from segcore.inference.sinks import SinkSpec, check_space, create_sink, finish_sink, result_bytes

SIZE = PixelSize(z=0.5, y=0.2, x=0.1)


def _write(path: Path, axes: str, planes: np.ndarray, shape: tuple[int, ...], classes: int = 0) -> None:
    spec = SinkSpec(axes, shape, planes.dtype, SIZE, classes)
    work = path.with_name("work")
    sink = create_sink(work, spec)
    for index in reversed(range(len(planes))):
        sink.write(range(index, index + 1), slice(0, 5), slice(0, 7), planes[index : index + 1])
    sink.close()
    finish_sink(work, spec, path)


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
def test_the_file_is_what_imagej_knows_best_or_else_ome(
    tmp_path: Path, axes: str, shape: tuple[int, ...], dtype: str, imagej: bool
) -> None:
    image = _image(shape, dtype)
    _write(tmp_path / "a.tif", axes, image.reshape(-1, 5, 7), shape)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert (tif.is_imagej, tif.is_ome) == (imagej, not imagej)
        assert tif.series[0].axes == axes
        np.testing.assert_array_equal(tif.asarray(), image)


def test_probabilities_have_their_channels_where_imagej_has_them(tmp_path: Path) -> None:
    image = _image((2, 3, 5, 7), "float32")
    _write(tmp_path / "p.tif", "ZYX", image, (2, 5, 7), classes=3)
    with tifffile.TiffFile(tmp_path / "p.tif") as tif:
        assert tif.is_imagej
        assert (tif.imagej_metadata["channels"], tif.imagej_metadata["slices"]) == (3, 2)
        np.testing.assert_array_equal(tif.asarray(), image)


def test_a_large_image_becomes_an_ome_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_sink, "CLASSIC_LIMIT", 100)
    image = _image((3, 5, 7), "uint8")
    _write(tmp_path / "a.tif", "ZYX", image, image.shape)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_bigtiff
        assert tif.is_ome
        np.testing.assert_array_equal(tif.asarray(), image)


def test_room_is_taken_for_every_pixel_before_the_first_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[tuple[int, int]] = []
    monkeypatch.setattr(
        tiff_sink, "_allocate", lambda _, offset, count: taken.append((offset, offset + count))
    )
    spec = SinkSpec("ZYX", (3, 5, 7), np.dtype("uint16"), SIZE)
    create_sink(tmp_path / "work", spec).close()
    with tifffile.TiffFile(tmp_path / "work") as tif:
        page = tif.pages.first
        assert taken == [(page.dataoffsets[0], page.dataoffsets[0] + spec.bytes)]
    assert (tmp_path / "work").stat().st_size <= result_bytes(spec)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_disk_that_cannot_promise_room_gets_the_file_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tiff_sink, "_allocate", refuse)
    image = _image((3, 5, 7), "uint8")
    _write(tmp_path / "a.tif", "ZYX", image, image.shape)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), image)


def test_a_disk_without_that_room_is_told_at_the_start_and_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tiff_sink, "_allocate", full)
    with pytest.raises(JobError, match="No space left") as caught:
        create_sink(tmp_path / "work", SinkSpec("ZYX", (3, 5, 7), np.dtype("uint8"), SIZE))
    assert "disk space" in caught.value.remedy
    assert list(tmp_path.iterdir()) == []


def test_a_disk_too_small_is_told_before_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**10, 0, 10**9))
    check_space(tmp_path, 10**9)
    with pytest.raises(JobError, match=r"needs 2\.0 GB, but only 1\.0 GB are free"):
        check_space(tmp_path, 2 * 10**9)
