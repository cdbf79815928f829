"""Writing predicted blocks in a thread of its own, and noting those that are on disk."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import numpy as np
from torch import Tensor

from segcore.blocks import Block
from segcore.data.manifest import decode_labels
from segcore.inference.partial import Partial
from segcore.inference.sinks import Sink
from segcore.predictor import to_labels, to_probabilities

FLUSH_SECONDS = 5.0
"""How much work a power cut may cost."""
WAITING = 2
"""Blocks that wait to be written; each holds labels and perhaps probabilities."""


@dataclass(frozen=True)
class Decided:
    """What a network says of a block, in main memory.

    Parameters
    ----------
    block : Block
        The block.
    labels_ZYX : ndarray
        Class indices.
    wide_ZKYX : ndarray or None
        Probabilities of every class, where they are asked for.
    """

    block: Block
    labels_ZYX: np.ndarray
    wide_ZKYX: np.ndarray | None

    @classmethod
    def of(cls, block: Block, logits_KZYX: Tensor, wide: bool) -> Decided:
        """Decide by the logits of a block, `wide` with probabilities."""
        probabilities = to_probabilities(logits_KZYX).swapaxes(0, 1) if wide else None
        return cls(block, to_labels(logits_KZYX), probabilities)

    def write(self, labels: Sink, probabilities: Sink | None, values: Sequence[int]) -> list[int]:
        """Write it and return the pixels of every class index.

        Parameters
        ----------
        labels : Sink
            Takes label values.
        probabilities : Sink or None
            Takes the probability of every class.
        values : sequence of int
            Label value of every class index.

        Raises
        ------
        JobError
            The disk is full or gone.
        """
        block, rows, columns = self.block, slice(*self.block.rows), slice(*self.block.columns)
        labels.write(block.planes, rows, columns, decode_labels(self.labels_ZYX, tuple(values)))
        if probabilities and self.wide_ZKYX is not None:
            probabilities.write(block.planes, rows, columns, self.wide_ZKYX)
        return list(np.bincount(self.labels_ZYX.ravel(), minlength=len(values)).tolist())


class Writer:
    """Takes logits of blocks, writes class labels and perhaps probabilities, and notes what is done.

    To be used as a context: leaving it waits until everything is on disk.

    Parameters
    ----------
    partial : Partial
        Is told of the blocks that are on disk.
    labels : Sink
        Takes label values.
    probabilities : Sink or None
        Takes the probability of every class.
    values : sequence of int
        Label value of every class index.
    """

    def __init__(
        self, partial: Partial, labels: Sink, probabilities: Sink | None, values: tuple[int, ...]
    ) -> None:
        self._partial = partial
        self._labels, self._probabilities = labels, probabilities
        self._values = values
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="writing")
        self._waiting: deque[Future[None]] = deque()
        self._written: dict[int, list[int]] = {}
        self._flushed = time.monotonic()

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # After a failure, too: what was predicted and written is kept.
        self._thread.shutdown(wait=True)
        try:
            if kind is None:
                self._wait(0)
        finally:
            try:
                self._flush()
            finally:
                for sink in self._sinks:
                    sink.close()

    def put(self, block: Block, logits_KZYX: Tensor) -> None:
        """Write a block soon.

        Raises
        ------
        JobError
            The disk is full; it may be a block before this one that could not be written.
        """
        found = Decided.of(block, logits_KZYX, wide=self._probabilities is not None)
        self._waiting.append(self._thread.submit(self._write, found))
        self._wait(WAITING)

    @property
    def _sinks(self) -> Sequence[Sink]:
        return [sink for sink in (self._labels, self._probabilities) if sink]

    def _wait(self, most: int) -> None:
        while len(self._waiting) > most:
            self._waiting.popleft().result()

    def _write(self, found: Decided) -> None:
        self._written[found.block.number] = found.write(self._labels, self._probabilities, self._values)
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self._flush()

    def _flush(self) -> None:
        """Make sure that what was written is on disk, and only then say so."""
        if not self._written:
            return
        for sink in self._sinks:
            sink.flush()
        self._partial.note(self._written)
        self._written = {}
        self._flushed = time.monotonic()
