"""Making the next batch while a step computes, where its patches come from disk."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor]
Make = Callable[[Tensor, torch.Generator], Batch]
"""Makes the batch of some units with the random numbers of a generator."""


@dataclass(frozen=True)
class _Coming:
    """A batch that is being made."""

    unit_B: Tensor
    before: Tensor
    """State of the generator from which it is made."""
    generator: torch.Generator
    batch: Future[Batch]


class Ahead:
    """Makes batches in a thread, one at a time.

    Random numbers are those of a batch made when it is asked for: what was made ahead counts only if nobody
    else has drawn in between. So a checkpoint never knows of it, and memory holds one batch more.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._coming: _Coming | None = None

    def begin(self, make: Make, unit_B: Tensor, generator: torch.Generator) -> None:
        """Begin to make the batch that will probably be asked for next."""
        before, own = generator.get_state(), torch.Generator()
        own.set_state(before)
        self._coming = _Coming(unit_B, before, own, self._thread.submit(make, unit_B, own))

    def take(self, make: Make, unit_B: Tensor, generator: torch.Generator) -> Batch:
        """Return the batch of these units; `generator` is then where making it leaves it.

        Raises
        ------
        DataError
            A file cannot be read.
        """
        coming, self._coming = self._coming, None
        if coming is None:
            return make(unit_B, generator)
        if not torch.equal(coming.unit_B, unit_B) or not torch.equal(coming.before, generator.get_state()):
            coming.batch.cancel()
            return make(unit_B, generator)
        batch = coming.batch.result()
        generator.set_state(coming.generator.get_state())
        return batch
