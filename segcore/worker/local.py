"""Local: a command that plays the worker for the one job it made, with progress on the console."""

from __future__ import annotations

from segcore.events import Request
from segcore.jobs.store import Job, ask, read_job
from segcore.jobs.supervisor import kill_job, run_job
from segcore.worker.console import Console, FolderWatch
from segcore.worker.following import FollowingThread
from segcore.worker.signals import StopSignals
from segcore.workspace import Workspace

TRACKING_SECONDS = 60.0
"""How long the command waits at the end for MLflow to take the results."""


def run_here(job: Job, workspace: Workspace, console: Console) -> Job:
    """Run a job of this command to its end, tell MLflow, and return how it ended.

    The first Ctrl-C asks the job to stop and keep what it has; the second one kills it.
    """
    watch = FolderWatch(job.folder, console)
    following = FollowingThread(workspace)

    def on_signal(count: int) -> None:
        if count == 1:
            ask(job.folder, Request.STOP)
            console.say("Stopping; what has been reached is kept. Ctrl-C again: end it at once.")
        else:
            kill_job(job.folder)

    try:
        with StopSignals(on_signal):
            following.follow(job.folder)
            run_job(job.folder, workspace, watch)
            following.conclude(job.folder)
            if not following.wait(TRACKING_SECONDS):
                console.say("MLflow does not answer; `segcore worker` tells it the rest when it is back.")
    finally:
        following.close()
        console.close()
    return read_job(job.folder)
