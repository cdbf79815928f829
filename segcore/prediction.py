"""Predicting one image as its model wants it, block by block: own statistics, neighbours, another grid."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from segcore.blocks import Block, BlockGrid, Slices, View, own_normalization, view_block
from segcore.card import Normalization
from segcore.errors import ConfigError
from segcore.predictor import Predictor
from segcore.rescale import SAME, Factors, Rescaled, Restoring

CHUNK = 512
"""Side of the parts in which large results are stored, px: blocks are a multiple of it where they can."""
DEEP_CHUNK = 16
MOST_PIXELS = 2**25
"""Px (voxels) of a block: its logits and probabilities take some hundred MB at most, for few classes."""
FEW_MAPS = 4
"""Of heads with more maps blocks are smaller: the maps are in main memory when objects are made of them."""
MOST_AROUND = 256
"""Px decoded around a block at most: longer objects are joined by what both blocks see of them."""
SPARE = 8
"""Px more than objects are long: what the border of a part does to an object should not be seen."""
AHEAD = 2
"""Groups of blocks that are read while another is predicted."""


@dataclass(frozen=True)
class Division:
    """How an image is divided; the same division gives the same result, to the bit on the same machine.

    Parameters
    ----------
    size : tuple of int
        Planes, rows and columns of a block, on the grid of the image.
    halo : tuple of int
        Px to see around it per axis of the network, on its own grid.
    batch : int
        Blocks that go through the network together.
    """

    size: tuple[int, int, int]
    halo: tuple[int, ...]
    batch: int = 1

    def chunk(self, images: Slices) -> tuple[int, int, int]:
        """Return planes, rows and columns of which every block has a whole number, but for the last ones."""
        whole = images.depth, images.height, images.width
        steps = (DEEP_CHUNK, CHUNK, CHUNK)
        planes, rows, columns = (
            min(step, limit) if side >= limit or side % step == 0 else side
            for side, limit, step in zip(self.size, whole, steps, strict=True)
        )
        return planes, rows, columns


def divide(images: Slices, predictor: Predictor, factors: Factors = SAME) -> Division:
    """Choose blocks that fit into memory and, where an image has several, into the chunks of a result."""
    grid = Rescaled(images, factors) if factors != SAME else images
    sizes = (grid.height, grid.width)
    solid = predictor.card.mode == "3d"
    plan = predictor.plan(*((grid.depth, *sizes) if solid else sizes))
    owned = plan.owned if solid else (1, *plan.owned)
    whole = images.depth, images.height, images.width
    steps = (DEEP_CHUNK, CHUNK, CHUNK)
    planes, rows, columns = (
        _side(part, all_of_it, size, step)
        for part, all_of_it, size, step in zip(owned, (grid.depth, *sizes), whole, steps, strict=True)
    )
    size = [planes if solid else 1, rows, columns]
    most = MOST_PIXELS if predictor.head is None else FEW_MAPS * MOST_PIXELS // predictor.card.outputs
    # A block may be larger on the grid of the image than on that of the network.
    while math.prod(size) > most and max(size[1:]) > CHUNK:
        axis = 1 if size[1] >= size[2] else 2
        size[axis] = max(CHUNK, size[axis] // 2 // CHUNK * CHUNK)
    if predictor.head is not None:
        while math.prod(size) > most and size[0] > DEEP_CHUNK:
            size[0] = max(DEEP_CHUNK, size[0] // 2 // DEEP_CHUNK * DEEP_CHUNK)
        size = [_within(*each) for each in zip(size, whole, margins(predictor), steps, strict=True)]
    return Division((size[0], size[1], size[2]), plan.halo, plan.batch)


def margins(predictor: Predictor) -> tuple[int, int, int]:
    """Return how many planes, rows and columns around a block are decoded with it: those of an object."""
    head = predictor.card.head
    if head is None:
        return 0, 0, 0
    deep, rows, columns = (0.0, *head.sides)[-3:]
    planes = math.ceil(min(deep, MOST_AROUND)) + 1 if head.dimensions == 3 else 0
    high, wide = (math.ceil(min(side, MOST_AROUND)) + SPARE for side in (rows, columns))
    return planes, high, wide


def _within(size: int, whole: int, margin: int, step: int) -> int:
    """Return the side of a block that takes no more memory with its margins than `size` without."""
    if size >= whole or not margin:
        return size
    side = max(size - 2 * margin, min(size, margin), 1)
    return side // step * step if side >= step else side


def _side(owned: int, grid: int, size: int, step: int) -> int:
    """Return the side of a block for tiles that own `owned` of the `grid` px that `size` px become."""
    if owned >= grid:
        return size
    side = max(1, math.floor(owned * size / grid))
    return side // step * step if side >= step else side


class Prediction:
    """What a network says of one image, block by block.

    Parameters
    ----------
    predictor : Predictor
        Applies the network.
    images : Slices
        The image.
    factors : tuple of float
        From its grid to that of the network; see `segcore.rescale`.
    division : Division, optional
        The blocks; by default what suits the memory there is now.
    normalization : Normalization, optional
        The image's own statistics, if they are known.
    told : callable
        Told of the strips that are read where they are not, see `own_normalization`.

    Raises
    ------
    DataError
        A plane cannot be read.
    ConfigError
        The model learned objects, whose maps cannot be resampled.
    """

    def __init__(
        self,
        predictor: Predictor,
        images: Slices,
        factors: Factors = SAME,
        division: Division | None = None,
        normalization: Normalization | None = None,
        told: Callable[[int, int], None] = lambda read, total: None,
    ) -> None:
        if predictor.head is not None and factors != SAME:
            raise ConfigError(
                "inference.rescale cannot be used with a model that learned objects one by one.",
                "Leave it out, and resample the images to the pixel size of the training beforehand.",
            )
        trained = predictor.card.normalization
        self.normalization = normalization or own_normalization(images, trained, told)
        self.division = division or divide(images, predictor, factors)
        self.blocks = BlockGrid.of(images, self.division.size)
        self.predictor = predictor
        self._images = images
        self._rescaled = Rescaled(images, factors) if factors != SAME else None

    @property
    def solid(self) -> bool:
        """Whether volumes are predicted, not planes."""
        return self.predictor.card.mode == "3d"

    @property
    def depth(self) -> int:
        """Planes of one volume of the image."""
        return self._images.depth

    def around(self, block: Block) -> Block:
        """Return a block with as much around it, in its volume, as objects are long."""
        images, (planes, rows, columns) = self._images, margins(self.predictor)
        first = block.planes[0] // images.depth * images.depth
        deep = max(first, block.planes[0] - planes), min(first + images.depth, block.planes[-1] + 1 + planes)
        return Block(
            block.number,
            range(*deep),
            (max(0, block.rows[0] - rows), min(images.height, block.rows[1] + rows)),
            (max(0, block.columns[0] - columns), min(images.width, block.columns[1] + columns)),
        )

    @property
    def unit(self) -> str:
        """What a person calls a block: "slice" where it is one, else "tile"."""
        return "slice" if self.blocks.per_layer == 1 and self.blocks.size[0] == 1 else "tile"

    def is_exact(self) -> bool:
        """Say whether blocks are predicted with all that the network can see around them."""
        network = self.predictor.network
        if network.is_local:
            return self.division.halo == network.receptive_radii
        solid = network.dimensions == 3
        return self.blocks.per_layer == 1 and (not solid or self.blocks.size[0] >= self._images.depth)

    def groups(self, done: Collection[int] = (), planes: Collection[int] = ()) -> Iterator[list[Block]]:
        """Yield the blocks that go through the network together, but for those that are done.

        Parameters
        ----------
        done : collection of int
            Numbers of blocks; a group is left out if all of its blocks are in it.
        planes : collection of int
            If given, only blocks that hold one of these planes.
        """
        wanted = iter(self.blocks.holding(planes) if planes else self.blocks)
        while group := list(islice(wanted, self.division.batch)):
            if not all(block.number in done for block in group):
                yield group

    def view(self, block: Block) -> View:
        """Read what the network sees to decide on a block; may be called in another thread.

        Raises
        ------
        DataError
            A plane cannot be read.
        """
        network, grid = self.predictor.network, self._rescaled or self._images
        if self._rescaled:
            block = Restoring(self._rescaled, block).block
        return view_block(grid, self.predictor.card, block, self.division.halo, network.divisors)

    def predict(self, blocks: Sequence[Block], views: Sequence[View]) -> list[Tensor]:
        """Return logits `(K, Z, Y, X)` of every block, float32, on the device."""
        logits = self._apply([(image, view.keep) for view in views for image in view.images])
        found = []
        for block, view in zip(blocks, views, strict=True):
            own, logits = logits[: len(view.images)], logits[len(view.images) :]
            block_KZYX = own[0] if own[0].ndim == 4 else torch.stack(own, 1)
            if self._rescaled:
                block_KZYX = Restoring(self._rescaled, block).back(block_KZYX)
            found.append(block_KZYX)
        return found

    def block(self, block: Block) -> Tensor:
        """Return logits `(K, Z, Y, X)` of a block: the same in whatever process, and after whatever others.

        Raises
        ------
        DataError
            A plane cannot be read.
        """
        return self.predict([block], [self.view(block)])[0]

    def _apply(self, seen: Sequence[tuple[np.ndarray, tuple[slice, ...]]]) -> list[Tensor]:
        """Put images through the network, alike ones together; return of each what is to be kept."""
        alike: dict[tuple[object, ...], list[int]] = {}
        for number, (image, keep) in enumerate(seen):
            alike.setdefault((image.shape, *((part.start, part.stop) for part in keep)), []).append(number)
        found: dict[int, Tensor] = {}
        for numbers in alike.values():
            for start in range(0, len(numbers), self.division.batch):
                part = numbers[start : start + self.division.batch]
                images, keep = [seen[number][0] for number in part], seen[part[0]][1]
                logits = self.predictor.apply(images, self.normalization, keep)
                found |= dict(zip(part, logits, strict=True))
        return [found[number] for number in range(len(seen))]

    def stream(
        self, groups: Iterable[list[Block]], before: Callable[[], None] = lambda: None
    ) -> Iterator[list[tuple[Block, Tensor]]]:
        """Yield the blocks of every group with their logits `(K, Z, Y, X)`; the next ones are read meanwhile.

        Parameters
        ----------
        groups : iterable of list of Block
            See `groups`.
        before : callable
            Called before every group; it may raise to break off.

        Raises
        ------
        DataError
            A plane cannot be read.
        """
        waiting = iter(groups)
        ahead: deque[tuple[list[Block], Future[list[View]]]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="reading") as reader:
            try:
                while True:
                    for group in islice(waiting, AHEAD - len(ahead)):
                        ahead.append((group, reader.submit(self._views, group)))
                    if not ahead:
                        return
                    before()
                    group, reading = ahead.popleft()
                    views = reading.result()
                    yield list(zip(group, self.predict(group, views), strict=True))
            finally:
                reader.shutdown(wait=True, cancel_futures=True)

    def _views(self, group: Sequence[Block]) -> list[View]:
        return [self.view(block) for block in group]
