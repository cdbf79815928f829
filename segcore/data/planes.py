"""Planes: an ImageSource seen as a list of planes `C Y X`, whatever the order of its axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from segcore.axes import sizes_text
from segcore.data.source import ImageSource, Region

STRIP_PIXELS = 2**22
"""Statistics are taken from strips of about so many values, so that memory does not grow with the plane."""


class Strips(Protocol):
    """What can be read in strips; `Planes` is one."""

    @property
    def channels(self) -> int:
        """Channels of a plane."""

    @property
    def height(self) -> int:
        """Rows of a plane."""

    @property
    def width(self) -> int:
        """Columns of a plane."""

    def window(self, index: int, rows: slice, columns: slice) -> np.ndarray:
        """Return part of plane `index` as `(C, Y, X)`."""


def strips_of(height: int, width: int, channels: int) -> list[slice]:
    """Return the rows of the strips in which a plane is read; a small one is one strip."""
    rows = max(1, STRIP_PIXELS // max(1, width * channels))
    return [slice(start, min(start + rows, height)) for start in range(0, height, rows)]


def strips(images: Strips, planes: Iterable[int]) -> Iterator[np.ndarray]:
    """Yield planes in strips of whole rows `(C, Y, X)`, one after the other.

    Raises
    ------
    DataError
        A plane cannot be read.
    """
    parts = strips_of(images.height, images.width, images.channels)
    return (images.window(index, rows, slice(None)) for index in planes for rows in parts)


class Planes:
    """The planes of an image; T and Z are counted together, the slices of one frame after those of another.

    Parameters
    ----------
    source : ImageSource
        Any image. Without a C axis its planes have one channel.
    """

    def __init__(self, source: ImageSource) -> None:
        self.source = source
        sizes = dict(zip(source.axes, source.shape, strict=True))
        self.outer: tuple[tuple[str, int], ...] = tuple((axis, sizes[axis]) for axis in "TZ" if axis in sizes)
        """`(letter, size)` of the axes that are counted as planes: T before Z, however they are stored, so
        that planes that follow each other are neighbours in space."""
        self.count: int = math.prod(size for _, size in self.outer)
        self.depth: int = next((size for _, size in reversed(self.outer) if size > 1), 1)
        """Planes that follow each other along one axis: slices of a volume, or frames of single slices."""
        self.channels: int = sizes.get("C", 1)
        self.height: int = sizes["Y"]
        self.width: int = sizes["X"]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the planes."""
        return self.source.dtype

    @property
    def shape_text(self) -> str:
        """The shape as stored, for example "30 × 512 × 512, ZYX"."""
        return sizes_text(self.source.shape, self.source.axes)

    @property
    def label_axes(self) -> str:
        """Axes of a segmentation of this image: T and Z, as far as it has them, then Y and X."""
        return "".join(axis for axis, _ in self.outer) + "YX"

    @property
    def label_shape(self) -> tuple[int, ...]:
        """Sizes of `label_axes`."""
        return (*(size for _, size in self.outer), self.height, self.width)

    def size(self, index: int) -> tuple[int, int]:
        """Return rows and columns, which are the same for all planes."""
        return self.height, self.width

    def read(self, index: int) -> np.ndarray:
        """Return plane `index` as `(C, Y, X)`."""
        return self.window(index, slice(None), slice(None))

    def window(self, index: int, rows: slice, columns: slice) -> np.ndarray:
        """Return part of plane `index` as `(C, rows, columns)`; bounds beyond the plane are cut, as in lists.

        Raises
        ------
        IndexError
            There is no such plane.
        DataError
            The file cannot be read.
        """
        return self.arranged(self.source.read(self.region(index, rows, columns)))

    def region(self, index: int, rows: slice, columns: slice) -> Region:
        """Return where part of plane `index` lies in the source, one slice per axis."""
        parts = {axis: slice(at, at + 1) for axis, at in self.position(index).items()}
        parts |= {"Y": rows, "X": columns, "C": slice(None)}
        return tuple(parts[axis] for axis in self.source.axes)

    def arranged(self, pixels: np.ndarray) -> np.ndarray:
        """Return what was read of one plane, in the source's order, as `(C, Y, X)`."""
        axes = self.source.axes
        order = [axes.index(axis) for axis, _ in self.outer]
        order += [axes.index(axis) for axis in "CYX" if axis in axes]
        plane = pixels.transpose(order).reshape(
            self.channels, *(pixels.shape[axes.index(axis)] for axis in "YX")
        )
        return np.ascontiguousarray(plane)

    def position(self, index: int) -> dict[str, int]:
        """Return where plane `index` lies on the T and Z axes, counted from 0."""
        if not 0 <= index < self.count:
            raise IndexError(f"plane {index} of {self.count}")
        if not self.outer:
            return {}
        at = np.unravel_index(index, [size for _, size in self.outer])
        return {axis: int(value) for (axis, _), value in zip(self.outer, at, strict=True)}

    def name(self, index: int) -> str:
        """Return the plane's name, counted from 0: "slice 12", or "t 3, z 4" where both axes exist."""
        if len(self.outer) < 2:
            return f"slice {index}"
        return ", ".join(f"{axis.lower()} {at}" for axis, at in self.position(index).items())
