"""Pure integers: how an image is cut into tiles so that the pieces join without a seam."""

from __future__ import annotations

from dataclasses import dataclass

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
    """  # noqa: D400

    rows: Span
    columns: Span

    @property
    def read(self) -> tuple[slice, slice]:
        """Rows and columns of the image to read."""
        return tuple(slice(span.read_start, span.read_stop) for span in (self.rows, self.columns))  # type: ignore[return-value]

    @property
    def keep(self) -> tuple[slice, slice]:
        """Rows and columns of the read part to keep."""
        return tuple(  # type: ignore[return-value]
            slice(span.start - span.read_start, span.stop - span.read_start)
            for span in (self.rows, self.columns)
        )

    @property
    def write(self) -> tuple[slice, slice]:
        """Rows and columns of the image that the kept part fills."""
        return tuple(slice(span.start, span.stop) for span in (self.rows, self.columns))  # type: ignore[return-value]


def align(size: int, step: int) -> int:
    """Return the smallest multiple of `step` that is at least `size`.

    Examples
    --------
    >>> align(107, 16)
    112
    """
    return -(-size // step) * step


def tile_grid(height: int, width: int, tile: int, halo: int, step: int) -> list[Tile]:
    """Cut an image of `height` × `width` px into tiles whose predictions equal that of the whole image.

    A network that halves the image n times is translation invariant only for shifts by `step` = 2**n px, so
    every tile begins to read at a multiple of `step`. The halo is at least the receptive radius, so an inner
    edge of a tile has no influence on what is kept; at the image border the tile ends with the image, and the
    network pads it as it would pad the whole image.

    Parameters
    ----------
    height, width : int
        Size of the image in px, at least 1.
    tile : int
        Side of the part a tile owns, in px; rounded up to a multiple of `step`.
    halo : int
        Least number of px to read around it; rounded up to a multiple of `step`.
    step : int
        Alignment in px.
    """
    tile, halo = align(tile, step), align(halo, step)
    return [
        Tile(rows, columns) for rows in _spans(height, tile, halo) for columns in _spans(width, tile, halo)
    ]


def _spans(size: int, tile: int, halo: int) -> list[Span]:
    return [
        Span(max(0, start - halo), start, min(size, start + tile), min(size, start + tile + halo))
        for start in range(0, size, tile)
    ]
