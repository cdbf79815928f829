"""One label image from those of overlapping tiles, or from those of single slices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from segcore.postprocess.objects import boxes, numbered
from segcore.postprocess.ranges import check_range
from segcore.tiling import Tile

SAME = 0.5
"""IoU above which two objects of overlapping tiles are one; no object then has two partners in a tile."""
SAME_IN_DEPTH = 0.25
"""IoU from which objects of neighbouring slices are one, as in Cellpose's `stitch3D`."""


class Stitcher:
    """Puts objects of overlapping tiles together: each is drawn by the tile that owns its anchor.

    The anchor is the middle of the object's bounding box. Where no object is longer than the halo, the owner
    sees it whole, and no other tile takes part of it for its own; the result then has the objects of the
    whole image (the rule of StarDist's `big.py`). What is longer may be cut or missing: `cut` counts where
    that can have happened.

    Parameters
    ----------
    labels : array
        What is drawn into, whole numbers and 0 at first: an array in memory, a `np.memmap` or a Zarr array. A
        tile reads and writes what it has read of the image, not only the part it owns.
    """

    def __init__(self, labels: Any) -> None:
        self.labels = labels
        self.count = 0
        """Objects so far; they have the numbers 1 … count."""
        self.cut = 0
        """Objects that reach from the owned part of a tile to where the tile ends and the image goes on."""

    def add(self, tile: Tile, found: np.ndarray) -> None:
        """Draw the objects that a tile owns.

        Parameters
        ----------
        tile : Tile
            The tile.
        found : np.ndarray
            Its labels, of the part that it reads.
        """
        numbers, count = numbered(found)
        table = np.zeros(count + 1, np.int64)
        for number, box in boxes(numbers):
            self.cut += _is_cut(tile, box, self.labels.shape)
            if _is_owned(tile, box):
                self.count += 1
                table[number] = self.count
        drawn = np.asarray(self.labels[tile.read])
        mine = table[np.maximum(numbers, 0)]
        self.labels[tile.read] = np.where((drawn == 0) & (mine > 0), mine, drawn).astype(drawn.dtype)


def _is_owned(tile: Tile, box: tuple[slice, ...]) -> bool:
    middles = (
        span.read_start + (side.start + side.stop - 1) // 2
        for span, side in zip(tile.spans, box, strict=True)
    )
    return all(span.start <= middle < span.stop for span, middle in zip(tile.spans, middles, strict=True))


def _is_cut(tile: Tile, box: tuple[slice, ...], shape: Sequence[int]) -> bool:
    """Say whether an object reaches from what a tile owns to where it ends inside the image."""
    sides = [
        (span, span.read_start + side.start, span.read_start + side.stop, size)
        for span, side, size in zip(tile.spans, box, shape, strict=True)
    ]
    inside = all(start < span.stop and stop > span.start for span, start, stop, _ in sides)
    cut = any(
        (start == span.read_start > 0) or (stop == span.read_stop < size) for span, start, stop, size in sides
    )
    return inside and cut


@dataclass(frozen=True)
class Pairs:
    """Objects of two label images that lie upon each other, and the IoU of each pair."""

    first: np.ndarray
    second: np.ndarray
    iou: np.ndarray


def overlaps(first: np.ndarray, second: np.ndarray) -> Pairs:
    """Return all pairs of objects that have a pixel in common; 0 and negative values are none.

    Parameters
    ----------
    first, second : np.ndarray
        Labels of one shape, whose objects have small numbers, as from `numbered`.
    """
    both = (first > 0) & (second > 0)
    width = np.int64(second.max(initial=0)) + 1
    codes, common = np.unique(first[both].astype(np.int64) * width + second[both], return_counts=True)
    one, other = codes // width, codes % width
    sizes_one = np.bincount(np.maximum(first, 0).ravel())
    sizes_other = np.bincount(np.maximum(second, 0).ravel())
    return Pairs(one, other, common / (sizes_one[one] + sizes_other[other] - common))


