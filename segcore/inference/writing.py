"""Writing predicted blocks in a thread of its own, and noting those that are on disk."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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
        labels_ZYX = to_labels(logits_KZYX)
        wide_ZKYX = to_probabilities(logits_KZYX).swapaxes(0, 1) if self._probabilities else None
        self._waiting.append(self._thread.submit(self._write, block, labels_ZYX, wide_ZKYX))
        self._wait(WAITING)

    @property
    def _sinks(self) -> Sequence[Sink]:
        return [sink for sink in (self._labels, self._probabilities) if sink]

    def _wait(self, most: int) -> None:
        while len(self._waiting) > most:
            self._waiting.popleft().result()

    def _write(self, block: Block, labels_ZYX: np.ndarray, wide_ZKYX: np.ndarray | None) -> None:
        rows, columns = slice(*block.rows), slice(*block.columns)
        self._labels.write(block.planes, rows, columns, decode_labels(labels_ZYX, self._values))
        if self._probabilities and wide_ZKYX is not None:
            self._probabilities.write(block.planes, rows, columns, wide_ZKYX)
        pixels_K = np.bincount(labels_ZYX.ravel(), minlength=len(self._values))
        self._written[block.number] = pixels_K.tolist()
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
