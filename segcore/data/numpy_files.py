"""NumPy files (.npy, .npz) as images: mapped, never unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from segcore.data.arrays import ArraySource, Facts, LazyArray
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

    @contextmanager
    def array() -> Iterator[LazyArray]:
        # A mapping closes its file when the last reference goes.
        yield np.load(path, mmap_mode="r", allow_pickle=False)

    return ArraySource(path, array, Facts(), axes)


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
    member = _member(path, name)

    @contextmanager
    def array() -> Iterator[LazyArray]:
        with np.load(path, allow_pickle=False) as archive:
            yield archive[member]

    return ArraySource(path, array, Facts(), axes)


def _member(path: Path, name: str) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is damaged or cut off: {error}.", "Copy or save the file again.") from error
    if (name and name not in infos) or (not name and len(infos) != 1):
        known = ", ".join(sorted(infos)) or "none"
        wanted = f"has no array {name!r}" if name else f"holds {len(infos)} arrays"
        raise DataError(
            f"{path} {wanted}.", f"Name one of them, as in {path.name}::NAME; there are: {known}."
        )
    chosen = name or next(iter(infos))
    info = infos[chosen]
    if info.file_size > HARMLESS and info.file_size > MOST_PACKED * max(info.compress_size, 1):
        raise DataError(
            f"{path}: {chosen} would unpack from {info.compress_size} to {info.file_size} bytes.",
            "Save the array as .npy.",
        )
    return chosen
