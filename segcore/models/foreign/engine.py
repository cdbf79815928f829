"""What every kind of foreign file becomes: something that answers a batch, and what the file says of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from segcore.errors import ModelError
from segcore.models.measured import peak_bytes
from segcore.sidecar import Output


@dataclass(frozen=True)
class Facts:
    """What a file says of its network; None where it does not say it.

    Parameters
    ----------
    inputs : int, optional
        Channels of the input.
    dimensions : int, optional
        Axes beside batch and channels: 2 or 3.
    channels_last : bool, optional
        Whether channels are the last axis.
    sizes : tuple of (int or None), optional
        Px per axis that the network takes; None for an axis along which it takes any.
    batch : int, optional
        Images it takes at once; None if any.
    output : {"logits", "probabilities", "sigmoid"}, optional
        What it answers, where its last operation says so.
    parameters : int
        Numbers that were learned.
    """

    inputs: int | None = None
    dimensions: int | None = None
    channels_last: bool | None = None
    sizes: tuple[int | None, ...] | None = None
    batch: int | None = None
    output: Output | None = None
    parameters: int = 0


class Engine(Protocol):
    """A network of another program."""

    @property
    def facts(self) -> Facts:
        """What its file says."""

    def __call__(self, images: Tensor) -> Tensor:
        """Return what the network answers, float32, on the device of `images`.

        Parameters
        ----------
        images : Tensor
            Float32, contiguous, with the axes as the network has them.
        """

    def peak_bytes(self, images: Tensor) -> int | None:
        """Return the most bytes of numbers that live at once meanwhile; None where nobody can tell."""


class OnTorch(ABC):
    """What engines have in common whose numbers torch computes."""

    @abstractmethod
    def __call__(self, images: Tensor) -> Tensor:
        """Return what the network answers, see `Engine`."""

    def peak_bytes(self, images: Tensor) -> int | None:
        """Return the most bytes of numbers that live at once meanwhile, see `Engine`."""
        return peak_bytes(lambda: self(images), images.device.type)


def pick(answer: Any, name: str, file: str) -> Tensor:
    """Return the output that counts of a network that may have several.

    Parameters
    ----------
    answer : Tensor, mapping or sequence
        What the network answered.
    name : str
        Name of the output, or its number from 0; "" where there is only one.
    file : str
        What the file is called.

    Raises
    ------
    ModelError
        There are several and none is named, or there is none of this name.
    """
    if isinstance(answer, Tensor):
        return answer
    known: dict[str, Any] = {}
    if isinstance(answer, Mapping):
        known = {str(key): value for key, value in answer.items()}
    elif isinstance(answer, Sequence):
        known = {str(number): value for number, value in enumerate(answer)}
    chosen = known.get(name) if name else next(iter(known.values())) if len(known) == 1 else None
    if not isinstance(chosen, Tensor):
        raise ModelError(
            f"{file} has {len(known)} outputs{f', none of them called {name}' if name else ''}.",
            f"Name the one that counts as output_name in its description: {', '.join(known) or 'none'}.",
        )
    return chosen


def layout_of(shape: Sequence[int | None], channels_last: bool | None = None) -> Facts:
    """Return what the shape of an input says; an axis that is free is None.

    Channels are fixed and axes of the image usually free: where only one reading is left, it is taken.

    Parameters
    ----------
    shape : sequence of (int or None)
        Batch, and the rest in either order.
    channels_last : bool, optional
        Where it is known otherwise.

    Examples
    --------
    >>> layout_of([None, None, None, 3]).channels_last
    True
    >>> layout_of([1, 64, 64, 1]).channels_last is None
    True
    """
    batch, *rest = shape
    if channels_last is None and (rest[0] is None) != (rest[-1] is None):
        channels_last = rest[0] is None
    if channels_last is None:
        return Facts(dimensions=len(rest) - 1, batch=batch)
    inputs, sizes = (rest[-1], rest[:-1]) if channels_last else (rest[0], rest[1:])
    return Facts(inputs, len(rest) - 1, channels_last, tuple(sizes), batch)
