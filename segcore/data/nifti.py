"""NIfTI volumes as images: columns come first in the file, so the axes are turned round."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from segcore.card import PixelSize
from segcore.data.arrays import ArraySource, Facts, LazyArray, as_data_error

_MICROMETRES = {"meter": 1e6, "mm": 1e3, "micron": 1.0}


class _Turned:
    """A NIfTI array with its axes in the order slowest first."""

    def __init__(self, proxy: Any) -> None:
        self._proxy = proxy
        self.shape: tuple[int, ...] = tuple(reversed(proxy.shape))
        # Numbers that are scaled by the header become floats when they are read.
        plain = proxy.slope == 1 and proxy.inter == 0
        self.dtype: np.dtype[Any] = proxy.dtype if plain else np.dtype(np.float32)

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        return np.asarray(self._proxy[tuple(reversed(region))]).transpose()


def open_nifti(path: Path, axes: str | None = None) -> ArraySource:
    """Open a `.nii` or `.nii.gz` volume as `Z Y X`, or `T Z Y X` for a series.

    Raises
    ------
    DataError
        The file is damaged or holds no volume of numbers.
    """
    import nibabel

    with as_data_error(path, "opened"):
        header: Any = nibabel.nifti1.Nifti1Image.from_filename(path).header
    shape = header.get_data_shape()
    letters = "CTZYX"[-len(shape) :] if len(shape) <= 5 else ""
    unit = header.get_xyzt_units()[0]
    factor = _MICROMETRES.get(unit)
    sizes = [float(size) * factor if factor and size > 0 else None for size in header.get_zooms()[:3]]
    x, y, z = (*sizes, None, None, None)[:3]

    @contextmanager
    def array() -> Iterator[LazyArray]:
        yield _Turned(nibabel.nifti1.Nifti1Image.from_filename(path, mmap=False).dataobj)

    return ArraySource(path, array, Facts(letters, PixelSize(z=z, y=y, x=x)), axes)
