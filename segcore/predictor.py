"""From an image plane to logits, probabilities or class indices: the one way a trained network is applied.

Validation during training and segmentation afterwards both go through here, so that they give the same
numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from segcore.card import ModelCard
from segcore.data.normalize import apply_normalization
from segcore.devices import Hardware
from segcore.models.unet import UNet
from segcore.tiling import Tile, align, tile_grid

MEMORY_SHARE = 0.5
"""Share of the free memory that one forward pass may take; the rest is for what the estimate does not see."""


class Predictor:
    """Applies a network to planes of any size.

    A plane goes through the network whole where that fits into memory, else in the largest tiles that fit;
    the result is the same up to rounding (see `segcore.tiling.tile_grid`).

    Parameters
    ----------
    network : UNet
        On `hardware.device`. It may be in training mode: it is put into evaluation mode for each plane, then
        back.
    card : ModelCard
        Gives the normalisation.
    hardware : Hardware
        Device, number format and memory layout.
    tile_size : int, optional
        Side in px of the part a tile owns, rounded up to the network's alignment.
    """

    def __init__(
        self, network: UNet, card: ModelCard, hardware: Hardware, tile_size: int | None = None
    ) -> None:
        self.network = network
        self.card = card
        self.hardware = hardware
        self.tile_size = tile_size

    def tiles(self, height: int, width: int) -> list[Tile]:
        """Return the tiles in which a plane of this size would go through the network now; one if whole."""
        halo = align(self.network.receptive_radius, self.network.divisor)
        side = self.tile_size or self._largest_tile(height, width, halo)
        return tile_grid(height, width, side, halo, self.network.divisor)

    def logits(self, image_CYX: np.ndarray, on_tile: Callable[[int, int], None] | None = None) -> Tensor:
        """Return logits `(K, Y, X)`, float32, on the device.

        Parameters
        ----------
        image_CYX : ndarray
            Plane `(C, Y, X)` in the file's grey values.
        on_tile : callable, optional
            Called after each tile with the number of tiles done and in all. It may raise to break off.

        Raises
        ------
        DataError
            The number of channels is not that of the training images.
        """
        height, width = image_CYX.shape[-2:]
        tiles = self.tiles(height, width)
        plane_CYX = torch.from_numpy(apply_normalization(image_CYX, self.card.normalization))
        was_training = self.network.training
        self.network.eval()
        try:
            with torch.inference_mode(), self.hardware.autocast():
                if len(tiles) == 1:
                    logits_KYX = self._forward(plane_CYX)
                    if on_tile:
                        on_tile(1, 1)
                    return logits_KYX
                logits_KYX = torch.empty(
                    (self.network.classes, height, width), dtype=torch.float32, device=self.hardware.device
                )
                for done, tile in enumerate(tiles, start=1):
                    logits_KYX[:, *tile.write] = self._forward(plane_CYX[:, *tile.read])[:, *tile.keep]
                    if on_tile:
                        on_tile(done, len(tiles))
                return logits_KYX
        finally:
            self.network.train(was_training)

    def probabilities(self, image_CYX: np.ndarray) -> np.ndarray:
        """Return the probability of every class, `(K, Y, X)` float32."""
        return to_probabilities(self.logits(image_CYX))

    def labels(self, image_CYX: np.ndarray) -> np.ndarray:
        """Return the class index of every pixel, `(Y, X)` uint8, or int64 for more than 256 classes."""
        return to_labels(self.logits(image_CYX))

    def _forward(self, plane_CYX: Tensor) -> Tensor:
        layout = self.hardware.memory_format
        batch_BCYX = plane_CYX[None].to(self.hardware.device).contiguous(memory_format=layout)
        return self.network(batch_BCYX)[0].float()

    def _largest_tile(self, height: int, width: int, halo: int) -> int:
        """Return the side of the largest tile whose forward pass fits into memory, at least the alignment."""
        step = self.network.divisor
        pixels = align(height, step) * align(width, step)
        budget = MEMORY_SHARE * self.hardware.free_memory()
        per_pixel = self.network.bytes_per_pixel(self.hardware.dtype.itemsize)
        if pixels * per_pixel <= budget:
            return max(height, width)
        side = math.isqrt(max(0, int(budget / per_pixel))) - 2 * halo
        return max(side // step * step, step)


def to_probabilities(logits_KYX: Tensor) -> np.ndarray:
    """Return the softmax of logits `(K, Y, X)` as a float32 array."""
    return torch.softmax(logits_KYX, 0).cpu().numpy()


def to_labels(logits_KYX: Tensor) -> np.ndarray:
    """Return the most probable class of every pixel, `(Y, X)` uint8, or int64 for more than 256 classes."""
    indices_YX = logits_KYX.argmax(0)
    return (indices_YX.to(torch.uint8) if len(logits_KYX) <= 256 else indices_YX).cpu().numpy()
