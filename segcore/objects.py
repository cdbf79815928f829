"""Objects of one image of any size: found block by block, kept on disk, joined once all blocks are there.

A block is decoded with as much around it as objects are long, so that neighbouring blocks see the objects
between them alike and `Joiner` tells which are one. Objects of planes are numbered plane by plane, those of
volumes volume by volume: a scene is what is decoded as one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from torch import Tensor

from segcore.blocks import Block
from segcore.errors import JobError
from segcore.files import atomic_path
from segcore.postprocess.objects import boxes, numbered
from segcore.postprocess.stitch import Joiner, mutual, overlaps
from segcore.prediction import Prediction
from segcore.tiling import Span, Tile


@dataclass(frozen=True)
class _Place:
    """Where a block's objects begin: before it so many of its scene were found, `table` has their numbers."""

    before: int
    table: np.ndarray


class ObjectParts:
    """The objects of the blocks of an image, in files of their own until they are joined.

    Parameters
    ----------
    prediction : Prediction
        Of a model that learned objects; says how the image is divided.
    folder : Path
        For the files; one that is there already is taken up.
    """

    def __init__(self, prediction: Prediction, folder: Path) -> None:
        self.prediction = prediction
        self.folder = folder
        self.count = 0
        """Objects that have been joined so far."""
        self._solid = prediction.solid
        self._places: dict[int, _Place] = {}

    def keep(self, around: Block, output_KZYX: Tensor) -> list[int]:
        """Decode a block with what is around it, and keep its objects; return px beside objects and in them.

        Parameters
        ----------
        around : Block
            From `Prediction.around`.
        output_KZYX : Tensor
            What the network says of it.

        Raises
        ------
        JobError
            The disk is full or gone.
        """
        return self.decode(around, self.prediction.predictor.maps(output_KZYX))

    def decode(self, around: Block, maps_KZYX: np.ndarray) -> list[int]:
        """Do the same with maps in main memory, from `Predictor.maps`; in any thread, one at a time."""
        predictor = self.prediction.predictor
        assert predictor.head is not None
        maps = maps_KZYX if self._solid else maps_KZYX[:, 0]
        found = predictor.head.decode(maps, predictor.decoding)
        labels_ZYX = found if self._solid else found[None]
        path = self._path(around.number)
        try:
            with atomic_path(path) as temporary, temporary.open("wb") as stream:
                np.savez_compressed(stream, labels_ZYX=labels_ZYX)
        except OSError as error:
            raise JobError(
                f"{path} cannot be written: {error.strerror or error}.",
                "Free some disk space and start again; what is done so far is kept.",
            ) from error
        inside = int(np.count_nonzero(labels_ZYX[self._tile(around.number).keep]))
        block = self.prediction.blocks[around.number]
        return [int(np.prod(block.shape)) - inside, inside]

    def scene(self, number: int) -> int:
        """Return which plane, in 3d which volume, a block is of."""
        first = self.prediction.blocks[number].planes[0]
        return first // self.prediction.depth if self._solid else first

    def join(self, numbers: Sequence[int], check: Callable[[], object] = lambda: None) -> None:
        """Join the objects of blocks, which are all there is of their scenes; numbers go on from `count`.

        Parameters
        ----------
        numbers : sequence of int
            Blocks that were kept.
        check : callable
            Called before every block; breaks off by raising.

        Raises
        ------
        JobError
            A file is missing or damaged.
        """
        scenes: dict[int, list[int]] = {}
        for number in sorted(numbers):
            scenes.setdefault(self.scene(number), []).append(number)
        for of_scene in scenes.values():
            self._join_scene(of_scene, check)

    def link(self, iou: float, check: Callable[[], object] = lambda: None) -> None:
        """Make objects in depth of those of neighbouring planes, of an image of which all blocks are joined.

        As `segcore.postprocess.stitch.link_planes`, but only two planes are in memory.

        Parameters
        ----------
        iou : float
            Least IoU of objects that are one.
        check : callable
            Called before every plane; breaks off by raising.

        Raises
        ------
        JobError
            A file is missing or damaged.
        """
        names = np.arange(self.count + 1)
        before: tuple[np.ndarray, np.ndarray] | None = None
        for plane in range(self.prediction.blocks.count):
            check()
            labels_YX = self._plane(plane)
            values = np.unique(labels_YX)
            here = numbered(labels_YX)[0], values[values > 0]
            if before is not None and plane % self.prediction.depth:
                pairs = overlaps(before[0], here[0])
                same = mutual(pairs) & (pairs.iou >= iou)
                names[here[1][pairs.second[same] - 1]] = names[before[1][pairs.first[same] - 1]]
            before = here
        _, compact = np.unique(names[1:], return_inverse=True)
        final = np.concatenate([[0], compact + 1]).astype(np.int64)
        self.count = int(final.max())
        tables = {id(place.table): final[place.table] for place in self._places.values()}
        self._places = {
            number: _Place(place.before, tables[id(place.table)]) for number, place in self._places.items()
        }

    def read(self, number: int) -> np.ndarray:
        """Return the joined objects `(Z, Y, X)` of a block, int64, 1 … `count`; 0 background.

        Raises
        ------
        JobError
            A file is missing or damaged.
        """
        place = self._places[number]
        owned = self._load(number)[self._tile(number).keep].astype(np.int64)
        owned[owned > 0] += place.before
        found: np.ndarray = place.table[owned]
        return found

    def forget(self, numbers: Sequence[int]) -> None:
        """Remove the files of blocks that nobody will read again."""
        for number in numbers:
            self._path(number).unlink(missing_ok=True)
            self._places.pop(number, None)

    def _join_scene(self, numbers: list[int], check: Callable[[], object]) -> None:
        joiner = Joiner([self._tile(number) for number in numbers])
        before, drawn = [0], [np.zeros(1, np.int64)]
        for at, number in enumerate(numbers):
            check()
            labels_ZYX = self._load(number)
            drawn.append(np.unique(joiner.add(at, labels_ZYX)))
            before.append(before[-1] + int(labels_ZYX.max(initial=0)))
        joined = joiner.table()
        # What was seen only around blocks, and by nobody who owns it, is nowhere drawn and gets no number.
        used = np.unique(joined[np.concatenate(drawn)])
        used = used[used > 0]
        final = np.zeros(int(joined.max(initial=0)) + 1, np.int64)
        final[used] = np.arange(self.count + 1, self.count + 1 + len(used))
        table = final[joined]
        self.count += len(used)
        for number, start in zip(numbers, before[:-1], strict=True):
            self._places[number] = _Place(start, table)

    def _tile(self, number: int) -> Tile:
        """Return a block as a tile of its volume: what is owned, and what is decoded around it."""
        block, depth = self.prediction.blocks[number], self.prediction.depth
        around = self.prediction.around(block)
        first = block.planes[0] // depth * depth
        deep = Span(
            around.planes[0] - first,
            block.planes[0] - first,
            block.planes[-1] + 1 - first,
            around.planes[-1] + 1 - first,
        )
        sides = zip((around.rows, around.columns), (block.rows, block.columns), strict=True)
        return Tile((deep, *(Span(wide[0], own[0], own[1], wide[1]) for wide, own in sides)))

    def _plane(self, plane: int) -> np.ndarray:
        """Return the joined objects `(Y, X)` of a plane that was predicted by itself, int32."""
        blocks = self.prediction.blocks
        labels_YX = np.zeros((blocks.height, blocks.width), np.int32)
        for number in range(plane * blocks.per_layer, (plane + 1) * blocks.per_layer):
            block = blocks[number]
            labels_YX[slice(*block.rows), slice(*block.columns)] = self.read(number)[0]
        return labels_YX

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}.npz"

    def _load(self, number: int) -> np.ndarray:
        try:
            with np.load(self._path(number)) as content:
                labels_ZYX: np.ndarray = content["labels_ZYX"]
        except Exception as error:  # a damaged archive makes the reader fail in any way
            raise JobError(
                f"{self._path(number)} is missing or damaged: what was segmented so far cannot be used.",
                "Delete the folder partial of the run, and start the segmentation again.",
            ) from error
        return labels_ZYX


