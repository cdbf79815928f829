"""Blocks: how an image of any size is divided into parts that are read, predicted and written one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from segcore.card import ModelCard, Normalization
from segcore.data.neighbours import neighbours
from segcore.data.normalize import fit_normalization
from segcore.data.planes import Strips, strips, strips_of
from segcore.tiling import part_span


class Slices(Strips, Protocol):
    """Planes of one image; see `segcore.data.planes.Planes`."""

    @property
    def count(self) -> int:
        """Planes in all."""

    @property
    def depth(self) -> int:
        """Planes of one volume: `depth` planes that follow each other belong together."""


@dataclass(frozen=True)
class Block:
    """What is predicted and written at once.

    Parameters
    ----------
    number : int
        Its place in the order of the blocks.
    planes : range
        The planes it decides on, of one volume, counted through the image.
    rows, columns : tuple of int
        First row (column) and the end of them.
    """

    number: int
    planes: range
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Planes, rows and columns."""
        return len(self.planes), self.rows[1] - self.rows[0], self.columns[1] - self.columns[0]


@dataclass(frozen=True)
class BlockGrid:
    """The blocks of an image: every pixel lies in exactly one of them.

    They are counted volume by volume, from the first planes down; in the same planes row by row.

    Parameters
    ----------
    count, depth, height, width : int
        Planes in all and of one volume, rows and columns of the image.
    size : tuple of int
        Planes, rows and columns of a block; those at the far borders are smaller.
    """

    count: int
    depth: int
    height: int
    width: int
    size: tuple[int, int, int]

    @classmethod
    def of(cls, images: Slices, size: Sequence[int]) -> BlockGrid:
        """Return the blocks of an image; a block larger than the image is as large as the image."""
        whole = images.depth, images.height, images.width
        planes, rows, columns = (min(side, limit) for side, limit in zip(size, whole, strict=True))
        return cls(images.count, *whole, (planes, rows, columns))

    def __len__(self) -> int:
        return self.count // self.depth * math.prod(self._steps)

    def __getitem__(self, number: int) -> Block:
        if not 0 <= number < len(self):
            raise IndexError(f"block {number} of {len(self)}")
        volume, inner = divmod(number, math.prod(self._steps))
        at = np.unravel_index(inner, self._steps)
        whole = self.depth, self.height, self.width
        (first, last), rows, columns = (
            (int(step) * side, min((int(step) + 1) * side, limit))
            for step, side, limit in zip(at, self.size, whole, strict=True)
        )
        start = volume * self.depth
        return Block(number, range(start + first, start + last), rows, columns)

    def __iter__(self) -> Iterator[Block]:
        return (self[number] for number in range(len(self)))

    def holding(self, planes: Collection[int]) -> list[Block]:
        """Return the blocks that hold any of these planes."""
        return [block for block in self if not planes or any(plane in planes for plane in block.planes)]

    @property
    def per_layer(self) -> int:
        """Blocks that lie side by side in the same planes."""
        return self._steps[1] * self._steps[2]

    @property
    def _steps(self) -> tuple[int, int, int]:
        planes, rows, columns = self.size
        return -(-self.depth // planes), -(-self.height // rows), -(-self.width // columns)


@dataclass(frozen=True)
class View:
    """What a network sees to decide on a block.

    Parameters
    ----------
    images : tuple of ndarray
        In 3d one array `(C, Z, Y, X)`; else one per plane, `(C, Y, X)`, in 2.5d with the channels of all
        slices that are seen together.
    keep : tuple of slice
        Where the block lies in what the network says of them, in rows and columns, in 3d planes before them.
    """

    images: tuple[np.ndarray, ...]
    keep: tuple[slice, ...]


def view_block(
    images: Slices, card: ModelCard, block: Block, halo: Sequence[int], steps: Sequence[int]
) -> View:
    """Read what a network sees to decide on a block as if it saw the whole image.

    Parameters
    ----------
    images : Slices
        The image.
    card : ModelCard
        Says whether the network sees planes, neighbours too, or volumes.
    block : Block
        Part of one volume.
    halo : sequence of int
        Px to read around it per axis: rows and columns, in 3d planes before them.
    steps : sequence of int
        What begins to be read begins at a multiple of these, per axis likewise.

    Raises
    ------
    DataError
        A plane cannot be read.
    """
    first = block.planes[0] // images.depth * images.depth
    inner = range(block.planes[0] - first, block.planes[-1] + 1 - first)
    rows = part_span(*block.rows, images.height, halo[-2], steps[-2])
    columns = part_span(*block.columns, images.width, halo[-1], steps[-1])
    window = slice(rows.read_start, rows.read_stop), slice(columns.read_start, columns.read_stop)
    keep = tuple(slice(at.start - at.read_start, at.stop - at.read_start) for at in (rows, columns))
    if card.mode == "3d":
        deep = part_span(inner[0], inner[-1] + 1, images.depth, halo[0], steps[0])
        planes = range(first + deep.read_start, first + deep.read_stop)
        volume = np.stack([images.window(plane, *window) for plane in planes], axis=1)
        return View((volume,), (slice(deep.start - deep.read_start, deep.stop - deep.read_start), *keep))
    kept: dict[int, np.ndarray] = {}
    found = []
    for plane in inner:
        seen = neighbours(plane, images.depth, card.context_slices, card.context_spacing)
        kept = {other: kept[other] for other in seen if other in kept}
        for other in seen:
            if other not in kept:
                kept[other] = images.window(first + other, *window)
        found.append(np.concatenate([kept[other] for other in seen]) if len(seen) > 1 else kept[plane])
    return View(tuple(found), keep)


def own_normalization(
    images: Slices, trained: Normalization, told: Callable[[int, int], None] = lambda read, total: None
) -> Normalization | None:
    """Return the statistics of an image, over all its planes, where the model takes every image's own.

    Parameters
    ----------
    images : Slices
        The image.
    trained : Normalization
        That of the model.
    told : callable
        Told after every strip how many have been read, and how many there are; may raise to break off.

    Raises
    ------
    DataError
        A plane cannot be read.
    """
    if trained.per == "set":
        return None
    total = images.count * len(strips_of(images.height, images.width, images.channels))

    def read() -> Iterator[np.ndarray]:
        for number, strip in enumerate(strips(images, range(images.count)), start=1):
            told(number, total)
            yield strip

    return fit_normalization(read(), trained.kind)
