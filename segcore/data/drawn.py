"""Drawn labels: outlines of objects as a label image on the grid of the image they were drawn on."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from segcore.card import PixelSize
from segcore.data.kept_planes import KeptPlanes
from segcore.data.outlines import Outline, Span
from segcore.data.planes import Planes
from segcore.data.source import ImageSource, Region, full_region

_KEPT = KeptPlanes()


@dataclass(frozen=True, eq=False)
class Drawing:
    """One object.

    Parameters
    ----------
    outline : Outline
        What it covers.
    value : int
        What its pixels become.
    plane : int, optional
        The plane it lies in, counted through T and Z; None: in every plane.
    """

    outline: Outline
    value: int
    plane: int | None = None


@dataclass(frozen=True)
class Grid:
    """Where drawings lie: axes (T and Z, then Y X), sizes and voxel size of a label image."""

    axes: str
    shape: tuple[int, ...]
    pixel_size: PixelSize = field(default_factory=PixelSize)

    @classmethod
    def of(cls, image: ImageSource) -> Grid:
        """Return the grid of the labels of `image`."""
        planes = Planes(image)
        return cls(planes.label_axes, planes.label_shape, image.pixel_size)

    @property
    def planes(self) -> int:
        """Planes, counted through T and Z."""
        return math.prod(self.shape[:-2])


class DrawnLabels:
    """Drawings as a label image; satisfies `ImageSource`. Only what is asked for is drawn.

    A plane of which at least half is asked for is drawn as a whole and kept for a while: thousands of
    outlines take a tenth of a second, and the check, the data doctor and the page look at the same plane.

    Parameters
    ----------
    path : Path
        The file with the outlines.
    grid : Grid
        Where they lie.
    drawings : sequence of Drawing
        The later ones on top.
    names : mapping, optional
        Names of the values, as far as the file has any.
    notes : tuple of str
        What had to be assumed.
    background : int
        Value of pixels that nothing covers.
    key : hashable, optional
        Equal for what is drawn alike, so that it is drawn once for all who open it; by default for nothing.
    """

    def __init__(
        self,
        path: Path,
        grid: Grid,
        drawings: Sequence[Drawing],
        names: Mapping[int, str] | None = None,
        notes: tuple[str, ...] = (),
        background: int = 0,
        key: Hashable = None,
    ) -> None:
        self.path = path
        self.axes, self.shape, self.pixel_size = grid.axes, grid.shape, grid.pixel_size
        self.names = dict(names or {})
        self.notes = notes
        self.annotated: ImageSource | None = None
        """Above 0 where somebody annotated; None if everywhere."""
        self._drawings = tuple(drawings)
        self._background = background
        self._key = object() if key is None else key
        largest = max((drawing.value for drawing in drawings), default=background)
        self.dtype: np.dtype[Any] = np.min_scalar_type(max(largest, background))

    def read(self, region: Region) -> np.ndarray:
        """Return the pixels of `region`; see `ImageSource.read`."""
        bounds = full_region(region, self.shape)
        pixels = np.empty([stop - start for start, stop in bounds], self.dtype)
        *outer, rows, columns = bounds
        numbers = np.arange(math.prod(self.shape[:-2])).reshape(self.shape[:-2])
        chosen = numbers[_slices(outer)].ravel().tolist()
        planes = pixels.reshape(len(chosen), *pixels.shape[-2:])
        if pixels.size:
            for number, plane_YX in zip(chosen, planes, strict=True):
                plane_YX[:] = self._plane(number, rows, columns)
        return pixels

    def _plane(self, number: int, rows: Span, columns: Span) -> np.ndarray:
        """Return part of a plane, from what is kept if it can be."""
        height, width = self.shape[-2:]
        key = (self._key, number if (self._bounds[:, 4] >= 0).any() else 0)
        whole, pixels = _KEPT.find(key), height * width
        asked = (rows[1] - rows[0]) * (columns[1] - columns[0])
        if whole is None and 2 * asked >= pixels and _KEPT.takes(pixels * self.dtype.itemsize):
            whole = self._draw(number, (0, height), (0, width))
            _KEPT.keep(key, whole)
        return self._draw(number, rows, columns) if whole is None else whole[slice(*rows), slice(*columns)]

    def _draw(self, number: int, rows: Span, columns: Span) -> np.ndarray:
        plane_YX = np.full((rows[1] - rows[0], columns[1] - columns[0]), self._background, self.dtype)
        for drawing in self._near(rows, columns, number):
            box = drawing.outline.box
            inner_rows, inner_columns = _common(box.rows, rows), _common(box.columns, columns)
            part = (_within(inner_rows, rows), _within(inner_columns, columns))
            covered = drawing.outline.covers(inner_rows, inner_columns)
            plane_YX[part][covered] = drawing.value
        return plane_YX

    def _near(self, rows: Span, columns: Span, plane: int) -> Iterator[Drawing]:
        """Yield the drawings that may cover something of a part, found at once: there can be 100,000."""
        tops, bottoms, lefts, rights, where = self._bounds.T
        near = (tops < rows[1]) & (bottoms > rows[0]) & (lefts < columns[1]) & (rights > columns[0])
        near &= (where < 0) | (where == plane)
        return (self._drawings[at] for at in np.flatnonzero(near))

    @cached_property
    def _bounds(self) -> np.ndarray:
        """Rows, columns and plane (-1: all) of every drawing."""
        bounds = [
            (
                *drawing.outline.box.rows,
                *drawing.outline.box.columns,
                -1 if drawing.plane is None else drawing.plane,
            )
            for drawing in self._drawings
        ]
        return np.array(bounds, np.int64).reshape(-1, 5)


class AnnotatedPlanes:
    """A mask that is 1 throughout the planes with drawings, 0 in all others; an `ImageSource`."""

    def __init__(self, path: Path, grid: Grid, planes: frozenset[int], note: str) -> None:
        self.path = path
        self.axes, self.shape, self.pixel_size = grid.axes, grid.shape, grid.pixel_size
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)
        self.notes = (note,)
        numbers = np.arange(grid.planes).reshape(grid.shape[:-2])
        self._annotated = np.isin(numbers, sorted(planes)).astype(self.dtype)

    def read(self, region: Region) -> np.ndarray:
        """Return the pixels of `region`; see `ImageSource.read`."""
        bounds = full_region(region, self.shape)
        planes = self._annotated[_slices(bounds[:-2])][..., None, None]
        return np.broadcast_to(planes, [stop - start for start, stop in bounds]).copy()


def largest_first(drawings: Sequence[Drawing]) -> tuple[Drawing, ...]:
    """Return the drawings so that small objects lie on top of large ones; of equal ones the later on top."""
    return tuple(sorted(drawings, key=lambda drawing: -drawing.outline.area))


def _common(one: Span, other: Span) -> Span:
    return max(one[0], other[0]), min(one[1], other[1])


def _within(span: Span, window: Span) -> slice:
    return slice(span[0] - window[0], span[1] - window[0])


def _slices(bounds: Sequence[Span]) -> tuple[slice, ...]:
    return tuple(slice(*bound) for bound in bounds)


def value_table(names: Mapping[int, str]) -> str:
    """Return `names` for a note: "1 = cell, 2 = nucleus"; long tables are cut."""
    return ", ".join(_entries(names))


def _entries(names: Mapping[int, str]) -> Iterator[str]:
    most = 20
    for value in sorted(names)[:most]:
        yield f"{value} = {names[value]}"
    if len(names) > most:
        yield f"and {len(names) - most} more"
