"""Splits: which slices train, which validate and which are kept for the test; no group on two sides, ever."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from segcore.config import DataConfig
from segcore.data.items import Use


@dataclass(frozen=True)
class Region:
    """Slices of one image, and their rows; both `(start, stop)`."""

    item: int
    planes: tuple[int, int]
    rows: tuple[int, int]


@dataclass(frozen=True)
class Split:
    """Regions that train, validate and test; no two share a pixel."""

    train: tuple[Region, ...]
    validation: tuple[Region, ...]
    test: tuple[Region, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Extent:
    """What the split must know of an image.

    Parameters
    ----------
    name : str
        Path of the image below what was chosen, for groups.
    planes : int
        Slices.
    height : int
        Rows of a slice.
    use : str
        What its set is for.
    classes : tuple of frozenset of int
        Label values of every slice, empty sets where nothing is annotated; () where nobody looked.
    """

    name: str
    planes: int
    height: int
    use: Use = "split"
    classes: tuple[frozenset[int], ...] = ()
    depth: int = 0
    """Planes that lie together: slices of one volume of several in time; 0: all of them."""


def split_images(extents: Sequence[Extent], data: DataConfig) -> Split:
    """Divide the slices of a data set into training, validation and test."""
    raise NotImplementedError
