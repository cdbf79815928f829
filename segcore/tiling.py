"""Pure integers: how an image is cut into tiles so that the pieces join without a seam."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

IGNORE = -1
"""Label of a pixel nobody annotated: it changes no loss, no gradient and no metric."""


@dataclass(frozen=True)
class Span:
    """A tile along one axis, in px: it reads `[read_start, read_stop)` and owns `[start, stop)`."""

    read_start: int
    start: int
    stop: int
    read_stop: int


@dataclass(frozen=True)
class Tile:
    """One piece of an image::

    image ┌───────────────────────────────┐
          │    read                       │
          │   ┌───────────────────┐       │   read    what the network sees: the owned part and the halo
          │   │ halo              │       │           around it, cut off at the image border
          │   │   ┌───────────┐   │       │   write   the part of the image the tile owns; these parts
          │   │   │   write   │   │       │           cover every pixel exactly once
          │   │   │  (owned)  │   │       │   keep    the same part, counted from the corner of `read`
          │   │   └───────────┘   │       │
          │   └───────────────────┘       │
          └───────────────────────────────┘

    Parameters
    ----------
    spans : tuple of Span
        One per axis: rows and columns, in 3d planes before them.
    """  # noqa: D400

    spans: tuple[Span, ...]

    @property
    def rows(self) -> Span:
        """The tile along the rows."""
        return self.spans[-2]

    @property
    def columns(self) -> Span:
        """The tile along the columns."""
        return self.spans[-1]

    @property
    def read(self) -> tuple[slice, ...]:
        """The part of the image to read, one slice per axis."""
        return tuple(slice(span.read_start, span.read_stop) for span in self.spans)

    @property
    def keep(self) -> tuple[slice, ...]:
        """The part of what was read to keep."""
        return tuple(slice(span.start - span.read_start, span.stop - span.read_start) for span in self.spans)

    @property
    def write(self) -> tuple[slice, ...]:
        """The part of the image that the kept part fills."""
        return tuple(slice(span.start, span.stop) for span in self.spans)


def align(size: int, step: int) -> int:
    """Return the smallest multiple of `step` that is at least `size`.

    Examples
    --------
    >>> align(107, 16)
    112
    """
    return -(-size // step) * step


def tile_grid(
    shape: Sequence[int], tile: Sequence[int], halo: Sequence[int], step: Sequence[int]
) -> list[Tile]:
    """Cut an image into tiles whose predictions equal that of the whole image; one number per axis each.

    A network that halves an axis n times is translation invariant along it only for shifts by `step` = 2**n
    px, so every tile begins to read at a multiple of `step`. The halo is at least the receptive radius, so an
    inner edge of a tile has no influence on what is kept; at the image border the tile ends with the image,
    and the network pads it as it would pad the whole image.

    Parameters
    ----------
    shape : sequence of int
        Size of the image in px, at least 1: rows and columns, in 3d planes before them.
    tile : sequence of int
        Size of the part a tile owns, in px; rounded up to a multiple of `step`.
    halo : sequence of int
        Least number of px to read around it; rounded up to a multiple of `step`.
    step : sequence of int
        Alignment in px.
    """
    return [Tile(spans) for spans in product(*map(axis_spans, shape, tile, halo, step))]


def axis_spans(size: int, tile: int, halo: int, step: int) -> list[Span]:
    """Return the tiles along one axis, see `tile_grid`."""
    tile, halo = align(tile, step), align(halo, step)
    return [
        Span(max(0, start - halo), start, min(size, start + tile), min(size, start + tile + halo))
        for start in range(0, size, tile)
    ]


def part_span(start: int, stop: int, size: int, halo: int, step: int) -> Span:
    """Return what to read for `[start, stop)` of an axis so that it is predicted as in the whole image."""
    first = max(0, start - halo) // step * step
    return Span(first, start, stop, min(size, align(stop + halo, step)))