def number_objects(prediction: Prediction, shape: tuple[int, int, int]) -> np.ndarray:
    """Return the objects `(Z, Y, X)` of an image that fits into memory, int32, 1 … n.

    Parameters
    ----------
    prediction : Prediction
        Of a model that learned objects.
    shape : tuple of int
        Planes, rows and columns of the image.

    Raises
    ------
    DataError
        A plane cannot be read.
    JobError
        The disk for temporary files is full.
    """
    labels_ZYX = np.zeros(shape, np.int32)
    with TemporaryDirectory(prefix="segcore-objects-") as folder:
        parts = ObjectParts(prediction, Path(folder))
        around = ([prediction.around(block) for block in group] for group in prediction.groups())
        for group in prediction.stream(around):
            for block, output_KZYX in group:
                parts.keep(block, output_KZYX)
        parts.join(range(len(prediction.blocks)))
        for block in prediction.blocks:
            first, last = block.planes[0], block.planes[-1]
            place = slice(first, last + 1), slice(*block.rows), slice(*block.columns)
            labels_ZYX[place] = parts.read(block.number)
    return labels_ZYX


class ObjectTable:
    """Size, middle and bounding box of every object, added up block by block.

    Parameters
    ----------
    count : int
        Objects, 1 … count.
    """

    COLUMNS = (
        "label", "pixels", "centroid_slice", "centroid_row", "centroid_column",
        "first_slice", "first_row", "first_column", "end_slice", "end_row", "end_column",
    )  # fmt: skip

    def __init__(self, count: int) -> None:
        self._pixels_N = np.zeros(count + 1, np.int64)
        self._sums_N3 = np.zeros((count + 1, 3))
        self._first_N3 = np.full((count + 1, 3), np.iinfo(np.int64).max)
        self._end_N3 = np.zeros((count + 1, 3), np.int64)

    def add(self, block: Block, labels_ZYX: np.ndarray) -> None:
        """Take the objects of a block, from `ObjectParts.read`."""
        corner = np.array([block.planes[0], block.rows[0], block.columns[0]])
        numbers, _ = numbered(labels_ZYX)
        values = np.unique(labels_ZYX)
        values = values[values > 0]
        for number, box in boxes(numbers):
            own, label = numbers[box] == number, int(values[number - 1])
            first = corner + [side.start for side in box]
            self._pixels_N[label] += np.count_nonzero(own)
            for axis in range(3):
                others = tuple(other for other in range(3) if other != axis)
                along = np.count_nonzero(own, axis=others)
                self._sums_N3[label, axis] += along @ np.arange(first[axis], first[axis] + len(along))
            self._first_N3[label] = np.minimum(self._first_N3[label], first)
            end = corner + [side.stop for side in box]
            self._end_N3[label] = np.maximum(self._end_N3[label], end)

    def rows(self) -> Iterator[tuple[float, ...]]:
        """Yield a row per object, see `COLUMNS`: px counted from 0, ends beyond the last px."""
        for label in range(1, len(self._pixels_N)):
            pixels = int(self._pixels_N[label])
            middle = (self._sums_N3[label] / max(pixels, 1)).round(3).tolist()
            yield (label, pixels, *middle, *self._first_N3[label].tolist(), *self._end_N3[label].tolist())

    def write(self, path: Path) -> None:
        """Write the rows as CSV; the file is whole or not there.

        Raises
        ------
        JobError
            The disk is full or gone.
        """
        import csv

        try:
            with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
                writer = csv.writer(stream)
                writer.writerow(self.COLUMNS)
                writer.writerows(self.rows())
        except OSError as error:
            raise JobError(
                f"{path} cannot be written: {error.strerror or error}.",
                "Free some disk space and start again.",
            ) from error
