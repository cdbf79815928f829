"""What no file says is found by trying: which sizes a network takes, how far it sees, what it answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from segcore.errors import ModelError

STEPS = {2: (1, 2, 4, 8, 16, 32, 64), 3: (1, 2, 4, 8, 16)}
"""What sizes may have to be multiples of; the smallest that suits is taken."""
SIDES = {2: (96, 192, 384), 3: (24, 48, 96)}
"""About how many px wide the images are that are tried."""
STRENGTHS = (1.0, 1.0, 10.0, 10.0)
"""How much the middle of an image is changed to see how far that reaches."""
SEEN = 1e-6
"""Share of the largest number of an answer from which a change counts."""
ALIKE = 1e-4
"""Share of it up to which the answers for shifted images are equal."""
SEED = 20_262_026

Ask = Callable[[Tensor], Tensor]
"""Answers a normalised image `(1, C, …)` with maps `(1, K, …)`."""


@dataclass(frozen=True)
class Reach:
    """How far a pixel reaches.

    Parameters
    ----------
    radii : tuple of int
        Px per axis.
    is_local : bool
        False if it reached the border of the largest image that was tried: then nobody knows.
    """

    radii: tuple[int, ...]
    is_local: bool


class Trial:
    """A network that is tried.

    Parameters
    ----------
    ask : callable
        Asks it.
    inputs, dimensions : int
        Its channels and axes.
    device : torch.device
        Where it computes.
    """

    def __init__(self, ask: Ask, inputs: int, dimensions: int, device: torch.device) -> None:
        self._ask, self._inputs, self._dimensions, self._device = ask, inputs, dimensions, device

    def image(self, sizes: Sequence[int]) -> Tensor:
        """Return an image of noise, the same every time."""
        drawn = torch.Generator().manual_seed(SEED)
        return torch.randn(1, self._inputs, *sizes, generator=drawn).to(self._device)

    def answer(self, image: Tensor) -> Tensor:
        """Return the answer for an image; one map per class and pixel of it.

        Raises
        ------
        ModelError
            The network fails, or its answer is not of the image's size, or holds no numbers.
        """
        sizes = tuple(image.shape[2:])
        text = " × ".join(map(str, sizes))
        try:
            maps = self._ask(image)
        except ModelError:
            raise
        except Exception as error:  # every library fails in its own way
            lines = str(error).strip().splitlines()
            reason = lines[-1][:200] if lines else type(error).__name__
            raise ModelError(f"The network cannot be applied to {text} px: {reason}", SIZES_HELP) from error
        if maps.ndim != image.ndim or tuple(maps.shape[2:]) != sizes:
            shape = " × ".join(map(str, maps.shape))
            raise ModelError(
                f"The network answers {shape} numbers for an image of {self._inputs} channels and {text} px: "
                "it must answer one map per class, of the image's size.",
                "Export it with padded convolutions and with its output scaled up to the image; see "
                "channels_last and output_name in its description, too.",
            )
        if not maps.isfinite().all():
            raise ModelError("The network answers what are no numbers (NaN or infinite).", "Export it again.")
        return maps

    def step(self) -> tuple[int, Reach]:
        """Return what sizes must be multiples of, and how far the network sees.

        An image of a size that the network takes may still be divided by pooling in a way that depends on
        where it begins: the step is right when a shifted image has a shifted answer.

        Raises
        ------
        ModelError
            It takes none of the sizes that were tried.
        """
        failed: ModelError | None = None
        for step in STEPS[self._dimensions]:
            try:
                reach = self.reach((step,) * self._dimensions)
                if not reach.is_local or self._follows(step, reach):
                    return step, reach
            except ModelError as error:
                failed = failed or error
        most = STEPS[self._dimensions][-1]
        raise failed or ModelError(
            f"The answers of the network do not move with the image, by up to {most} px.", SIZES_HELP
        )

    def reach(self, steps: Sequence[int]) -> Reach:
        """Return how far a pixel reaches, of a network that takes multiples of `steps`, per axis.

        Raises
        ------
        ModelError
            It does not take them.
        """
        for side in SIDES[self._dimensions]:
            found = self.reach_within([odd_multiple(side, step) for step in steps], steps)
            if found.is_local:
                break
        return found

    def reach_within(self, sizes: Sequence[int], steps: Sequence[int]) -> Reach:
        """Return how far the middle of an image reaches, and whether that ends before its border."""
        image = self.image(sizes)
        usual = self.answer(image)
        least = SEEN * float(usual.abs().max())
        starts = [size // 2 // step * step for size, step in zip(sizes, steps, strict=True)]
        middle = tuple(slice(start, start + step) for start, step in zip(starts, steps, strict=True))
        changed = torch.zeros(tuple(sizes), dtype=torch.bool, device=usual.device)
        drawn = torch.Generator().manual_seed(SEED + 1)
        for strength in STRENGTHS:
            other = image.clone()
            noise = torch.randn(other[:, :, *middle].shape, generator=drawn)
            other[:, :, *middle] += strength * noise.to(other.device)
            changed |= ((self.answer(other) - usual).abs() > least).any(1)[0]
        radii, is_local = [], True
        for axis, part in enumerate(middle):
            rest = [each for each in range(len(sizes)) if each != axis]
            places = changed.any(dim=rest).nonzero().flatten()
            first, last = (int(places[0]), int(places[-1])) if len(places) else (part.start, part.start)
            is_local &= first > 0 and last < sizes[axis] - 1
            radii.append(max(part.start - first, last - part.stop + 1, 0) + steps[axis] - 1)
        return Reach(tuple(radii), is_local)

    def _follows(self, step: int, reach: Reach) -> bool:
        """Say whether the answer moves with the image, by `step` px along all axes."""
        far = max(reach.radii)
        side = odd_multiple(2 * far + 3 * step + SIDES[self._dimensions][0] // 4, step)
        image = self.image((side + step,) * self._dimensions)
        here = (slice(None), slice(None), *(slice(0, side),) * self._dimensions)
        there = (slice(None), slice(None), *(slice(step, side + step),) * self._dimensions)
        one, other = self.answer(image[here].contiguous()), self.answer(image[there].contiguous())
        inner, moved = slice(step + far, side - far), slice(far, side - far - step)
        left = one[:, :, *(inner,) * self._dimensions]
        right = other[:, :, *(moved,) * self._dimensions]
        return bool((left - right).abs().max() <= ALIKE * one.abs().max())


SIZES_HELP = (
    "If it takes one size only, give it as input_size in its description; if sizes must be multiples of "
    "something, as size_step."
)


def odd_multiple(side: int, step: int) -> int:
    """Return about `side`, an odd multiple of `step`: a network that needs a larger step does not take it.

    Examples
    --------
    >>> odd_multiple(96, 1), odd_multiple(96, 16), odd_multiple(96, 64)
    (97, 112, 192)
    """
    return (math.ceil(side / step) | 1) * step if step < side else 3 * step
