"""Rescaling: an image resampled to the pixel size of the training images, and the result back on its grid.

Any part of either grid can be made on its own, so that memory does not grow with the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segcore.blocks import Block, Slices
from segcore.card import ModelCard, PixelSize
from segcore.data.suitability import SIZE_TOLERANCE, pixel_sizes

Factors = tuple[float, float, float]
"""How many times more planes, rows and columns there will be."""
SAME: Factors = (1.0, 1.0, 1.0)
_LEAST = 1e-12


def scale_factors(there: PixelSize, card: ModelCard) -> Factors:
    """Return the factors from the grid of an image to that of the training images; 1 where it is near."""
    found = {
        axis: here / trained
        for axis, here, trained in pixel_sizes(there, card)
        if abs(here / trained - 1) > SIZE_TOLERANCE
    }
    return found.get("Z", 1.0), found.get("Y", 1.0), found.get("X", 1.0)


@dataclass(frozen=True)
class Taps:
    """How new positions along an axis are mixed from old ones.

    Parameters
    ----------
    first, stop : int
        The old positions that are needed.
    index_NT : Tensor
        For every new position the old ones it is made of, counted from `first`.
    weight_NT : Tensor
        What each of them weighs; they add up to 1.
    """

    first: int
    stop: int
    index_NT: Tensor
    weight_NT: Tensor

    @classmethod
    def of(cls, old: int, new: int, start: int = 0, stop: int | None = None) -> Taps:
        """Return the taps of the new positions `start` to `stop`.

        Linear, with averaging where there are fewer new positions than old ones: the old positions weigh less
        the farther away they are, down to nothing at one step of the coarser grid.

        Examples
        --------
        >>> Taps.of(2, 4, 1, 2).weight_NT
        tensor([[0.7500, 0.2500]])
        """
        ratio = old / new
        reach = max(1.0, ratio)
        centre_N = (np.arange(start, new if stop is None else stop) + 0.5) * ratio - 0.5
        low_N = np.maximum(0, np.floor(centre_N - reach).astype(np.int64) + 1)
        high_N = np.minimum(old - 1, np.ceil(centre_N + reach).astype(np.int64) - 1)
        index_NT = low_N[:, None] + np.arange((high_N - low_N).max() + 1)
        weight_NT = np.maximum(0.0, 1 - np.abs(index_NT - centre_N[:, None]) / reach)
        weight_NT[index_NT > high_N[:, None]] = 0
        weight_NT /= weight_NT.sum(1, keepdims=True)
        first = int(low_N[0])
        near_NT = np.minimum(index_NT, high_N[:, None]) - first
        return cls(first, int(high_N[-1]) + 1, torch.from_numpy(near_NT), torch.from_numpy(weight_NT).float())

    def mix(self, values: Tensor, axis: int) -> Tensor:
        """Return new positions along an axis of `values`, which holds the old ones `first` to `stop`."""
        shape = [1] * values.ndim
        shape[axis] = -1
        index_TN, weight_TN = self.index_NT.T.to(values.device), self.weight_NT.T.to(values.device)
        total = values.index_select(axis, index_TN[0]) * weight_TN[0].view(shape)
        for index_N, weight_N in zip(index_TN[1:], weight_TN[1:], strict=True):
            total += values.index_select(axis, index_N) * weight_N.view(shape)
        return total


class Rescaled:
    """An image on another grid. Satisfies `Slices`; parts are made where they are asked for.

    Parameters
    ----------
    images : Slices
        The image on its own grid.
    factors : tuple of float
        Factors of planes, rows and columns.
    """

    def __init__(self, images: Slices, factors: Factors) -> None:
        self.images = images
        self.channels = images.channels
        sizes = (images.depth, images.height, images.width)
        self.depth, self.height, self.width = (
            max(1, round(size * factor)) for size, factor in zip(sizes, factors, strict=True)
        )
        self.count = images.count // images.depth * self.depth

    def window(self, index: int, rows: slice, columns: slice) -> np.ndarray:
        """Return part of plane `index` as `(C, Y, X)`, float32."""
        images = self.images
        volume, plane = divmod(index, self.depth)
        deep = Taps.of(images.depth, self.depth, plane, plane + 1)
        high = Taps.of(images.height, self.height, *rows.indices(self.height)[:2])
        wide = Taps.of(images.width, self.width, *columns.indices(self.width)[:2])
        start = volume * images.depth
        window = slice(high.first, high.stop), slice(wide.first, wide.stop)
        source_ZCYX = np.stack(
            [images.window(start + source, *window) for source in range(deep.first, deep.stop)]
        )
        mixed_ZCYX = deep.mix(torch.from_numpy(source_ZCYX.astype(np.float32)), 0)
        return wide.mix(high.mix(mixed_ZCYX, 2), 3)[0].numpy()


class Restoring:
    """What must be predicted on another grid to know a block of the image, and the way back.

    Probabilities are resampled, not labels: borders stay smooth, and they still add up to 1.

    Parameters
    ----------
    grid : Rescaled
        The image on the grid of the network.
    block : Block
        Part of the image on its own grid.
    """

    def __init__(self, grid: Rescaled, block: Block) -> None:
        images = grid.images
        volume = block.planes[0] // images.depth
        first = block.planes[0] - volume * images.depth
        self._taps = (
            Taps.of(grid.depth, images.depth, first, first + len(block.planes)),
            Taps.of(grid.height, images.height, *block.rows),
            Taps.of(grid.width, images.width, *block.columns),
        )
        deep, high, wide = self._taps
        start = volume * grid.depth
        self.block = Block(
            block.number,
            range(start + deep.first, start + deep.stop),
            (high.first, high.stop),
            (wide.first, wide.stop),
        )
        """What is to be predicted, on the grid of the network."""

    def back(self, logits_KZYX: Tensor) -> Tensor:
        """Return the logarithms of the probabilities of the block, from logits on the other grid."""
        found = torch.softmax(logits_KZYX, 0)
        for axis, taps in enumerate(self._taps, start=1):
            found = taps.mix(found, axis)
        return found.clamp(min=_LEAST).log()
