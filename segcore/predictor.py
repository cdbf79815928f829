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


class Predictor:
    """Applies a network to images of any size.

    An image goes through the network whole where that fits into memory, else in the largest tiles that fit;
    the result is the same up to rounding (see `segcore.tiling.tile_grid`).

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
        return tile_grid(shape, self._owned(shape), self.network.receptive_radii, self.network.divisors)

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

    def _owned(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Return how many px a tile owns along every axis: the whole image, or the best that fits."""
        network = self.network
        room = int(
            MEMORY_SHARE * self.hardware.free_memory() / network.bytes_per_pixel(self.hardware.dtype.itemsize)
        )
        step, halo = network.divisor, align(network.receptive_radius, network.divisor)
        whole = [align(size, divisor) for size, divisor in zip(shape, network.divisors, strict=True)]
        if self.tile_size is None and math.prod(whole) <= room:
            return tuple(shape)
        if network.dimensions == 2:
            side = self.tile_size or _largest_side(room, halo, step)
            return side, side
        return self._owned_block(room, shape)

    def _owned_block(self, room: int, shape: Sequence[int]) -> tuple[int, ...]:
        """Return the planes, rows and columns a tile owns that waste least on the halo."""
        network = self.network
        step, halo = network.divisor, align(network.receptive_radius, network.divisor)
        deep_step = network.divisors[0]
        deep_halo = align(network.receptive_radii[0], deep_step)
        whole = align(shape[0], deep_step)
        best, choice = -1.0, (deep_step, step, step)
        for depth in range(whole, 0, -deep_step):
            read_depth = min(whole, depth + 2 * deep_halo)
            side = self.tile_size or _largest_side(room // read_depth, halo, step)
            sides = [min(align(size, step), side) for size in shape[1:]]
            read = [min(align(size, step), side + 2 * halo) for size in shape[1:]]
            if math.prod(read) * read_depth > room:
                continue
            useful = depth / read_depth * math.prod(sides) / math.prod(read)
            if useful > best:
                best, choice = useful, (depth, sides[0], sides[1])
        if best < 0 and self.tile_size:
            return deep_step, self.tile_size, self.tile_size
        return choice


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
