"""Where predicted planes go: a TIFF stack that is filled plane by plane and appears only when it is whole."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile

from segcore.card import PixelSize
from segcore.errors import JobError
from segcore.files import atomic_path

CLASSIC_LIMIT = 2**32 - 2**26
"""Bytes of pixels above which a file must be a BigTIFF: 4 GiB less room for the tags."""
_IMAGEJ_ORDER = "TZCYX"
_IMAGEJ_TYPES = ("uint8", "uint16", "float32")


class TiffSink:
    """Takes planes in any order and puts each at its place in the file.

    Parameters
    ----------
    stream : BinaryIO
        The open file, with all its tags written and room for the pixels.
    offset : int
        Where the pixels begin.
    shape : tuple of int
        Shape of one plane.
    dtype : dtype
        Type of the pixels, in the file's byte order.
    """

    def __init__(self, stream: BinaryIO, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._stream = stream
        self._offset = offset
        self.shape = shape
        self.dtype = dtype

    def write(self, index: int, plane: np.ndarray) -> None:
        """Put plane `index` at its place."""
        assert (plane.shape, plane.dtype) == (self.shape, self.dtype), (plane.shape, plane.dtype)
        self._stream.seek(self._offset + index * math.prod(self.shape) * self.dtype.itemsize)
        self._stream.write(np.ascontiguousarray(plane).data)


@contextmanager
def tiff_sink(
    path: Path,
    axes: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    pixel_size: PixelSize,
    plane_axes: int = 2,
) -> Iterator[TiffSink]:
    """Open a sink for an image at `path`; the file is there when the block ends, and not at all if it fails.

    ImageJ hyperstack where ImageJ knows the type and order of axes, else OME-TIFF; OME-BigTIFF above 4 GiB.
    The pixels lie uncompressed in one piece, so memory does not grow with the image.

    Parameters
    ----------
    path : Path
        The file to write.
    axes : str
        Axes of the image, ending in YX.
    shape : tuple of int
        Sizes of the axes.
    dtype : dtype
        Type of the pixels.
    pixel_size : PixelSize
        Written into the file, as far as known.
    plane_axes : int
        How many of the last axes belong to one plane: 2 for YX, 3 for CYX.

    Raises
    ------
    JobError
        The disk is full.
    """
    dtype = np.dtype(dtype)
    try:
        with atomic_path(path) as temporary:
            offset = _write_tags(temporary, axes, shape, dtype, pixel_size)
            with temporary.open("r+b") as stream:
                # Room is taken now: a disk that is too full shows before hours of computing, not after.
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(stream.fileno(), offset, math.prod(shape) * dtype.itemsize)
                yield TiffSink(stream, offset, shape[-plane_axes:], dtype)
    except OSError as error:
        raise JobError(
            f"{path} cannot be written: {error.strerror or error}.",
            "Free some disk space, or choose a workspace on another disk, and start again.",
        ) from error


def check_space(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises
    ------
    JobError
        Fewer than `needed` bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise JobError(
            f"The result needs {_gigabytes(needed)}, but only {_gigabytes(free)} are free in {folder}.",
            "Free some disk space, or leave out the probabilities.",
        )


def _write_tags(
    path: Path, axes: str, shape: tuple[int, ...], dtype: np.dtype[Any], pixel_size: PixelSize
) -> int:
    """Write a TIFF without its pixels and return where they belong."""
    big = math.prod(shape) * dtype.itemsize > CLASSIC_LIMIT
    imagej = not big and dtype.name in _IMAGEJ_TYPES and list(axes) == sorted(axes, key=_IMAGEJ_ORDER.index)
    metadata = _imagej_metadata(axes, pixel_size) if imagej else _ome_metadata(axes, pixel_size)
    with tifffile.TiffWriter(path, bigtiff=big, imagej=imagej, ome=not imagej) as writer:
        written = writer.write(
            None,
            shape=shape,
            dtype=dtype,
            photometric="minisblack",
            metadata=metadata,
            resolution=_pixels_per_micrometre(pixel_size) if imagej else None,
            returnoffset=True,
        )
    assert written is not None
    return int(written[0])


def _imagej_metadata(axes: str, size: PixelSize) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": axes}
    if size.z is not None:
        metadata["spacing"] = size.z
    if size != PixelSize():
        metadata["unit"] = "um"  # ImageJ reads ASCII only
    return metadata


def _pixels_per_micrometre(size: PixelSize) -> tuple[float, float] | None:
    return (1 / size.x, 1 / size.y) if size.x and size.y else None


def _ome_metadata(axes: str, size: PixelSize) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": axes}
    for axis, value in (("X", size.x), ("Y", size.y), ("Z", size.z)):
        if value is not None:
            metadata |= {f"PhysicalSize{axis}": value, f"PhysicalSize{axis}Unit": "µm"}
    return metadata


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
