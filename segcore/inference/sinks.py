"""Where results go: files that any process fills block by block, and that appear when they are whole."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from segcore.card import PixelSize
from segcore.errors import JobError
from segcore.files import atomic_path, sync_folder
from segcore.inference.pyramid import RECORD, build_pyramid
from segcore.inference.sink_spec import Sink, SinkSpec, told_of_disk
from segcore.inference.tiff_sink import PlainSink, create_plain, plain_bytes, write_tags
from segcore.inference.tiled_tiff import TiledSink, create_tiled, tiled_bytes
from segcore.inference.zarr_layout import create_zarr, zarr_bytes
from segcore.inference.zarr_sink import ZarrSink, remove_partial, replace_folder

__all__ = [
    "Sink",
    "SinkSpec",
    "check_space",
    "create_sink",
    "finish_sink",
    "reopen_sink",
    "result_bytes",
    "tiff_sink",
]

LARGE_PLANE = 4096**2
"""Pixels of a plane above which a TIFF has tiles: rows would be scattered over too much of the file."""


def create_sink(path: Path, spec: SinkSpec) -> Sink:
    """Begin a result: make its work file and take the disk space, where the disk can promise it.

    Parameters
    ----------
    path : Path
        The work file, or folder for OME-Zarr; what lies there is replaced. It survives a killed process.
    spec : SinkSpec
        What it will hold.

    Raises
    ------
    JobError
        The disk is full.
    """
    fresh = path.with_name(f"{path.name}.new")  # so that a work file with half its tags is never met
    with told_of_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(fresh)
        try:
            _CREATE[_kind(spec)](fresh, spec)
            remove(path)
            os.replace(fresh, path)
        except BaseException:
            remove(fresh)
            raise
        sync_folder(path.parent)
    return reopen_sink(path, spec)


def reopen_sink(path: Path, spec: SinkSpec) -> Sink:
    """Go on writing to what `create_sink` made, in this or another process.

    Raises
    ------
    JobError
        It is missing or cut off.
    """
    return _OPEN[_kind(spec)](path, spec)


def finish_sink(
    path: Path,
    spec: SinkSpec,
    target: Path,
    progress: Callable[[int, int], None] | None = None,
    check: Callable[[], object] = lambda: None,
) -> None:
    """Make the work file the result, in one step; nothing happens if that has been done already.

    Parameters
    ----------
    path : Path
        The work file; all sinks that wrote to it are closed.
    spec : SinkSpec
        What it holds.
    target : Path
        The result's place; what lies there is replaced.
    progress : callable, optional
        Told how many of how many pieces of the pyramid are done (OME-Zarr).
    check : callable
        Called between pieces of the pyramid; breaks off by raising, and another call goes on from there.

    Raises
    ------
    JobError
        The disk is full or gone; the work file stays.
    """
    if not path.exists() and target.exists():
        return
    if spec.format == "ome-zarr":
        build_pyramid(path, spec, progress, check)
    with told_of_disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if spec.format == "ome-zarr":
            remove_partial(path)
            (path / RECORD).unlink(missing_ok=True)
            replace_folder(path, target)
        else:
            with path.open("rb+") as stream:
                os.fsync(stream.fileno())
            os.replace(path, target)
        sync_folder(target.parent)


def result_bytes(spec: SinkSpec) -> int:
    """Return the disk space that a result takes at most."""
    return _BYTES[_kind(spec)](spec)


def remove(path: Path) -> None:
    """Remove a work file or folder, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _kind(spec: SinkSpec) -> str:
    if spec.format == "tiff":
        return "tiled" if math.prod(spec.shape[-2:]) > LARGE_PLANE else "plain"
    return spec.format


_CREATE: dict[str, Callable[[Path, SinkSpec], None]] = {
    "plain": create_plain,
    "tiled": create_tiled,
    "ome-zarr": create_zarr,
}
_OPEN: dict[str, Callable[[Path, SinkSpec], Sink]] = {
    "plain": PlainSink,
    "tiled": TiledSink,
    "ome-zarr": ZarrSink,
}
_BYTES: dict[str, Callable[[SinkSpec], int]] = {
    "plain": plain_bytes,
    "tiled": tiled_bytes,
    "ome-zarr": zarr_bytes,
}


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
            offset = write_tags(temporary, axes, shape, dtype, pixel_size)
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


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
