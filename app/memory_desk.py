"""How much memory a configuration needs: estimated at once, measured by a dry run in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from pydantic import ValidationError

from app.facts import Stack
from segcore.config import RunConfig
from segcore.estimate import read_machine
from segcore.footprint import MemoryNeed, estimate_here
from segcore.jobs.process import kill_tree
from segcore.jobs.store import list_jobs
from segcore.workspace import Workspace

TIMEOUT = 180.0
"""Seconds a dry run may take."""
FRESH = 600.0
"""Seconds a measurement holds: other programs come and go, and with them the memory there is."""
KEPT = 64
COUNTED: dict[str, Any] = {
    "model": {"family", "head", "features", "layers", "freeze_encoder", "freeze", "encoder"},
    "data": {
        "images",
        "labels",
        "axes",
        "labels_as",
        "mode",
        "context_slices",
        "patch_size",
        "patch_depth",
        "loading",
        "validation_slices",
        "validation_fraction",
    },
    "training": {
        "batch_size",
        "micro_batch",
        "devices",
        "num_nodes",
        "optimizer",
        "averaging",
        "adversarial",
    },
    "hardware": True,
}
"""Options on which the memory depends."""


@dataclass(frozen=True)
class MemoryView:
    """What a page says about memory: the need, if anybody can say, and whether it is to be measured."""

    need: MemoryNeed | None
    pending: bool


@dataclass(frozen=True)
class _Measurement:
    need: MemoryNeed | None
    """None: it could not be measured."""
    time: float


class MemoryDesk:
    """Answers how much memory a training needs. Measures one configuration at a time, never while a job runs.

    Parameters
    ----------
    workspace : Workspace
        The folder the app serves.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._known: OrderedDict[str, _Measurement] = OrderedDict()
        self._lock = threading.Lock()
        self._busy = False

    def need(self, config: RunConfig, stack: Stack) -> MemoryView:
        """Return what is known now; this takes no time."""
        measurement = self._measurement(self._key(config))
        if measurement and measurement.need:
            return MemoryView(measurement.need, pending=False)
        pending = (
            measurement is None and bool(config.data.images and config.data.labels) and not self._working()
        )
        need = estimate_here(config, stack.size, read_machine(self.workspace)) if stack.size else None
        return MemoryView(need, pending)

    def measure(self, config: RunConfig) -> None:
        """Begin to measure a configuration, unless it is known or something else is being measured."""
        key = self._key(config)
        with self._lock:
            if self._busy or self._fresh(key) or self._working():
                return
            self._busy = True
        threading.Thread(target=self._measure, args=(config, key), daemon=True).start()

    def _measure(self, config: RunConfig, key: str) -> None:
        need = None
        try:
            need = self._dry_run(config)
        finally:
            with self._lock:
                if need or not self._working():  # broken off for a job, it is measured another time
                    self._known[key] = _Measurement(need, time.monotonic())
                self._busy = False
                while len(self._known) > KEPT:
                    self._known.popitem(last=False)

    def _dry_run(self, config: RunConfig) -> MemoryNeed | None:
        """Let a process of its own measure; None if it cannot."""
        config = config.model_copy(update={"data": config.data.with_addresses(self.workspace.address)})
        # Beside the workspace's own files: what the system calls temporary may lie in memory.
        with TemporaryDirectory(dir=self.workspace.state, prefix="memory-") as folder:
            file = Path(folder, "config.json")
            file.write_text(config.model_dump_json(), encoding="utf-8")
            process = subprocess.Popen(
                [sys.executable, "-m", "segcore.dryrun", str(file), folder],
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            return self._answer(process)

    def _answer(self, process: subprocess.Popen[bytes]) -> MemoryNeed | None:
        """Wait for what the process says; a job that begins meanwhile has the processor to itself."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                return MemoryNeed.model_validate_json(process.communicate(timeout=0.5)[0])
            except ValidationError:
                return None
            except subprocess.TimeoutExpired:
                if self._working() or time.monotonic() > deadline:
                    kill_tree(psutil.Process(process.pid))
                    process.communicate()
                    return None

    def _measurement(self, key: str) -> _Measurement | None:
        with self._lock:
            return self._known[key] if self._fresh(key) else None

    def _fresh(self, key: str) -> bool:
        known = self._known.get(key)
        return known is not None and time.monotonic() - known.time < FRESH

    def _working(self) -> bool:
        """Say whether a job computes: it would be disturbed, and has the memory that is to be measured."""
        return any(not job.state.ended for job in list_jobs(self.workspace))

    def _key(self, config: RunConfig) -> str:
        stats = []
        for path in (config.data.images, config.data.labels):
            try:
                stat = self.workspace.resolve(path).stat() if path else None
            except OSError:
                stat = None
            stats.append((stat.st_mtime_ns, stat.st_size) if stat else None)
        return f"{config.model_dump_json(include=COUNTED)} {stats}"
