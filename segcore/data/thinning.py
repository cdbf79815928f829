"""Thinning: every n-th pixel of a plane, for pictures: from a pyramid, or piece by piece."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol, runtime_checkable

import numpy as np

from segcore.data.planes import Planes
from segcore.data.source import ImageSource, Region

BAND_BYTES = 2**27
"""What is read at once of a plane without a smaller copy."""


@dataclass(frozen=True)
class Copy:
    """An image, or a smaller copy of it: axes, shape and type as of an `ImageSource`, and what reads it."""

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[Region], np.ndarray]


@runtime_checkable
class Thinnable(Protocol):
    """An image that knows a faster way than to read all pixels."""

    def thinned(self, region: Region, step: int) -> np.ndarray | None:
        """Return every `step`-th row and column of `region`; None if there is no faster way now.

        Rows and columns of `region` are whole. Where smaller copies are used, pixels come from where they
        should within half a step.

        Raises
        ------
        DataError
            The pixels cannot be read.
        """


def thinned(planes: Planes, index: int, step: int) -> np.ndarray:
    """Return every `step`-th row and column of a plane, `(C, Y, X)`; memory does not grow with the plane.

    Parameters
    ----------
    planes : Planes
        The image.
    index : int
        The plane.
    step : int
        1 for all pixels.

    Raises
    ------
    DataError
        The plane cannot be read.
    """
    source, region = planes.source, planes.region(index, slice(None), slice(None))
    found = source.thinned(region, step) if step > 1 and isinstance(source, Thinnable) else None
    if found is None:
        found = pick(source, region, source.shape, step)
    return planes.arranged(found)


def pick(
    source: Copy | ImageSource, region: Region, shape: tuple[int, ...], step: int, factor: float = 1.0
) -> np.ndarray:
    """Return every `step`-th row and column of an image from a copy of it that is `factor` times smaller.

    Parameters
    ----------
    source : Copy or ImageSource
        The copy, or the image itself.
    region : tuple of slice
        Of all axes but rows and columns, which are whole.
    shape : tuple of int
        Of the image.
    step : int
        In pixels of the image.
    factor : float
        At most `step`.
    """
    row_axis, column_axis = source.axes.index("Y"), source.axes.index("X")
    rows, columns = (
        np.minimum((np.arange(0, shape[at], step) / factor).astype(np.int64), source.shape[at] - 1)
        for at in (row_axis, column_axis)
    )
    others = [
        len(range(size)[part])
        for at, (part, size) in enumerate(zip(region, source.shape, strict=True))
        if at != row_axis
    ]
    line = int(np.prod(others, dtype=np.int64)) * source.dtype.itemsize
    together = max(1, BAND_BYTES // max(1, line))
    bands = []
    for _, group in groupby(rows, lambda row: int(row) // together):
        wanted = list(group)
        part = list(region)
        part[row_axis] = slice(int(wanted[0]), int(wanted[-1]) + 1)
        band = source.read(tuple(part))
        bands.append(band.take(np.array(wanted) - wanted[0], row_axis).take(columns, column_axis))
    return np.concatenate(bands, axis=row_axis)
