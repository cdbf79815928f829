"""TIFF files with room for all pixels at known offsets, so that any process may write any block of them."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from segcore.card import PixelSize
from segcore.inference.sink_spec import SinkSpec, check_block, damaged, told_of_disk

CLASSIC_LIMIT = 2**32 - 2**26
"""Bytes of pixels above which a file must be a BigTIFF: 4 GiB less room for the tags."""
_IMAGEJ_ORDER = "TZCYX"
_IMAGEJ_TYPES = ("uint8", "uint16", "float32")


class OpenTiff:
    """An open TIFF whose tags are written; writes at offsets, from any thread.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with told_of_disk(path):
            # Write-only: a file that may be read, too, is cached by pages on network disks, and two hosts
            # that write to the same page would undo each other's pixels.
            self._stream = os.fdopen(os.open(path, os.O_WRONLY | getattr(os, "O_BINARY", 0)), "wb", 0)

    def put(self, offset: int, pixels: np.ndarray) -> None:
        """Write the pixels of a C-contiguous array from a byte on."""
        rest = pixels.data.cast("B") if pixels.size else memoryview(b"")
        while rest:  # the kernel takes 2 GB at once at most
            written = os.pwrite(self._stream.fileno(), rest, offset)
            rest, offset = rest[written:], offset + written

    def flush(self) -> None:
        """Return when all pixels are on the disk."""
        with told_of_disk(self.path):
            os.fsync(self._stream.fileno())

    def close(self) -> None:
        """Flush and close the file."""
        if not self._stream.closed:
            self.flush()
            self._stream.close()


class PlainSink(OpenTiff):
    """All pixels in one piece, plane after plane: what ImageJ and every other reader knows; a `Sink`.

    Parameters
    ----------
    path : Path
        A file made by `create_plain`.
    spec : SinkSpec
        What it holds.

    Raises
    ------
    JobError
        The file is missing or too short.
    """

    def __init__(self, path: Path, spec: SinkSpec) -> None:
        self._spec = spec
        self._offset = first_pixel(path, spec.bytes)
        super().__init__(path)

    def write(self, planes: range, rows: slice, columns: slice, values: np.ndarray) -> None:
        """Put a block at its place; see `Sink.write`."""
        spec = self._spec
        check_block(spec, planes, rows, columns, values)
        height, width = spec.shape[-2:]
        pages = values.reshape(-1, *values.shape[-2:])
        first = planes.start * max(spec.classes, 1)
        with told_of_disk(self.path):
            if pages.shape[-2:] == (height, width):
                self.put(self._at(first, 0, 0), np.ascontiguousarray(pages))
                return
            for page, pixels in enumerate(pages, first):
                if pixels.shape[1] == width:
                    self.put(self._at(page, rows.start, 0), np.ascontiguousarray(pixels))
                    continue
                for row, line in enumerate(np.ascontiguousarray(pixels), rows.start):
                    self.put(self._at(page, row, columns.start), line)

    def _at(self, page: int, row: int, column: int) -> int:
        height, width = self._spec.shape[-2:]
        return self._offset + ((page * height + row) * width + column) * self._spec.stored_dtype.itemsize


def create_plain(path: Path, spec: SinkSpec) -> None:
    """Write a TIFF's tags and take room for its pixels.

    ImageJ hyperstack where ImageJ knows the type and order of axes, else OME-TIFF; OME-BigTIFF above 4 GiB.

    Raises
    ------
    OSError
        The disk is too full, or the like.
    """
    offset = _write_tags(path, spec.stored_axes, spec.stored_shape, spec.stored_dtype, spec.pixel_size)
    take_room(path, offset, spec.bytes)


def plain_bytes(spec: SinkSpec) -> int:
    """Return the bytes of the file that `create_plain` makes, or a little more."""
    return spec.bytes + 2**16 + 512 * spec.pages


def take_room(path: Path, offset: int, count: int) -> None:
    """Take the disk space now: a disk that is too full shows before hours of computing, not after.

    Where the disk cannot do that (macOS, older NFS), the file only gets its length.

    Raises
    ------
    OSError
        The disk is too full.
    """
    with path.open("r+b") as stream:
        try:
            _allocate(stream.fileno(), offset, count)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                raise
        if stream.seek(0, os.SEEK_END) < offset + count:
            stream.truncate(offset + count)
        os.fsync(stream.fileno())


def _allocate(descriptor: int, offset: int, count: int) -> None:
    """Call Linux's fallocate: posix_fallocate would write every block where it is unknown."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    while call(descriptor, 0, ctypes.c_int64(offset), ctypes.c_int64(count)):
        if (number := ctypes.get_errno()) != errno.EINTR:
            raise OSError(number, os.strerror(number))


def first_pixel(path: Path, count: int) -> int:
    """Return the byte at which the pixels of a TIFF begin.

    Raises
    ------
    JobError
        The file is missing, or ends before so many bytes of pixels.
    """
    try:
        with tifffile.TiffFile(path) as tif:
            offset = int(tif.pages.first.dataoffsets[0])
            whole = tif.filehandle.size >= offset + count
    except (FileNotFoundError, tifffile.TiffFileError, struct.error, IndexError) as error:
        raise damaged(path) from error
    if not whole:
        raise damaged(path)
    return offset


def _write_tags(
    path: Path, axes: str, shape: tuple[int, ...], dtype: np.dtype[Any], pixel_size: PixelSize
) -> int:
    """Write a TIFF without its pixels and return the byte at which they belong."""
    big = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize > CLASSIC_LIMIT
    imagej = not big and dtype.name in _IMAGEJ_TYPES and list(axes) == sorted(axes, key=_IMAGEJ_ORDER.index)
    metadata = _imagej_metadata(axes, pixel_size) if imagej else ome_metadata(axes, pixel_size)
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


def ome_metadata(axes: str, size: PixelSize) -> dict[str, Any]:
    """Return axes and pixel size in the words of OME-XML."""
    metadata: dict[str, Any] = {"axes": axes}
    for axis, value in (("X", size.x), ("Y", size.y), ("Z", size.z)):
        if value is not None:
            metadata |= {f"PhysicalSize{axis}": value, f"PhysicalSize{axis}Unit": "µm"}
    return metadata


def _imagej_metadata(axes: str, size: PixelSize) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": axes}
    if size.z is not None:
        metadata["spacing"] = size.z
    if size != PixelSize():
        metadata["unit"] = "um"  # ImageJ reads ASCII only
    return metadata


def _pixels_per_micrometre(size: PixelSize) -> tuple[float, float] | None:
    return (1 / size.x, 1 / size.y) if size.x and size.y else None
