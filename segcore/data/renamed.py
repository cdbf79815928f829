"""Renamed: an ImageSource whose axes are called by other letters; pixels and order stay."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segcore.axes import parse_axes
from segcore.card import PixelSize
from segcore.data.source import ImageSource, Region
from segcore.data.thinning import Thinnable


@dataclass(frozen=True)
class Renamed:
    """Another source under other axes; satisfies `ImageSource`.

    Parameters
    ----------
    source : ImageSource
        Where the pixels come from.
    axes : str
        One letter of TCZYX per axis.
    note : str
        Why the letters were changed.
    """

    source: ImageSource
    axes: str
    note: str

    def __post_init__(self) -> None:
        parse_axes(self.axes, self.source.shape)

    @property
    def path(self) -> Path:
        """The file."""
        return self.source.path

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes in the order of `axes`."""
        return self.source.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the pixels."""
        return self.source.dtype

    @property
    def pixel_size(self) -> PixelSize:
        """Voxel size in µm."""
        return self.source.pixel_size

    @property
    def notes(self) -> tuple[str, ...]:
        """What had to be assumed, the new letters included."""
        return (*self.source.notes, self.note)

    def read(self, region: Region) -> np.ndarray:
        """Return the pixels of `region`; see `ImageSource.read`."""
        return self.source.read(region)

    def thinned(self, region: Region, step: int) -> np.ndarray | None:
        """Return every `step`-th pixel, if the other source has a fast way; see `thinning.Thinnable`."""
        return self.source.thinned(region, step) if isinstance(self.source, Thinnable) else None
