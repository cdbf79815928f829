"""The head of networks that answer whole objects: their one map holds the number of every pixel's object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import torch
from torch import Tensor

from segcore.errors import ConfigError
from segcore.postprocess.objects import clean, numbered
from segcore.postprocess.ranges import check_range
from segcore.postprocess.stitch import Joiner
from segcore.postprocess.terms import Total, alone, annotated
from segcore.tiling import Tile


@dataclass(frozen=True)
class MaskDecoding:
    """What of the answered objects is kept.

    Parameters
    ----------
    least : int
        Fewest px of an object, 1 to 1e9.
    """

    least: int = 1

    def __post_init__(self) -> None:
        """Raise `ConfigError` where an option is out of its range."""
        check_range("least", self.least, 1, 1e9)


@dataclass(frozen=True)
class MaskHead:
    """Numbers of objects, made by the network itself; satisfies `InstanceHead`.

    The numbers of two images, or of two networks, mean nothing to each other: nothing can be averaged.
    Numbers have no gradient either; what is learned from is the loss of the network.

    Parameters
    ----------
    dimensions : int
        2: the networks there are answer planes.
    """

    dimensions: int = 2

    def __post_init__(self) -> None:
        """Raise `ConfigError` where a field is out of its range."""
        check_range("dimensions", self.dimensions, 2, 2)

    @property
    def channels(self) -> int:
        """Maps that the network must answer."""
        return 1

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Return numbers 1 … n, 0 and IGNORE, `(1, Y, X)`; float32 holds 16 million of them."""
        return numbered(labels)[0][None].astype(np.float32)

    def loss(self, output: Tensor, target: Tensor, total: Total = alone) -> Tensor:
        """Return 1 - Dice of where objects are: of an answer without a gradient all that can be said."""
        known = annotated(target)
        found, there = self.inside(output) & known, (target[:, 0] > 0) & known
        both = total((found & there).sum())
        size = total(found.sum()) + total(there.sum())
        return 1 - torch.where(size > 0, 2 * both / size.clamp(min=1), 1.0)

    def activate(self, output: Tensor) -> Tensor:
        """Return the numbers."""
        return output.float()

    def inside(self, maps: Tensor) -> Tensor:
        """Return where there is a number; see `InstanceHead`."""
        return maps[:, 0] > 0

    def ideal(self, target: np.ndarray) -> np.ndarray:
        """Return the target; what nobody annotated is background."""
        return np.maximum(target, 0)

    def flip(self, maps: np.ndarray, axis: int) -> NoReturn:
        """Refuse: the objects of a reversed image have other numbers.

        Raises
        ------
        ConfigError
            Always.
        """
        raise ConfigError(
            "inference.flips cannot be used with a network that answers whole objects: it numbers those of a "
            "reversed image in another way, and numbers cannot be averaged.",
            "Switch inference.flips off.",
        )

    def decode(self, maps: np.ndarray, options: MaskDecoding | None = None) -> np.ndarray:
        """Return the objects; see `InstanceHead`."""
        return clean(np.rint(maps[0]).astype(np.int32), (options or MaskDecoding()).least, fill=False)


def joined(tiles: Sequence[Tile], found: Callable[[int, Tile], Tensor]) -> Tensor:
    """Return the numbers `(1, Y, X)`, float32, of an image that its network saw in tiles.

    Objects are one where two tiles agree about what both have seen, see `Joiner`.

    Parameters
    ----------
    tiles : sequence of Tile
        All tiles of the image, in the order of `tile_grid`.
    found : callable
        From the number of a tile, counted from 1, and the tile to the numbers `(1, y, x)` of what it reads.
    """
    joiner = Joiner(tiles)
    height, width = (max(tile.spans[axis].stop for tile in tiles) for axis in (0, 1))
    numbers, device = np.zeros((height, width), np.int64), torch.device("cpu")
    for at, tile in enumerate(tiles):
        answer = found(at + 1, tile)
        device = answer.device
        numbers[tile.write] = joiner.add(at, np.rint(answer[0].cpu().numpy()).astype(np.int64))
    return torch.from_numpy(joiner.table()[numbers].astype(np.float32))[None].to(device)
