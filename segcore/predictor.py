"""From an image to logits, probabilities or class indices: the one way a trained network is applied.

Validation during training and segmentation afterwards both go through here, so that they give the same
numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from segcore.card import ModelCard, Normalization
from segcore.data.normalize import prepared
from segcore.data.volumes import class_indices
from segcore.devices import Hardware
from segcore.errors import DataError
from segcore.estimate import MEMORY_SHARE, MOST_ON_CPU
from segcore.models.folded import Folded
from segcore.models.on_openvino import OnOpenVino, require_openvino
from segcore.models.plain import Plain
from segcore.models.segmenter import Segmenter
from segcore.models.unet import UNet
from segcore.postprocess.heads import decoding_of, head_of
from segcore.postprocess.masks import MaskHead, joined
from segcore.tiling import Tile, align, tile_grid

LEAST_USEFUL = 0.02
"""Least share of a block of a volume that is kept; see `Predictor.plan`."""
BATCH_PIXELS = {"cpu": 2**18, "cuda": 2**23, "mps": 2**21}
"""Pixels that keep a device busy: smaller images or tiles go through the network together."""


@dataclass(frozen=True)
class Plan:
    """How an image goes through the network.

    Parameters
    ----------
    owned : tuple of int
        Per axis the px that a tile owns: rows and columns, in 3d planes before them.
    halo : tuple of int
        Per axis the px that it reads around them at least.
    batch : int
        Images or tiles of equal shape that go through the network together at most.
    """

    owned: tuple[int, ...]
    halo: tuple[int, ...]
    batch: int = 1


class Predictor:
    """Applies a network to images of any size.

    An image goes through the network whole where that fits into memory, else in the largest tiles that fit;
    the result is the same up to rounding (see `segcore.tiling.tile_grid`). Only where memory is very short
    for a volume, its blocks see less around them than they could, and so do all tiles for a network that
    looks at the whole image (`is_exact`); one that compares all pixels of it gets no larger ones at all.

    Parameters
    ----------
    network : Segmenter
        On `hardware.device`. It is not changed and may be in training mode: what is applied is made from it
        (`segcore.models.folded`) and made anew when its weights have changed.
    card : ModelCard
        Gives the normalisation.
    hardware : Hardware
        Device, number format and memory layout.
    tile_size : int, optional
        Side in px of the part a tile owns in plane, rounded up to the network's alignment.
    backend : {"torch", "openvino"}
        What computes the U-Net on a CPU; all other families are computed by torch.

    Raises
    ------
    ConfigError
        OpenVINO is not installed.
    """

    def __init__(
        self,
        network: Segmenter,
        card: ModelCard,
        hardware: Hardware,
        tile_size: int | None = None,
        backend: Literal["torch", "openvino"] = "torch",
    ) -> None:
        self.network = network
        self.card = card
        self.hardware = hardware
        self.tile_size = tile_size
        self.head = head_of(card)
        self.decoding = decoding_of(card)
        self.answers = isinstance(self.head, MaskHead)
        """Whether the network numbers objects itself; those of two tiles are then joined."""
        self._openvino = backend == "openvino" and hardware.device.type == "cpu"
        if self._openvino:
            require_openvino()
        self._folded: Folded | OnOpenVino | Plain
        self._seen: tuple[object, ...] | None = None

    def tiles(self, *shape: int) -> list[Tile]:
        """Return the tiles in which an image of this size would go through the network now; one if whole.

        Parameters
        ----------
        *shape : int
            Rows and columns, in 3d planes before them.
        """
        plan = self.plan(*shape)
        return tile_grid(shape, plan.owned, plan.halo, self.network.divisors)

    def plan(self, *shape: int) -> Plan:
        """Return how an image of this size goes through the network now: whole, or in the best tiles.

        Parameters
        ----------
        *shape : int
            Rows and columns, in 3d planes before them.
        """
        room = self._room()
        radii = self.network.receptive_radii
        whole = [align(size, step) for size, step in zip(shape, self.network.divisors, strict=True)]
        if self.tile_size is None and math.prod(whole) <= room:
            return Plan(tuple(shape), radii, self._batch(whole, room))
        if self.network.dimensions == 2:
            step = self.network.divisor
            around = align(self.network.receptive_radius, step)
            side = self.tile_size or _largest_side(room, around, step)
            read = [min(size, align(side, step) + 2 * around) for size in whole]
            return Plan((side, side), radii, self._batch(read, room))
        # What a voxel sees grows with the third power: where so little memory is left that nearly all of it
        # goes into the halo, less is read. The far ends of the receptive field have next to no weight (Luo et
        # al. 2016), and a volume that takes days helps nobody.
        for share in (1, 2, 4, 8):
            halo = tuple(radius // share for radius in radii)
            useful, owned = self._block(room, whole, halo)
            if useful >= LEAST_USEFUL:
                break
        return Plan(owned, halo)

    def is_exact(self, *shape: int) -> bool:
        """Say whether tiles of an image of this size read all that the network can see around them."""
        if not self.network.is_local:
            return len(self.tiles(*shape)) == 1
        return self.plan(*shape).halo == self.network.receptive_radii

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
        self._check(image)
        shape = image.shape[1:]
        tiles = self.tiles(*shape)
        if len(tiles) == 1:
            logits = self._predict([image], normalization, None)[0]
            if on_tile:
                on_tile(1, 1)
            return logits

        def found(number: int, tile: Tile) -> Tensor:
            part = self._predict([image[:, *tile.read]], normalization, None if self.answers else tile.keep)
            if on_tile:
                on_tile(number, len(tiles))
            return part[0]

        if self.answers:
            return joined(tiles, found)
        logits = torch.empty((self.network.classes, *shape), dtype=torch.float32, device=self.hardware.device)
        for number, tile in enumerate(tiles, start=1):
            logits[:, *tile.write] = found(number, tile)
        return logits

    def apply(
        self,
        images: Sequence[np.ndarray],
        normalization: Normalization | None = None,
        keep: Sequence[slice] | None = None,
    ) -> list[Tensor]:
        """Return the logits of images of one size that go through the network together, whole.

        Parameters
        ----------
        images : sequence of ndarray
            See `logits`. Not more than `plan` says: nothing is cut into tiles here.
        normalization : Normalization, optional
            The images' own, where every image has one; by default the model's.
        keep : sequence of slice, optional
            The rows and columns (in 3d planes before them) that are wanted: what only the rest would need is
            not computed.

        Returns
        -------
        list of Tensor
            Of every image `(K, Y, X)`, in 3d `(K, Z, Y, X)`, float32, on the device.

        Raises
        ------
        DataError
            The number of channels is not that of the training images.
        """
        for image in images:
            self._check(image)
        return list(self._predict(images, normalization, keep))

    def probabilities(self, image: np.ndarray) -> np.ndarray:
        """Return the probability of every class, `(K, Y, X)` or `(K, Z, Y, X)`, float32."""
        return to_probabilities(self.logits(image))

    def labels(self, image: np.ndarray) -> np.ndarray:
        """Return the class index of every pixel, uint8, or int64 for more than 256 classes."""
        return self.indices(self.logits(image))

    def indices(self, logits: Tensor, keep: Sequence[slice | int] = ()) -> np.ndarray:
        """Return the class index of every pixel in `keep`; where objects are learned, 1 in all of them."""
        if self.head is None:
            return to_labels(logits[:, *keep])
        return class_indices(self.objects(logits)).astype(np.uint8)[tuple(keep)]

    def objects(self, output: Tensor) -> np.ndarray:
        """Return objects 1 … n, int32, of what a network that learned them says of an image or volume."""
        assert self.head is not None
        return self.head.decode(self.maps(output), self.decoding)

    def maps(self, output: Tensor) -> np.ndarray:
        """Return what the output means to the head that makes objects of it, float32."""
        assert self.head is not None
        return self.head.activate(output[None])[0].cpu().numpy()

    def _check(self, image: np.ndarray) -> None:
        if image.ndim != self.network.dimensions + 1 or len(image) != self.network.channels:
            raise DataError(
                f"The image has {len(image)} channels and {image.ndim - 1} axes; the network takes "
                f"{self.network.channels} channels and {self.network.dimensions} axes.",
                "Use an image with the same channels as the training images.",
            )

    @torch.inference_mode()
    def _predict(
        self,
        images: Sequence[np.ndarray],
        normalization: Normalization | None,
        keep: Sequence[slice] | None,
    ) -> Tensor:
        """Return logits `(B, K, …)` of images of one size; of `keep` only, if given."""
        statistics, solid = normalization or self.card.normalization, self.network.dimensions == 3
        ready = torch.from_numpy(np.stack([prepared(image, statistics, solid) for image in images]))
        return self._made()(ready.to(self.hardware.device), keep)

    def refresh(self) -> None:
        """Look at the network anew; needed only where its weights change unseen, as in a CUDA graph."""
        self._seen = None

    def _made(self) -> Folded | OnOpenVino | Plain:
        """Return the network made for prediction, anew if its weights have changed."""
        weights = [*self.network.parameters(), *self.network.buffers()]
        seen = (
            self.hardware,
            *((weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights),
        )
        if seen != self._seen:
            layout, dtype = self.hardware.layout(self.network.dimensions), self.hardware.dtype
            if not isinstance(self.network, UNet):
                self._folded = Plain(self.network, self.hardware)
            elif self._openvino:
                self._folded = OnOpenVino(self.network, dtype)
            else:
                self._folded = Folded(self.network, dtype, layout)
            self._seen = seen
        return self._folded

    def _room(self) -> int:
        """Return how many px may go through the network at once."""
        room = MEMORY_SHARE * self.hardware.free_memory()
        network = self.network
        if self.hardware.device.type == "cpu" and not self.answers:
            # Where a pixel takes kilobytes, less than all memory would leave tiles that are nearly all halo.
            side = 4 * align(network.receptive_radius, network.divisor) if network.dimensions == 2 else 0
            room = min(room, max(MOST_ON_CPU, side**2 * network.bytes_per_pixel(4)))
        # Kernels of some devices count the numbers of a tensor in 32 bits.
        maps = 2 * network.features if isinstance(network, UNet) else network.bytes_per_pixel(2) // 2
        most = 2**31 // maps
        fits = int(room / network.bytes_per_pixel(self.hardware.dtype.itemsize))
        return min(fits, most, network.most_pixels())

    def _batch(self, read: Sequence[int], room: int) -> int:
        """Return how many images or tiles that are read in this size go through the network together."""
        return max(1, min(room, BATCH_PIXELS[self.hardware.device.type]) // math.prod(read))

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
    indices = most_probable(logits)
    return (indices.to(torch.uint8) if len(logits) <= 256 else indices).cpu().numpy()


def most_probable(logits: Tensor) -> Tensor:
    """Return the class index `(…)`, int64, of every pixel of logits `(K, …)`."""
    return logits.max(0).indices  # argmax over the first axis takes ten times as long on a CPU
