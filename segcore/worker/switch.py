"""The switch of a job: what it is asked to do, by a file in its folder or by a signal."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from types import FrameType

from segcore.events import Request
from segcore.files import write_atomic
from segcore.jobs.store import REQUEST, Job, asked, read_job

CLAIM_SECONDS = 5.0

SIGNALS = {
    name: request
    for name, request in (
        ("SIGINT", Request.STOP),
        ("SIGTERM", Request.PAUSE),
        ("SIGUSR1", Request.PAUSE),
        ("SIGUSR2", Request.DISCARD),
    )
    if hasattr(signal, name)  # Windows has but two of them
}


class Switch:
    """Says what the job is asked to do: by a file in its folder, or by a signal.

    SIGINT stops and keeps, SIGUSR1 pauses, SIGUSR2 discards, as the file does. SIGTERM comes from a machine
    that goes down: the job saves and ends as interrupted. The same signal of a person again ends the process
    at once.

    Parameters
    ----------
    job : Job
        The job as this process has begun it.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self._signalled: Request | None = None
        self._noted = False
        self._told_to_go = False
        self._looked = time.monotonic()

    def install(self) -> None:
        """Take the signals."""
        for name in SIGNALS:
            signal.signal(getattr(signal, name), self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGTERM:
            # It comes twice where every process of a service gets it and the worker passes its own on: the
            # second one may not cut off the saving.
            self._told_to_go = True
            return
        self._signalled, self._noted = SIGNALS[signal.Signals(number).name], False
        signal.signal(number, signal.SIG_DFL)

    def __call__(self) -> Request | None:
        """Return what the job is asked to do; cheap enough for every step."""
        if self._signalled is not None and not self._noted:
            self._noted = True
            with suppress(OSError):  # on a full disk it counts only as long as the process lives
                write_atomic(self.job.folder / REQUEST, self._signalled)
        if self._is_superseded():
            return Request.DISCARD
        return self.wish or (Request.PAUSE if self._told_to_go else None)

    @property
    def wish(self) -> Request | None:
        """What a person asked for."""
        return asked(self.job.folder) or self._signalled

    def _is_superseded(self) -> bool:
        """Say whether another process does the job: this host was silent for so long that it was given up."""
        if time.monotonic() - self._looked < CLAIM_SECONDS:
            return False
        self._looked = time.monotonic()
        return read_job(self.job.folder).attempts != self.job.attempts
