"""A network of another program as a Segmenter: any size in, logits of at least two classes out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional

from segcore.models.foreign.engine import Engine
from segcore.models.segmenter import Segmenter
from segcore.sidecar import Output

GRID = 16
"""Windows lie at multiples of this where they can, so that pooling divides all of them alike."""
TOGETHER = 2**18
"""Pixels of windows that a network of one size sees at once: what it needs for them grows with no image."""


@dataclass(frozen=True)
class Manner:
    """How a network is asked, and what its answer means.

    Parameters
    ----------
    inputs, maps : int
        Channels it takes, and maps it answers.
    dimensions : int
        Axes of an image beside its channels.
    channels_last : bool
        Whether they are its last axis.
    output : {"logits", "probabilities", "sigmoid"}
        What the maps are.
    stretch : tuple of float
        Factor and shift between the normalised image and what the network wants.
    batch : int, optional
        Images it takes at once; None if any.
    window : tuple of int, optional
        Px per axis of a network that takes one size only.
    overlap : tuple of int
        Px per axis at the sides of a window that are not kept, where there is image beyond it.
    steps : tuple of int
        Px per axis that other sizes are multiples of.
    halo : tuple of int
        Px per axis that a pixel reaches.
    is_local : bool
        Whether it is known to reach no further.
    bytes_per_pixel : int
        Memory it needs.
    """

    inputs: int
    maps: int
    dimensions: int
    channels_last: bool
    output: Output
    stretch: tuple[float, float] = (1.0, 0.0)
    batch: int | None = None
    window: tuple[int, ...] | None = None
    overlap: tuple[int, ...] = ()
    steps: tuple[int, ...] = ()
    halo: tuple[int, ...] = ()
    is_local: bool = False
    bytes_per_pixel: int = 0

    @property
    def cell(self) -> tuple[int, ...]:
        """Px per axis that a window keeps."""
        inner = [side - 2 * around for side, around in zip(self.window or (), self.overlap, strict=True)]
        return tuple(side // GRID * GRID or side for side in inner)


class Foreign(Segmenter):
    """A network of another program; it has no weights of its own and cannot be trained.

    One that takes images of a single size is asked window by window: the image is divided into cells, every
    cell is read with what lies around it, and only the cell is kept. At the border of the image the window
    moves inwards instead of being filled up. So a tile of whole cells with a window's length around it is
    predicted as in the whole image.

    It computes in float32 whatever the device could do: it was not made for less.

    Parameters
    ----------
    engine : Engine
        Computes.
    manner : Manner
        How it is asked.
    """

    def __init__(self, engine: Engine, manner: Manner) -> None:
        super().__init__(manner.inputs, max(2, manner.maps))
        self.engine, self.manner = engine, manner
        self.divisors = manner.steps if manner.window is None else manner.cell
        self.receptive_radii = manner.halo if manner.window is None else manner.window
        self.is_local = manner.is_local or manner.window is not None

    def bytes_per_pixel(self, itemsize: int) -> int:
        """Return the memory prediction needs per pixel; numbers have four bytes whatever `itemsize` says."""
        return self.manner.bytes_per_pixel + 4 * (3 * self.classes + 2 * self.channels)

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return nothing: there is nothing to train."""
        return []

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, see `Segmenter.forward`."""
        window = self.manner.window
        if window is None:
            return super().forward(image)
        count = max(self.manner.batch or 1, TOGETHER // math.prod(window))
        return torch.cat([self._windows(part, window) for part in image.split(count)])

    def aligned(self, image: Tensor) -> Tensor:
        """Return the logits of images whose sizes the network takes."""
        return as_logits(ask(self.engine, image, self.manner), self.manner.output)

    def _windows(self, image: Tensor, window: tuple[int, ...]) -> Tensor:
        sizes = image.shape[2:]
        missing = [(0, max(0, side - size)) for side, size in zip(window, sizes, strict=True)]
        filled = functional.pad(
            image, [side for pair in reversed(missing) for side in pair], mode="replicate"
        )
        result = image.new_empty(len(image), self.classes, *filled.shape[2:], dtype=torch.float32)
        axes = [
            _cells(size, side, cell)
            for size, side, cell in zip(filled.shape[2:], window, self.manner.cell, strict=True)
        ]
        for parts in product(*axes):
            read = tuple(
                slice(first, first + side) for (first, _, _), side in zip(parts, window, strict=True)
            )
            keep = tuple(slice(start - first, stop - first) for first, start, stop in parts)
            write = tuple(slice(start, stop) for _, start, stop in parts)
            result[:, :, *write] = self.aligned(filled[:, :, *read])[:, :, *keep]
        return result[:, :, *(slice(size) for size in sizes)]


def _cells(size: int, window: int, cell: int) -> list[tuple[int, int, int]]:
    """Return, along an axis, where every window begins and the part of it that is kept.

    Examples
    --------
    >>> _cells(100, 64, 32)
    [(0, 0, 32), (16, 32, 64), (36, 64, 100)]
    """
    found: list[tuple[int, int, int]] = []
    for start in range(0, size, cell):
        first = min(max(0, start - (window - cell) // 2), size - window)
        begin = start
        if found and found[-1][0] == first:
            begin = found.pop()[1]
        found.append((first, begin, min(start + cell, size)))
    return found


@torch.no_grad()
def ask(engine: Engine, image: Tensor, manner: Manner) -> Tensor:
    """Return the maps of normalised images `B C …`, as they are, float32, channels behind the batch."""
    with torch.autocast(image.device.type, enabled=False):
        given = arranged(image, manner)
        found = torch.cat([engine(part.contiguous()) for part in _batches(given, manner.batch)])
        found = found[: len(image)].float()
        return found.movedim(-1, 1) if manner.channels_last else found


def arranged(image: Tensor, manner: Manner) -> Tensor:
    """Return normalised images `B C …` in the range and with the axes that the network wants."""
    factor, shift = manner.stretch
    given = image.float() if manner.stretch == (1.0, 0.0) else image.float() * factor + shift
    return given.movedim(1, -1) if manner.channels_last else given


def _batches(images: Tensor, count: int | None) -> Sequence[Tensor]:
    """Return images in batches of a size that the network takes; the last one is filled up."""
    if count is None:
        return [images]
    missing = -len(images) % count
    whole = torch.cat([images, images[-1:].expand(missing, *images.shape[1:])]) if missing else images
    return whole.split(count)


def as_logits(maps: Tensor, output: Output) -> Tensor:
    """Return logits of two classes or more whose softmax is what the network means.

    A single map is the foreground: its logit stands against 0, its probability p against 1 - p.

    Examples
    --------
    >>> as_logits(torch.full((1, 1, 1, 1), 0.25), "sigmoid").softmax(1).flatten()
    tensor([0.7500, 0.2500])
    """
    least = torch.finfo(maps.dtype).tiny
    if output != "logits":
        shares = torch.cat([1 - maps, maps], 1) if maps.shape[1] == 1 else maps
        return shares.clamp(min=least).log()
    return torch.cat([torch.zeros_like(maps), maps], 1) if maps.shape[1] == 1 else maps
