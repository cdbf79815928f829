"""Local: a command that plays the worker for the one job it made, with progress on the console."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from segcore.jobs.store import Job, read_job, request_stop
from segcore.jobs.supervisor import kill_job, run_job
from segcore.worker.console import Console, FolderWatch
from segcore.worker.following import FollowingThread
from segcore.workspace import Workspace

TRACKING_SECONDS = 60.0
"""How long the command waits at the end for MLflow to take the results."""


def run_here(job: Job, workspace: Workspace, console: Console) -> Job:
    """Run a job of this command to its end, tell MLflow, and return how it ended.

    The first Ctrl-C asks the job to stop and keep what it has; the second one kills it.
    """
    watch = FolderWatch(job.folder, console)
    following = FollowingThread(workspace)
    try:
        with interruptible(job.folder, console):
            following.follow(job.folder)
            run_job(job.folder, workspace, watch)
            following.conclude(job.folder)
            if not following.wait(TRACKING_SECONDS):
                console.say("MLflow does not answer; `segcore worker` tells it the rest when it is back.")
    finally:
        following.close()
        console.close()
    return read_job(job.folder)


@contextmanager
def interruptible(folder: Path, console: Console) -> Iterator[None]:
    """Turn the first SIGINT or SIGTERM into a stop request for the job, and the second into its end."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may change signal handlers
        return
    asked = False

    def on_signal(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            kill_job(folder)
        else:
            asked = True
            request_stop(folder)
            console.say("Stopping; what has been reached is kept. Again: end it at once.")

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
