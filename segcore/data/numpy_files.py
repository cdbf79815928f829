"""NumPy files (.npy, .npz) as images: mapped, never unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from segcore.data.arrays import ArraySource, Facts, LazyArray, as_data_error
from segcore.data.integrity import truncated
from segcore.errors import DataError

MOST_PACKED = 1000
"""A member that unpacks to more than so many times its size is taken for a trap."""
HARMLESS = 2**28


def open_npy(path: Path, axes: str | None = None) -> ArraySource:
    """Open a `.npy` file; its pixels stay on disk until they are read.

    Raises
    ------
    DataError
        The file is damaged, cut off, or holds no image.
    """
    _check_header(path)

    @contextmanager
    def array() -> Iterator[LazyArray]:
        # A mapping closes its file when the last reference goes.
        yield np.load(path, mmap_mode="r", allow_pickle=False)

    return ArraySource(path, array, Facts(), axes)


def _check_header(path: Path) -> None:
    """Refuse a header longer than its file: NumPy would make room for it, up to 4 GB, before it looks."""
    with path.open("rb") as stream:
        head = stream.read(12)
    length = int.from_bytes(head[8:12], "little") if head[6:7] > b"\x01" else 0
    size = path.stat().st_size
    if head.startswith(np.lib.format.MAGIC_PREFIX) and length > size:
        raise truncated(path, f"its header needs {length} bytes, but it has {size}")


@dataclass(frozen=True)
class _Packed:
    """An array in an archive: its header is known, its pixels are unpacked as a whole."""

    path: Path
    member: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        status = self.path.stat()
        return _unpacked(self.path, self.member, status.st_mtime_ns, status.st_size)[region]


def open_npz(path: Path, name: str = "", axes: str | None = None) -> ArraySource:
    """Open one array of a `.npz` archive.

    Parameters
    ----------
    path : Path
        The archive.
    name : str
        Which array; needed if there are several.
    axes : str, optional
        See `ArraySource`.

    Raises
    ------
    DataError
        The archive is damaged, the array is not in it, or it unpacks to an absurd size.
    """
    info = _member(path, name)
    with as_data_error(path, "opened"):
        packed = _header(path, info)

    @contextmanager
    def array() -> Iterator[LazyArray]:
        yield packed

    return ArraySource(path, array, Facts(), axes)


# One archive stays unpacked: a stack is read plane by plane, and would be unpacked again for each.
@lru_cache(maxsize=1)
def _unpacked(path: Path, member: str, modified: int, size: int) -> np.ndarray:
    with np.load(path, allow_pickle=False) as archive:
        return np.asarray(archive[member])


def _member(path: Path, name: str) -> zipfile.ZipInfo:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    # Directories of archives made by hand fail in ways of their own: offsets, encodings, sizes.
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged or cut off: {error}.", "Copy or save the file again.") from error
    if (name and name not in infos) or (not name and len(infos) != 1):
        known = ", ".join(sorted(infos)) or "none"
        wanted = f"has no array {name!r}" if name else f"holds {len(infos)} arrays"
        raise DataError(
            f"{path} {wanted}.", f"Name one of them, as in {path.name}::NAME; there are: {known}."
        )
    info = infos[name or next(iter(infos))]
    if info.file_size > HARMLESS and info.file_size > MOST_PACKED * max(info.compress_size, 1):
        raise DataError(
            f"{path}: {info.filename} would unpack from {info.compress_size} to {info.file_size} bytes.",
            "Save the array as .npy.",
        )
    return info


def _header(path: Path, info: zipfile.ZipInfo) -> _Packed:
    with zipfile.ZipFile(path) as archive, archive.open(info) as stream:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read:
            raise ValueError(f"{info.filename} has version {version} of the NumPy format")
        shape, _, dtype = read[version](stream)
        # The pixels are allocated by what the header says, before the first of them is unpacked.
        missing = int(np.prod([*shape, dtype.itemsize], dtype=object)) - (info.file_size - stream.tell())
    if missing > 0 and not dtype.hasobject:
        raise truncated(path, f"{info.filename} lacks {missing} bytes of its pixels")
    return _Packed(path, info.filename.removesuffix(".npy"), shape, dtype)
