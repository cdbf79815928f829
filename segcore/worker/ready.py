"""The process that waits: the engine is imported, and the model of its last segmentation still loaded."""

from __future__ import annotations

import io
import json
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING

from segcore.config import RunConfig
from segcore.errors import JobError
from segcore.jobs.store import State, read_job
from segcore.worker.child import use_physical_cores, work
from segcore.worker.switch import SIGNALS
from segcore.workspace import Workspace

if TYPE_CHECKING:
    from segcore.models.saved import LoadedModel

logger = logging.getLogger(__name__)

ENGINE = ("torch", "segcore.inference.run", "segcore.training.run", "torch._dynamo")
"""What is imported while there is no job. Optimizers need torch's compiler, as large as torch itself."""


class KeptModel:
    """The model that was loaded last; a file that has changed since is loaded anew."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] | None = None
        self._model: LoadedModel | None = None

    def load(self, config: RunConfig) -> LoadedModel:
        """Return the model that `config.inference.model` names, from memory if it is the last one.

        Raises
        ------
        ModelError, ConfigError
            It cannot be used.
        """
        from segcore.devices import choose
        from segcore.models.saved import find_model, load_model

        hardware = choose(config.hardware)
        weights, configuration = find_model(config.inference.model or "", config.inference.config_file)
        key = (_stamp(weights), _stamp(configuration), hardware)
        if self._model is None or key != self._key:
            self._key = self._model = None  # first, so that two models need not fit at once
            self._model = load_model(weights, configuration, hardware)
            self._key = key
        else:
            logger.info("the model of the last segmentation is still loaded")
        return self._model


def stand_by(mark: str, source: IO[bytes] | None = None) -> int:
    """Do the jobs that are told, one after the other, until there are no more; return the exit status.

    Only a segmentation that went well leaves a process that may do another job.

    Parameters
    ----------
    mark : str
        What the process is recognised by (`Job.mark`).
    source : binary file, optional
        Where a job is told per line, by default stdin. Unbuffered: a thread waits for it even at the end.
    """
    orders: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    lines = source or io.FileIO(0, closefd=False)
    threading.Thread(target=_read, args=(lines, orders), name="orders", daemon=True).start()
    use_physical_cores()
    for module in ENGINE:
        if orders.empty():  # a job imports what it needs, and no more
            import_module(module)
    kept = KeptModel()
    while order := orders.get():
        told = json.loads(order)
        os.environ.update(told["environment"])  # before torch has looked for a GPU
        folder = Path(told["folder"])
        with _writing_to(folder / "log.txt"):
            code = work(folder, Workspace.open(told["workspace"]), mark, kept)
            for name in SIGNALS:
                signal.signal(getattr(signal, name), signal.SIG_DFL)
        if not _went_well(folder):
            return code
        _release_memory()
    return 0


def _read(lines: IO[bytes], orders: queue.SimpleQueue[bytes]) -> None:
    """Hand on line after line, and an empty one at the end."""
    while line := lines.readline():
        orders.put(line)
    orders.put(b"")


def _went_well(folder: Path) -> bool:
    try:
        job = read_job(folder)
    except JobError:
        return False  # deleted meanwhile
    return job.kind == "predict" and job.state is State.FINISHED


def _release_memory() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _stamp(path: Path) -> tuple[object, ...]:
    status = path.stat()
    return str(path.resolve()), status.st_size, status.st_mtime_ns


@contextmanager
def _writing_to(log: Path) -> Iterator[None]:
    """Let stdout and stderr go to the end of a file, also those of libraries and of started processes."""
    before = [os.dup(number) for number in (1, 2)]
    with log.open("ab") as stream:
        for number in (1, 2):
            os.dup2(stream.fileno(), number)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, former in zip((1, 2), before, strict=True):
            os.dup2(former, number)
            os.close(former)
