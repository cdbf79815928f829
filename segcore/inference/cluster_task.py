"""What a worker of a cluster does: open a model and an image once, predict groups of blocks, write them."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from distributed import Worker, get_worker

from segcore.config import RunConfig
from segcore.devices import Hardware, choose, versions
from segcore.ensemble import build_predictor
from segcore.errors import JobError
from segcore.inference.applied import Applied
from segcore.inference.assignment import Assignment, Result
from segcore.inference.sinks import Sink, reopen_sink
from segcore.inference.writing import Decided
from segcore.models.saved import find_model, load_model
from segcore.prediction import Prediction

IDLE_SECONDS = 600.0
"""How long a worker keeps what it has open for a job that asks for nothing: its leader may have died."""
_benches: WeakKeyDictionary[Worker, dict[str, Bench]] = WeakKeyDictionary()
_among_benches = threading.Lock()


@dataclass
class _Opened:
    """An image that a worker has open."""

    key: str
    prediction: Prediction
    values: tuple[int, ...]
    labels: Sink
    wide: Sink | None

    def close(self) -> None:
        for sink in (self.labels, self.wide):
            if sink:
                sink.close()


class Bench:
    """Where a worker keeps what it has open for one job: made when the job first asks, gone when it leaves.

    A worker of several Dask threads reads a group, computes one and writes one at the same time.
    The number of torch's threads changes the last bits of a result here and there, in bf16 few.

    Parameters
    ----------
    worker : Worker
        Whose it is.
    threads : int or None
        Threads for torch; None: those of the worker, or OMP_NUM_THREADS where that is more.
    """

    def __init__(self, worker: Worker, threads: int | None) -> None:
        self._worker = str(worker.name)
        # Dask's nannies set 1 where nobody has decided it, for numpy's sake.
        told = os.environ.get("OMP_NUM_THREADS", "")
        self._threads = threads or max(worker.state.nthreads, int(told) if told.isdigit() else 1)
        self._number = worker.name if isinstance(worker.name, int) else None
        self._opening, self._reading = threading.Lock(), threading.Lock()
        self._computing, self._writing = threading.Lock(), threading.Lock()
        self._applied: Applied | None = None
        self._opened: _Opened | None = None
        self.halted = ""
        self.at_work = 0
        """Groups that are at work on it; counted under the lock of all benches."""
        self.left_off = time.monotonic()
        """When the last one ended."""
        self.watch: threading.Timer | None = None

    def close(self) -> None:
        """Let go of the files and the model."""
        if self.watch:
            self.watch.cancel()
        with self._writing:
            if self._opened:
                self._opened.close()
            self._opened = self._applied = None

    def predict(self, assignment: Assignment, numbers: Sequence[int]) -> Result:
        """Predict blocks that go through the network together, and write them to the disk.

        Raises
        ------
        JobError
            The worker sees another workspace or model, or its disk is full.
        DataError
            A plane cannot be read.
        """
        if self.halted == assignment.key:
            return {}
        opened = self._open(assignment)
        prediction = opened.prediction
        blocks = [prediction.blocks[number] for number in numbers]
        with self._reading:
            views = [prediction.view(block) for block in blocks]
        with self._computing:
            self._use_device(assignment.config)
            logits = prediction.predict(blocks, views)
            decided = [
                Decided.of(block, each, wide=opened.wide is not None)
                for block, each in zip(blocks, logits, strict=True)
            ]
        with self._writing:
            found = {
                each.block.number: each.write(opened.labels, opened.wide, opened.values) for each in decided
            }
            for sink in (opened.labels, opened.wide):
                if sink:
                    sink.flush()
        return found

    def _open(self, assignment: Assignment) -> _Opened:
        with self._opening:
            if self._opened is None or self._opened.key != assignment.key:
                if self._opened:
                    self._opened.close()
                    self._opened = None
                self._opened = self._begin(assignment)
            return self._opened

    def _begin(self, assignment: Assignment) -> _Opened:
        for path, _ in assignment.sinks:
            if not path.exists():
                raise JobError(
                    f"The worker {self._worker} of the cluster does not see {path}.",
                    "All workers must see the workspace and the images under the same paths; put them on a "
                    "disk that all share.",
                )
        if self._applied is None:
            self._applied = self._apply(assignment)
        images = self._applied.open(assignment.item)
        prediction = self._applied.predict(images, assignment.division, assignment.normalization)
        sinks: list[Sink | None] = [reopen_sink(path, spec) for path, spec in assignment.sinks]
        labels, wide = (*sinks, None)[:2]
        assert labels is not None
        return _Opened(assignment.key, prediction, self._applied.model.card.class_values, labels, wide)

    def _apply(self, assignment: Assignment) -> Applied:
        config = assignment.config
        hardware = self._use_device(config)
        weights, configuration = find_model(config.inference.model or "", config.inference.config_file)
        model = load_model(weights, configuration, hardware)
        if model.sha256 != assignment.sha256:
            raise JobError(
                f"The worker {self._worker} of the cluster finds another model at {weights}.",
                "All workers must see the same files under the same paths.",
            )
        return Applied(config, model, build_predictor(config, model, hardware))

    def _use_device(self, config: RunConfig) -> Hardware:
        """Choose device and threads: torch remembers both for every thread of its own."""
        hardware = choose(config.hardware)
        if hardware.device.type == "cuda" and self._number is not None:
            torch.cuda.set_device(self._number % torch.cuda.device_count())
        if self._threads and self._threads != torch.get_num_threads():
            torch.set_num_threads(self._threads)
        return hardware


def predict_group(name: str, threads: int | None, assignment: Assignment, numbers: Sequence[int]) -> Result:
    """Predict blocks for the job `name` on the worker that this is called on; see `Bench`."""
    worker = get_worker()
    with _among_benches:
        bench = _bench(worker, name, threads)
        bench.at_work += 1
    try:
        return bench.predict(assignment, numbers)
    finally:
        with _among_benches:
            bench.at_work -= 1
            bench.left_off = time.monotonic()


def halt(name: str, threads: int | None, key: str, dask_worker: Worker) -> None:
    """Let groups of an image that have not begun return at once, empty."""
    with _among_benches:
        _bench(dask_worker, name, threads).halted = key


def leave(name: str, dask_worker: Worker) -> None:
    """Let a worker forget a job that has ended."""
    with _among_benches:
        bench = _benches.get(dask_worker, {}).pop(name, None)
    if bench:
        bench.close()


def _bench(worker: Worker, name: str, threads: int | None) -> Bench:
    """Return the bench of a job. Nothing of it is known to the scheduler, so that nothing stays there."""
    benches = _benches.setdefault(worker, {})
    if name not in benches:
        benches[name] = Bench(worker, threads)
        _watch(worker, name, benches[name])
    return benches[name]


def _watch(worker: Worker, name: str, bench: Bench) -> None:
    """Look from time to time whether a job still asks; forget one that does not."""
    bench.watch = threading.Timer(IDLE_SECONDS, _forget_idle, (worker, name, bench))
    bench.watch.daemon = True
    bench.watch.start()


def _forget_idle(worker: Worker, name: str, bench: Bench) -> None:
    with _among_benches:
        if _benches.get(worker, {}).get(name) is not bench:
            return
        if bench.at_work or time.monotonic() - bench.left_off < IDLE_SECONDS:
            _watch(worker, name, bench)
            return
        del _benches[worker][name]
    bench.close()


async def inspect(config: RunConfig) -> dict[str, Any]:
    """Return versions and device of the worker that this is called on.

    In a thread: the first look at a device takes seconds, in which the worker must answer its scheduler.
    """
    hardware = await asyncio.to_thread(choose, config.hardware)
    return versions() | {"device": hardware.kind()}
