"""NIfTI volumes as images: columns come first in the file, so the axes are turned round."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from segcore.card import PixelSize
from segcore.data.arrays import ArraySource, Facts, LazyArray, as_data_error, hushed
from segcore.data.integrity import truncated

_MICROMETRES = {"meter": 1e6, "mm": 1e3, "micron": 1.0}
_DEFLATE = 1100
"""gzip cannot shrink anything more than 1032-fold."""
_KEPT = 2**29
"""A compressed volume of at most so many bytes stays unpacked while its planes are read."""


class _Turned:
    """A NIfTI array with its axes in the order slowest first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._proxy = _load(path).dataobj
        self.shape: tuple[int, ...] = tuple(reversed(self._proxy.shape))
        # Numbers that are scaled by the header become floats when they are read.
        plain = self._proxy.slope == 1 and self._proxy.inter == 0
        self.dtype: np.dtype[Any] = self._proxy.dtype if plain else np.dtype(np.float32)

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        turned = tuple(reversed(region))
        if self._path.suffix.lower() == ".gz" and math.prod(self.shape) * self.dtype.itemsize <= _KEPT:
            status = self._path.stat()
            return _unpacked(self._path, status.st_mtime_ns, status.st_size)[turned].transpose()
        return np.asarray(self._proxy[turned]).transpose()


def open_nifti(path: Path, axes: str | None = None) -> ArraySource:
    """Open a `.nii` or `.nii.gz` volume as `Z Y X`, or `T Z Y X` for a series.

    Raises
    ------
    DataError
        The file is damaged, cut off, or holds no volume of numbers.
    """
    with as_data_error(path, "opened"):
        image = _load(path)
        _check_extent(path, image.dataobj)
        facts = _facts(image.header)

    @contextmanager
    def array() -> Iterator[LazyArray]:
        yield _Turned(path)

    return ArraySource(path, array, facts, axes)


def _facts(header: Any) -> Facts:
    shape = header.get_data_shape()
    letters = "CTZYX"[-len(shape) :] if len(shape) <= 5 else ""
    factor = _MICROMETRES.get(header.get_xyzt_units()[0])
    sizes = [float(size) * factor if factor and size > 0 else None for size in header.get_zooms()[:3]]
    x, y, z = (*sizes, None, None, None)[:3]
    return Facts(letters, PixelSize(z=z, y=y, x=x))


def _load(path: Path) -> Any:
    import nibabel

    kinds = (nibabel.nifti1.Nifti1Image, nibabel.nifti2.Nifti2Image)
    kind = next((kind for kind in kinds if kind.path_maybe_image(path)[0]), kinds[0])
    with hushed("nibabel.global"):
        return kind.from_filename(path, mmap=False)


# Without this, every plane would be unpacked from the beginning of the file.
@lru_cache(maxsize=1)
def _unpacked(path: Path, modified: int, size: int) -> np.ndarray:
    return np.asanyarray(_load(path).dataobj)


def _check_extent(path: Path, proxy: Any) -> None:
    needed = proxy.offset + math.prod(proxy.shape) * proxy.dtype.itemsize
    size = path.stat().st_size
    if needed > size * (_DEFLATE if path.suffix.lower() == ".gz" else 1):
        raise truncated(path, f"its pixels need {needed} bytes, but it has {size}")
