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
from segcore.files import atomic_path
from segcore.inference.sink_spec import Sink, SinkSpec, told_of_disk
from segcore.inference.tiff_sink import PlainSink, create_plain, write_tags

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
    with told_of_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.new")  # so that a work file with half its tags is never met
        try:
            create_plain(fresh, spec)
            os.replace(fresh, path)
        except BaseException:
            fresh.unlink(missing_ok=True)
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
    return PlainSink(path, spec)


def finish_sink(
    path: Path,
    spec: SinkSpec,
    target: Path,
    progress: Callable[[int, int], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
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
    should_stop : callable
        Asked between pieces of the pyramid.

    Raises
    ------
    JobError
        The disk is full or gone; the work file stays.
    Stopped
        Somebody asked for it; another call goes on where this one ended.
    """
    if not path.exists() and target.exists():
        return
    with told_of_disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(path, target)
        sync_folder(target.parent)


def result_bytes(spec: SinkSpec) -> int:
    """Return the disk space that a result takes at most."""
    return spec.bytes + 2**16 + 512 * spec.planes * max(spec.classes, 1)


def sync_folder(folder: Path) -> None:
    """Return when a folder's names are on the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
