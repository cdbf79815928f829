"""Standby: processes that wait for a job, the engine imported, and the last model loaded.

Importing torch takes seconds. A process of this kind reads on its stdin which job it shall do, one line of
JSON each, and ends when stdin does: so it never outlives the worker by more than the job at hand. It is
recognised by the mark in its command line (`Job.mark`).
"""

from __future__ import annotations

import json
import logging
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import psutil

from segcore.jobs.process import kill_tree, ready_command, spawn
from segcore.jobs.store import Job, Kind, State, read_job
from segcore.memory import Memory, main_memory
from segcore.workspace import Workspace

logger = logging.getLogger(__name__)

BEGIN_SECONDS = 180.0
"""A process that has not begun its job by then is given up: importing may take long on a busy machine."""
END_SECONDS = 10.0
KEEP_SECONDS = 600.0
"""How long a model stays loaded that nobody uses."""
FIRST_SECONDS = 5.0
"""The first process is started so long after the worker: the web app, which starts with it, goes first."""
NEXT_SECONDS = 20.0
"""And the next so long after a job has taken one, whose own start it would slow down."""
LOOK_SECONDS = 2.0
FREE_BYTES, FREE_SHARE = 2 * 10**9, 0.2
"""With less memory left than the larger of the two, nothing is kept in stock."""


class Ready:
    """A process that waits for a job, or does one.

    Raises
    ------
    OSError
        It cannot be started.
    """

    def __init__(self) -> None:
        self.mark = f"ready-{secrets.token_hex(8)}"
        self.process = spawn(ready_command(self.mark), subprocess.DEVNULL, source=subprocess.PIPE)
        self.since = time.monotonic()
        """Since when it has waited, by the monotonic clock."""

    @property
    def lives(self) -> bool:
        """True if it has not ended."""
        return self.process.poll() is None

    def hand(self, job: Job, workspace: Workspace, environment: Mapping[str, str]) -> bool:
        """Tell it to do a job, with `environment` beside its own; False if it has ended."""
        order = {
            "folder": str(job.folder),
            "workspace": str(workspace.root),
            "environment": dict(environment),
        }
        try:
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            return False
        return True

    def has_left(self, handed: Job) -> Callable[[], bool]:
        """Return a function that says whether it has nothing to do with a job any more, or never began it."""
        deadline = time.monotonic() + BEGIN_SECONDS

        def left() -> bool:
            job = read_job(handed.folder)
            if job.state is State.QUEUED and job.attempts == handed.attempts:
                return time.monotonic() > deadline
            return not (job.state is State.RUNNING and job.pid == self.process.pid)

        return left

    def end(self) -> None:
        """End it, by force if it does not go; what it had begun is over or another's."""
        with suppress(OSError):
            self.process.stdin.close()
        with suppress(psutil.NoSuchProcess):
            self.process.terminate()
        try:
            self.process.wait(END_SECONDS)
        except psutil.TimeoutExpired:
            kill_tree(self.process)
            self.process.wait()


class Standby:
    """The processes in stock: one without a model, and on every device the one that segmented last.

    Several lines of a worker may ask at the same time.

    Parameters
    ----------
    memory : callable
        Returns the memory there is.
    """

    def __init__(self, memory: Callable[[], Memory] = main_memory) -> None:
        self._memory = memory
        self._fresh: Ready | None = None
        self._kept: dict[str, Ready] = {}
        self._due = time.monotonic() + FIRST_SECONDS
        self._looked = float("-inf")
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Start a process at once: a job is on its way."""
        with self._lock:
            if self._fresh is None:
                self._start()

    def tend(self) -> None:
        """Start what is missing and end what is of no use any more; to be called again and again."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        short = self._is_short()
        with self._lock:
            useless = [
                self._kept.pop(device)
                for device, ready in list(self._kept.items())
                if short or not ready.lives or now - ready.since > KEEP_SECONDS
            ]
            if self._fresh is not None and (short or not self._fresh.lives):
                useless.append(self._fresh)
                self._fresh, self._due = None, now + KEEP_SECONDS  # it would only end again
            if self._fresh is None and not short and now > self._due:
                self._start()
        for ready in useless:
            ready.end()

    def take(self, kind: Kind, device: str) -> Ready | None:
        """Return a process for a job of this kind on this device; None if there is none."""
        with self._lock:
            kept = self._kept.pop(device, None)
            if kept is not None and kept.lives and kind == "predict":
                return kept
            if kept is not None and kept.lives and device == "cpu" and not self._is_short():
                self._kept[device], kept = kept, None
            fresh, self._fresh = self._fresh, None
            self._due = time.monotonic() + NEXT_SECONDS
        if kept is not None:
            kept.end()  # the training needs the memory of the device
        return fresh if fresh is not None and fresh.lives else None

    def keep(self, device: str, ready: Ready) -> None:
        """Keep a process that has done a segmentation on this device, with its model."""
        ready.since = time.monotonic()
        with self._lock:
            other = self._kept.pop(device, None)
            self._kept[device] = ready
        if other is not None:
            other.end()

    def close(self) -> None:
        """End all that wait."""
        with self._lock:
            stock = [*self._kept.values(), *filter(None, [self._fresh])]
            self._fresh, self._kept = None, {}
        for ready in stock:
            ready.end()

    def _is_short(self) -> bool:
        memory = self._memory()
        return memory.available < max(FREE_BYTES, FREE_SHARE * memory.total)

    def _start(self) -> None:
        try:
            self._fresh = Ready()
        except OSError as error:
            logger.warning("No process can be kept ready: %s.", error.strerror)
            self._due = time.monotonic() + KEEP_SECONDS
