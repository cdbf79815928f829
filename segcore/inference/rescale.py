"""Rescaling: an image resampled to the pixel size of the training images, and the result back on its grid."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from segcore.card import ModelCard, PixelSize
from segcore.data.suitability import SIZE_TOLERANCE, pixel_sizes
from segcore.pieces import Slices

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


class Rescaled:
    """An image on another grid, resampled linearly, with averaging where it becomes smaller.

    Satisfies `Slices`; planes are made where they are asked for.

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
        self._mixes = linear_mixes(images.depth, self.depth)
        self._kept: dict[int, Tensor] = {}

    def read(self, index: int) -> np.ndarray:
        """Return plane `index` as `(C, Y, X)`, float32."""
        volume, plane = divmod(index, self.depth)
        first, weights = self._mixes[plane]
        sources = [volume * self.images.depth + first + number for number in range(len(weights))]
        self._kept = {source: self._in_plane(source) for source in sources}
        mixed = sum(weight * self._kept[source] for weight, source in zip(weights, sources, strict=True))
        assert isinstance(mixed, Tensor)
        return mixed.numpy()

    def _in_plane(self, source: int) -> Tensor:
        if source in self._kept:
            return self._kept[source]
        plane_CYX = torch.from_numpy(self.images.read(source).astype(np.float32))
        return resized(plane_CYX, self.height, self.width)


def restored(predicted: Iterator[tuple[int, Tensor]], grid: Rescaled) -> Iterator[tuple[int, Tensor]]:
    """Yield every plane of the original image and the logarithms of its probabilities `(K, Y, X)`.

    Probabilities are resampled, not labels: borders stay smooth, and they still add up to 1. Their logarithms
    serve as logits. A plane is left out if one it is made of was.

    Parameters
    ----------
    predicted : iterator of (int, Tensor)
        Planes on the grid of the network in ascending order, with their logits.
    grid : Rescaled
        That grid.
    """
    images = grid.images
    mixes = linear_mixes(grid.depth, images.depth)
    kept: dict[int, Tensor] = {}
    following = 0
    for index, logits_KYX in predicted:
        kept[index] = resized(torch.softmax(logits_KYX, 0), images.height, images.width)
        while following < images.count:
            volume, plane = divmod(following, images.depth)
            first, weights = mixes[plane]
            start = volume * grid.depth + first
            sources = range(start, start + len(weights))
            if sources[-1] > index:
                break
            kept = {number: found for number, found in kept.items() if number >= start}
            if all(source in kept for source in sources):
                mixed = sum(weight * kept[source] for weight, source in zip(weights, sources, strict=True))
                assert isinstance(mixed, Tensor)
                yield following, mixed.clamp(min=_LEAST).log()
            following += 1


def resized(image_CYX: Tensor, height: int, width: int) -> Tensor:
    """Return an image with other numbers of rows and columns: linear, averaging where it becomes smaller."""
    if image_CYX.shape[-2:] == (height, width):
        return image_CYX
    return functional.interpolate(
        image_CYX[None], (height, width), mode="bilinear", align_corners=False, antialias=True
    )[0]


def linear_mixes(old: int, new: int) -> list[tuple[int, list[float]]]:
    """Return for every new position along an axis the first old one and the weights from there on.

    The same rule as within a plane: the old positions weigh less the farther away they are, down to nothing
    at one step of the coarser grid.

    Examples
    --------
    >>> linear_mixes(2, 4)[1]
    (0, [0.75, 0.25])
    """
    ratio = old / new
    reach = max(1.0, ratio)
    found = []
    for position in range(new):
        centre = (position + 0.5) * ratio - 0.5
        first, last = max(0, math.floor(centre - reach) + 1), min(old - 1, math.ceil(centre + reach) - 1)
        weights = [1 - abs(at - centre) / reach for at in range(first, last + 1)]
        found.append((first, [weight / sum(weights) for weight in weights]))
    return found
