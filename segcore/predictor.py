"""From an image to logits, probabilities or class indices: the one way a trained network is applied.

Validation during training and segmentation afterwards both go through here, so that they give the same
numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from segcore.card import ModelCard, Normalization
from segcore.data.normalize import apply_normalization
from segcore.devices import Hardware
from segcore.errors import DataError
from segcore.models.unet import UNet
from segcore.tiling import Tile, align, tile_grid

MEMORY_SHARE = 0.5
"""Share of the free memory that one forward pass may take; the rest is for what the estimate does not see."""


LEAST_USEFUL = 0.02
"""Least share of a block of a volume that is kept; see `Predictor._plan`."""


class Predictor:
    """Applies a network to images of any size.

    An image goes through the network whole where that fits into memory, else in the largest tiles that fit;
    the result is the same up to rounding (see `segcore.tiling.tile_grid`). Only where memory is very short
    for a volume, its blocks see less around them than they could (`is_exact`).

    Parameters
    ----------
    network : UNet
        On `hardware.device`. It may be in training mode: it is put into evaluation mode for each image, then
        back.
    card : ModelCard
        Gives the normalisation.
    hardware : Hardware
        Device, number format and memory layout.
    tile_size : int, optional
        Side in px of the part a tile owns in plane, rounded up to the network's alignment.
    """

    def __init__(
        self, network: UNet, card: ModelCard, hardware: Hardware, tile_size: int | None = None
    ) -> None:
        self.network = network
        self.card = card
        self.hardware = hardware
        self.tile_size = tile_size

    def tiles(self, *shape: int) -> list[Tile]:
        """Return the tiles in which an image of this size would go through the network now; one if whole.

        Parameters
        ----------
        *shape : int
            Rows and columns, in 3d planes before them.
        """
        owned, halo = self._plan(shape)
        return tile_grid(shape, owned, halo, self.network.divisors)

    def is_exact(self, *shape: int) -> bool:
        """Say whether tiles of an image of this size read all that the network can see around them."""
        return self._plan(shape)[1] == self.network.receptive_radii

    def logits(
        self,
        image: np.ndarray,
        on_tile: Callable[[int, int], None] | None = None,
        normalization: Normalization | None = None,
    ) -> Tensor:
        """Return logits `(K, Y, X)`, in 3d `(K, Z, Y, X)`, float32, on the device.

        Parameters
        ----------
        image : ndarray
            In the file's grey values: a plane `(C, Y, X)`, in 3d planes `(C, Z, Y, X)`, in 2.5d the slices
            seen together one behind the other `(slices · C, Y, X)`, all channels of the first slice first.
        on_tile : callable, optional
            Called after each tile with the number of tiles done and in all. It may raise to break off.
        normalization : Normalization, optional
            The image's own, where every image has one; by default the model's.

        Raises
        ------
        DataError
            The number of channels is not that of the training images.
        """
        ready = torch.from_numpy(self._prepared(image, normalization or self.card.normalization))
        shape = ready.shape[1:]
        tiles = self.tiles(*shape)
        was_training = self.network.training
        self.network.eval()
        try:
            with torch.inference_mode(), self.hardware.autocast():
                if len(tiles) == 1:
                    logits = self._forward(ready)
                    if on_tile:
                        on_tile(1, 1)
                    return logits
                logits = torch.empty(
                    (self.network.classes, *shape), dtype=torch.float32, device=self.hardware.device
                )
                for done, tile in enumerate(tiles, start=1):
                    logits[:, *tile.write] = self._forward(ready[:, *tile.read])[:, *tile.keep]
                    if on_tile:
                        on_tile(done, len(tiles))
                return logits
        finally:
            self.network.train(was_training)

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """Return the probability of every class, `(K, Y, X)` or `(K, Z, Y, X)`, float32."""
        return to_probabilities(self.logits(image))

    def labels(self, image: np.ndarray) -> np.ndarray:
        """Return the class index of every pixel, uint8, or int64 for more than 256 classes."""
        return to_labels(self.logits(image))

    def _prepared(self, image: np.ndarray, normalization: Normalization) -> np.ndarray:
        """Return the image normalised, channels first; statistics are those of a channel, in every slice."""
        if image.ndim != self.network.dimensions + 1 or len(image) != self.network.channels:
            raise DataError(
                f"The image has {len(image)} channels and {image.ndim - 1} axes; the network takes "
                f"{self.network.channels} channels and {self.network.dimensions} axes.",
                "Use an image with the same channels as the training images.",
            )
        if self.network.dimensions == 3:
            normal_ZCYX = apply_normalization(image.transpose(1, 0, 2, 3), normalization)
            return np.ascontiguousarray(normal_ZCYX.transpose(1, 0, 2, 3))
        channels = len(normalization.offset)
        if len(image) % channels:
            return apply_normalization(image, normalization)  # which says that they do not fit
        slices_SCYX = image.reshape(-1, channels, *image.shape[1:])
        return apply_normalization(slices_SCYX, normalization).reshape(image.shape)

    def _forward(self, image: Tensor) -> Tensor:
        layout = self.hardware.layout(self.network.dimensions)
        batch = image[None].to(self.hardware.device).contiguous(memory_format=layout)
        return self.network(batch)[0].float()

    def _plan(self, shape: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return per axis the px a tile owns and reads around it: the whole image, or the best that fits."""
        network = self.network
        room = int(
            MEMORY_SHARE * self.hardware.free_memory() / network.bytes_per_pixel(self.hardware.dtype.itemsize)
        )
        radii = network.receptive_radii
        whole = [align(size, divisor) for size, divisor in zip(shape, network.divisors, strict=True)]
        if self.tile_size is None and math.prod(whole) <= room:
            return tuple(shape), radii
        if network.dimensions == 2:
            side = self.tile_size or _largest_side(
                room, align(network.receptive_radius, network.divisor), network.divisor
            )
            return (side, side), radii
        # What a voxel sees grows with the third power: where so little memory is left that nearly all of it
        # goes into the halo, less is read. The far ends of the receptive field have next to no weight (Luo et
        # al. 2016), and a volume that takes days helps nobody.
        for share in (1, 2, 4, 8):
            halo = tuple(radius // share for radius in radii)
            useful, owned = self._block(room, whole, halo)
            if useful >= LEAST_USEFUL:
                break
        return owned, halo

    def _block(
        self, room: int, whole: Sequence[int], halo: Sequence[int]
    ) -> tuple[float, tuple[int, int, int]]:
        """Return the share of a block of a volume that is no halo, and planes, rows and columns it owns."""
        steps = self.network.divisors
        step, around = max(steps[1:]), align(max(halo[1:]), max(steps[1:]))
        deep_around = align(halo[0], steps[0])
        best, choice = 0.0, (steps[0], self.tile_size or step, self.tile_size or step)
        for depth in range(whole[0], 0, -steps[0]):
            read_depth = min(whole[0], depth + 2 * deep_around)
            side = self.tile_size or _largest_side(room // read_depth, around, step)
            if self.tile_size is None and read_depth * math.prod(whole[1:]) <= room:
                side = max(whole[1:])  # all rows and columns: there is no halo in plane
            sides = [min(size, side) for size in whole[1:]]
            read = [min(size, side + 2 * around) for size in whole[1:]]
            useful = depth * math.prod(sides) / (read_depth * math.prod(read))
            if math.prod(read) * read_depth <= room and useful > best:
                best, choice = useful, (depth, sides[0], sides[1])
        return best, choice


def _largest_side(room: int, halo: int, step: int) -> int:
    """Return the side of the largest square that fits with its halo into `room` px, at least `step`."""
    side = math.isqrt(max(0, room)) - 2 * halo
    return max(side // step * step, step)


def to_probabilities(logits: Tensor) -> np.ndarray:
    """Return the softmax of logits `(K, …)` as a float32 array."""
    return torch.softmax(logits, 0).cpu().numpy()


def to_labels(logits: Tensor) -> np.ndarray:
    """Return the most probable class of every pixel, uint8, or int64 for more than 256 classes."""
    indices = logits.argmax(0)
    return (indices.to(torch.uint8) if len(logits) <= 256 else indices).cpu().numpy()
