"""ImageSource: what every image format is to the rest, and where to read from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from segcore.card import PixelSize

Region = tuple[slice, ...]


class ImageSource(Protocol):
    """An image on disk that is read piece by piece.

    Reading is lazy: what is not asked for is not decoded, and no file stays open between two reads.
    """

    @property
    def path(self) -> Path:
        """The file or folder. For a URL, whose slashes a path does not keep, only its name counts."""

    @property
    def axes(self) -> str:
        """One letter of TCZYX per axis, in the order in which they are stored; Y and X are always there."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes in the order of `axes`."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type in native byte order: bool, integer or float."""

    @property
    def pixel_size(self) -> PixelSize:
        """Voxel size in µm, as far as the file says."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What had to be assumed to read the file, in whole sentences."""

    def read(self, region: Region) -> np.ndarray:
        """Return the pixels of `region`, one slice (step 1) per axis, as a fresh writable array.

        Raises
        ------
        DataError
            The pixels cannot be read or decoded.
        """


def full_region(region: Region, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Return `(start, stop)` per axis for slices that may have open ends or count from the end.

    Raises
    ------
    IndexError
        The number of slices is not the number of axes, or a slice has a step.
    """
    if len(region) != len(shape):
        raise IndexError(f"a region of {len(region)} slices does not fit {len(shape)} axes")
    bounds = []
    for part, size in zip(region, shape, strict=True):
        start, stop, step = part.indices(size)
        if step != 1:
            raise IndexError(f"a region has no steps, but {part} has")
        bounds.append((start, max(start, stop)))
    return tuple(bounds)
