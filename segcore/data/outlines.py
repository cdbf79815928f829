"""Outlines: which pixels an annotated object covers, as polygons or runs, for any part of a plane."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

Span = tuple[int, int]
"""`(start, stop)` of rows or columns."""
FARTHEST = 1e9
"""No corner lies as far out: a coordinate beyond is damage."""
_AT_ONCE = 2**22
"""Pixels, and crossings of edges and rows, that are worked out at a time: bounds the memory this takes."""


@dataclass(frozen=True)
class Box:
    """The rows and columns outside of which an outline covers nothing; both `(start, stop)`."""

    rows: Span
    columns: Span


class Outline(Protocol):
    """What an object covers in its plane."""

    @property
    def box(self) -> Box:
        """Where it can lie."""

    @property
    def area(self) -> float:
        """Pixels it covers, about."""

    def covers(self, rows: Span, columns: Span) -> np.ndarray:
        """Return where it covers the pixels of this part of the plane, bool `Y X`."""


@dataclass(frozen=True, eq=False)
class Polygons:
    """Polygons, with holes or without; a pixel belongs to them if its centre lies inside.

    Coordinates count from the upper left corner of the plane: the pixel in row 0 and column 0 reaches from 0
    to 1, and its centre is at 0.5. A centre on an edge belongs to the polygon to the right of it and below,
    so that of two polygons with a common edge exactly one has it.

    Parameters
    ----------
    parts : tuple of tuple of ndarray
        Every part is a polygon of rings `(n, 2)`, row and column of its corners: inside is what lies within
        an odd number of its rings, so that holes are rings too. The object is all parts together.
    """

    parts: tuple[tuple[np.ndarray, ...], ...]

    @cached_property
    def box(self) -> Box:
        """Where they lie, cut to -1 … 2³⁰."""
        corners = np.concatenate([ring for part in self.parts for ring in part])
        low = np.clip(np.floor(corners.min(0)), -1, 2**30).astype(int)
        high = np.clip(np.ceil(corners.max(0)), -1, 2**30).astype(int)
        return Box((int(low[0]), int(high[0])), (int(low[1]), int(high[1])))

    @cached_property
    def area(self) -> float:
        """What the first rings of the parts enclose, without the rings behind them."""
        return sum(
            abs(_enclosed(part[0])) - sum(abs(_enclosed(ring)) for ring in part[1:]) for part in self.parts
        )

    def covers(self, rows: Span, columns: Span) -> np.ndarray:
        """See `Outline.covers`."""
        inside = np.zeros((rows[1] - rows[0], columns[1] - columns[0]), bool)
        for start, stop in _bands(rows, columns[1] - columns[0]):
            for part in self.parts:
                inside[start - rows[0] : stop - rows[0]] |= _odd(part, (start, stop), columns)
        return inside


@dataclass(frozen=True, eq=False)
class Runs:
    """Pixels counted column by column (the run lengths of COCO).

    Parameters
    ----------
    starts, stops : ndarray
        Where runs of covered pixels begin and end, ascending, as positions `column * height + row`.
    height : int
        Rows of the plane.
    """

    starts: np.ndarray
    stops: np.ndarray
    height: int

    @cached_property
    def box(self) -> Box:
        """All rows of the columns in which there are runs."""
        if not len(self.starts):
            return Box((0, 0), (0, 0))
        last = int(self.stops[-1] - 1) // self.height
        return Box((0, self.height), (int(self.starts[0]) // self.height, last + 1))

    @cached_property
    def area(self) -> float:
        """Pixels covered."""
        return float((self.stops - self.starts).sum())

    def covers(self, rows: Span, columns: Span) -> np.ndarray:
        """See `Outline.covers`."""
        covered = np.zeros((rows[1] - rows[0], columns[1] - columns[0]), bool)
        for start, stop in _bands(columns, self.height):
            covered[:, start - columns[0] : stop - columns[0]] = self._whole_columns(start, stop)[
                slice(*rows)
            ]
        return covered

    def _whole_columns(self, start: int, stop: int) -> np.ndarray:
        first, size = start * self.height, (stop - start) * self.height
        near = slice(
            int(np.searchsorted(self.stops, first, "right")), int(np.searchsorted(self.starts, first + size))
        )
        steps = np.zeros(size + 1, np.int32)
        np.add.at(steps, np.clip(self.starts[near] - first, 0, size), 1)
        np.add.at(steps, np.clip(self.stops[near] - first, 0, size), -1)
        return (np.cumsum(steps[:-1]).reshape(-1, self.height) > 0).T


def _odd(rings: tuple[np.ndarray, ...], rows: Span, columns: Span) -> np.ndarray:
    """Return which pixel centres lie in an odd number of rings: as many edges are to their left."""
    height, width = rows[1] - rows[0], columns[1] - columns[0]
    starts = np.concatenate([np.asarray(ring, np.float64) for ring in rings])
    ends = np.concatenate([np.roll(np.asarray(ring, np.float64), -1, 0) for ring in rings])
    # Every edge is taken from top to bottom: polygons that share one then agree on it to the last bit.
    down = (starts[:, 0] < ends[:, 0])[:, None]
    tops, bottoms = np.where(down, starts, ends), np.where(down, ends, starts)
    first = np.clip(np.ceil(tops[:, 0] - 0.5), *rows).astype(np.int64)
    count = np.clip(np.ceil(bottoms[:, 0] - 0.5), *rows).astype(np.int64) - first
    crossings = np.zeros(height * (width + 1), np.uint8)  # may run over: 256 is even
    at_once = max(1, _AT_ONCE // height)
    for begin in range(0, len(count), at_once):
        part = slice(begin, begin + at_once)
        edge = np.repeat(np.arange(len(count))[part], count[part])
        within = np.arange(len(edge)) - np.repeat(np.cumsum(count[part]) - count[part], count[part])
        row = first[edge] + within
        (top, left), (bottom, right) = tops[edge].T, bottoms[edge].T
        crossing = left + (row + 0.5 - top) * ((right - left) / (bottom - top))
        column = np.clip(np.ceil(crossing - 0.5), *columns).astype(np.int64)
        positions = (row - rows[0]) * (width + 1) + column - columns[0]
        np.add.at(crossings, positions, 1)
    return (np.cumsum(crossings.reshape(height, width + 1)[:, :-1], 1, np.uint8) & 1).astype(bool)


def _bands(span: Span, length: int) -> Iterator[Span]:
    """Yield parts of a span of rows or columns of this length, of about `_AT_ONCE` pixels each."""
    if length:
        step = max(1, _AT_ONCE // length)
        yield from ((start, min(start + step, span[1])) for start in range(span[0], span[1], step))


def _enclosed(ring: np.ndarray) -> float:
    rows, columns = np.asarray(ring, np.float64).T
    return float(np.dot(rows, np.roll(columns, -1)) - np.dot(columns, np.roll(rows, -1))) / 2
