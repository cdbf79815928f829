"""Volume: slices of one image that lie together, with what is annotated in them; what training cuts patches from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from segcore.card import Normalization


class Pixels(Protocol):
    """An array in memory, or one that is read from disk where it is asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers."""

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        """Return a part, one slice (step 1) per axis."""


@dataclass(frozen=True)
class Volume:
    """Slices of one image with their annotation.

    In 2d every annotated slice is a volume of its own, unless it is read from disk. In 2.5d and 3d the slices
    around the annotated ones belong to it too: their labels are IGNORE throughout.

    Parameters
    ----------
    image_ZCYX : Pixels
        Grey values as in the file.
    label_ZYX : Pixels
        Class indices, int16; IGNORE where nobody annotated, and in slices that are only looked at.
    counts_ZK : ndarray
        Pixels of every class in every slice, int64; 0 throughout in slices that are only looked at.
    item, first, row : int
        Where it lies: number of the image in its collection, and the slice and row in the image at which it
        begins.
    name : str
        Name of the image.
    anchors : mapping
        From `(slice, class index)` to some annotated pixels `(n, 2)`, row and column, int32: evenly spread
        samples where there are many.
    normalization : Normalization, optional
        The image's own, where statistics are taken from every image.
    """

    image_ZCYX: Pixels
    label_ZYX: Pixels
    counts_ZK: np.ndarray
    item: int = 0
    first: int = 0
    row: int = 0
    name: str = ""
    anchors: Mapping[tuple[int, int], np.ndarray] = field(default_factory=dict)
    normalization: Normalization | None = None

    @property
    def annotated(self) -> tuple[int, ...]:
        """The slices in which at least one pixel is annotated."""
        return tuple(int(index) for index in np.flatnonzero(self.counts_ZK.sum(1)))
