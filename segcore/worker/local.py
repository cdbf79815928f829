"""Local: a command that plays the worker for the one job it made, with progress on the console."""

from __future__ import annotations

import threading
from collections import deque

from segcore.events import Request
from segcore.jobs.process import kill_job
from segcore.jobs.store import Job, ask, read_job
from segcore.jobs.supervisor import run_job
from segcore.worker.console import Console, FolderWatch
from segcore.worker.following import FollowingThread
from segcore.worker.notify import Notifier
from segcore.worker.signals import ALL, StopSignals
from segcore.workspace import Workspace

TRACKING_SECONDS = 60.0
"""How long the command waits at the end for MLflow to take the results."""
REQUESTS = {"SIGINT": Request.STOP, "SIGUSR1": Request.PAUSE, "SIGUSR2": Request.DISCARD}
ANSWERS = {
    Request.STOP: "Stopping; what has been reached is kept. Ctrl-C again: end it at once.",
    Request.PAUSE: "Pausing; `segcore jobs resume` goes on from there.",
    Request.DISCARD: "Ending; what was made is thrown away.",
}


def run_here(job: Job, workspace: Workspace, console: Console) -> Job:
    """Run a job of this command to its end, tell MLflow, and return how it ended.

    The first Ctrl-C asks the job to stop and keep what it has; the second one kills it. SIGUSR1 pauses it,
    SIGUSR2 discards it. SIGTERM lets it save and end as interrupted.
    """
    watch = FolderWatch(job.folder, console)
    following, notifier = FollowingThread(workspace), Notifier(workspace)
    leaving = threading.Event()
    # Obeyed at the next poll: a handler that waits for a lock of the code it interrupts waits for ever.
    signals: deque[tuple[str, int]] = deque()

    def on_poll() -> None:
        while signals:
            name, count = signals.popleft()
            if name == "SIGTERM":
                leaving.set()
                console.say(f"Saving; `segcore jobs resume {job.id}` goes on from there.")
            elif count == 1 or name != "SIGINT":
                ask(job.folder, REQUESTS[name])
                console.say(ANSWERS[REQUESTS[name]])
            else:
                kill_job(job.folder)
        watch()

    try:
        with StopSignals(lambda name, count: signals.append((name, count)), ALL):
            notifier.expect(job.folder)
            following.follow(job.folder)
            run_job(job.folder, workspace, on_poll, leaving=leaving.is_set)
            following.conclude(job.folder)
            notifier.tell(job.folder)
            if not following.wait(TRACKING_SECONDS):
                console.say("MLflow does not answer; `segcore worker` tells it the rest when it is back.")
    finally:
        following.close()
        notifier.close()
        console.close()
    return read_job(job.folder)