class Joiner:
    """Numbers objects of overlapping tiles so that each tile writes nothing but the part that it owns.

    Objects of two tiles that agree where both have seen the image (IoU above 0.5) are one. So objects may be
    longer than the halo, and tiles may be written in any order and by any process; but the numbers are
    provisional until all tiles are known, and have to be replaced then (`table`).

    Parameters
    ----------
    tiles : sequence of Tile
        All tiles of the image, in the order of `tile_grid`.
    """

    def __init__(self, tiles: Sequence[Tile]) -> None:
        self._tiles = list(tiles)
        axes = range(len(self._tiles[0].spans)) if self._tiles else ()
        starts = [sorted({tile.spans[axis].start for tile in self._tiles}) for axis in axes]
        self._places = [
            tuple(starts[axis].index(tile.spans[axis].start) for axis in axes) for tile in self._tiles
        ]
        self._at = {place: number for number, place in enumerate(self._places)}
        self._seen: dict[int, tuple[np.ndarray, int]] = {}  # numbers in the tile, and what to add to them
        self._added: set[int] = set()
        self._parents, self._drawn = [0], [False]

    def add(self, at: int, found: np.ndarray) -> np.ndarray:
        """Return the part that a tile owns with provisional numbers, int64.

        Kept are the labels of tiles with neighbours that are still to come.

        Parameters
        ----------
        at : int
            Which tile.
        found : np.ndarray
            Its labels, of the part that it reads.
        """
        numbers, count = numbered(found)
        before = len(self._parents) - 1
        self._parents += range(before + 1, before + 1 + count)
        self._drawn += [False] * count
        self._seen[at] = numbers, before
        self._added.add(at)
        for other in self._neighbours(at):
            if other in self._seen:
                self._join(at, other)
        for known in (at, *self._neighbours(at)):
            if self._added.issuperset(self._neighbours(known)):
                self._seen.pop(known, None)
        owned = numbers[self._tiles[at].keep]
        for number in np.unique(owned[owned > 0]).tolist():
            self._drawn[before + number] = True
        return np.where(owned > 0, owned.astype(np.int64) + before, 0)

    def table(self) -> np.ndarray:
        """Return the final number of every provisional one, 1 … n for the n objects that tiles own a part of.

        0 stays 0, as does what was seen beside the owned parts only, and is no part of any object there.
        """
        roots = np.array([self._root(number) for number in range(len(self._parents))])
        drawn = np.unique(roots[self._drawn])
        return np.where(np.isin(roots, drawn), np.searchsorted(drawn, roots) + 1, 0)

    def _neighbours(self, at: int) -> Iterator[int]:
        place = self._places[at]
        for step in product((-1, 0, 1), repeat=len(place)):
            other = self._at.get(tuple(a + b for a, b in zip(place, step, strict=True)))
            if other is not None and other != at:
                yield other

    def _join(self, one: int, other: int) -> None:
        reads = list(zip(self._tiles[one].read, self._tiles[other].read, strict=True))
        common = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in reads]
        if any(side.start >= side.stop for side in common):
            return
        first, second = self._part(one, common), self._part(other, common)
        pairs = overlaps(first, second)
        same = pairs.iou > SAME
        names = zip(
            pairs.first[same] + self._seen[one][1], pairs.second[same] + self._seen[other][1], strict=True
        )
        for pair in names:
            low, high = sorted(self._root(int(name)) for name in pair)
            self._parents[high] = low

    def _part(self, at: int, common: Sequence[slice]) -> np.ndarray:
        """Return part of the image as a tile has seen it."""
        starts = [side.start for side in self._tiles[at].read]
        box = tuple(
            slice(side.start - start, side.stop - start) for side, start in zip(common, starts, strict=True)
        )
        return self._seen[at][0][box]

    def _root(self, number: int) -> int:
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number


def link_planes(labels_ZYX: np.ndarray, iou: float = SAME_IN_DEPTH) -> np.ndarray:
    """Return objects in 3d, 1 … n, int32, from objects that were found in every slice by itself.

    An object goes on in the next slice where two objects are each other's best match and their IoU is at
    least `iou`; Cellpose's `stitch3D`, but one object goes on in one object at most.

    Parameters
    ----------
    labels_ZYX : np.ndarray
        Labels; the numbers of one slice mean nothing in the next. IGNORE stays IGNORE.
    iou : float
        0 to 1.

    Raises
    ------
    ConfigError
        `iou` is out of its range.
    DataError
        The labels are not whole numbers.
    """
    check_range("iou", iou, 0, 1)
    linked = np.zeros(labels_ZYX.shape, np.int32)
    count = 0
    before: tuple[np.ndarray, np.ndarray] | None = None
    for plane, labels_YX in enumerate(labels_ZYX):
        numbers, here = numbered(labels_YX)
        names = np.zeros(here + 1, np.int32)
        if before is not None:
            pairs = overlaps(before[0], numbers)
            chosen = mutual(pairs) & (pairs.iou >= iou)
            names[pairs.second[chosen]] = before[1][pairs.first[chosen]]
        new = np.flatnonzero(names[1:] == 0) + 1
        names[new] = np.arange(count + 1, count + 1 + len(new))
        count += len(new)
        linked[plane] = np.where(numbers > 0, names[np.maximum(numbers, 0)], numbers)
        before = numbers, names
    return linked


def mutual(pairs: Pairs) -> np.ndarray:
    """Say which pairs are the first best of both."""
    chosen = np.zeros(len(pairs.iou), bool)
    order = np.argsort(-pairs.iou, kind="stable")
    _, best_of_first = np.unique(pairs.first[order], return_index=True)
    _, best_of_second = np.unique(pairs.second[order], return_index=True)
    chosen[order[np.intersect1d(best_of_first, best_of_second)]] = True
    return chosen
