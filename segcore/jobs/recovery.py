"""Recovery: after a crash, a reboot or a lost host every job is found again, and goes on by itself."""

from __future__ import annotations

import time
from contextlib import suppress

from segcore.errors import SegcoreError
from segcore.events import EpochEvent
from segcore.jobs.journal import read_events
from segcore.jobs.queue import bring_token, front_rank, waiting
from segcore.jobs.store import Job, State, end_anew, end_job, line_up_again, list_jobs, throw_away
from segcore.jobs.supervisor import end_dead, is_lost, is_supervised
from segcore.jobs.tokens import LINES, Tokens
from segcore.workspace import Workspace

MAX_RESTARTS = 5
START_SECONDS = 60.0
"""How long a command may take between making a job's folder and starting its process."""


def reconcile(workspace: Workspace) -> list[Job]:
    """Make folders and queue agree again after a crash or a reboot; any host may do it at any time.

    Running jobs whose process is gone become interrupted; interrupted ones go on by themselves if they are
    meant to; every job that waits gets a token.

    Returns
    -------
    list of Job
        The jobs whose state changed.

    Raises
    ------
    QueueUnreachable
        The tokens cannot be counted; the states have been put right.
    """
    touched = []
    jobs = list_jobs(workspace)
    # The last in line first, so that the first comes to stand before it.
    for job in sorted(jobs, key=lambda job: job.line_key, reverse=True):
        with suppress(SegcoreError):  # deleted a moment ago
            now = recover(workspace, _end_if_lost(job))
            if now.state is not job.state:
                touched.append(now)
    for kind in LINES:
        lined_up = [job for job in waiting(workspace, kind) if not is_supervised(job.folder)]
        with Tokens(workspace, kind) as tokens:
            missing = len(lined_up) - tokens.count()
            tokens.put(max(0, missing))
    return touched


def recover(workspace: Workspace, job: Job) -> Job:
    """Put a job that was interrupted at the front of its line again, if it goes on by itself.

    One that has died again and again without getting on fails for good.
    """
    if not resumes_itself(job):
        return job
    restarts = 1 if _got_on(job) else job.restarts + 1
    if restarts > MAX_RESTARTS:
        message = f"{job.message} It was resumed {MAX_RESTARTS} times without getting on."
        return end_anew(job.folder, State.FAILED, message, job.remedy)
    job = line_up_again(job.folder, front_rank(workspace, job.kind), restarts)
    bring_token(workspace, job.kind)
    return job


def resumes_itself(job: Job) -> bool:
    """Say whether a job that was interrupted goes on by itself, without a person who wants it."""
    if job.state is not State.INTERRUPTED or job.owner != "worker":
        return False
    if job.started is not None and not job.attempts:
        return False  # of a version that did not go on by itself: nobody expects it any more
    try:
        return job.kind == "predict" or job.config.training.auto_resume
    except SegcoreError:
        return False


def _end_if_lost(job: Job) -> Job:
    throw_away(job)  # whoever discarded or stopped it may have been killed before all was deleted
    if job.state.ended or is_supervised(job.folder):
        return job
    if job.state is State.RUNNING and is_lost(job):
        remedy = f"Resumed with `segcore jobs resume {job.id}`, it {job.resumption}."
        return end_dead(job, "Its process is gone; the computer may have been restarted.", remedy)
    if job.state is State.QUEUED and job.owner == "command" and time.time() - job.created > START_SECONDS:
        message = "The command that made it ended before it began."
        return end_job(job.folder, State.INTERRUPTED, message, "Resume it, or start it again.")
    return job


def _got_on(job: Job) -> bool:
    """Say whether the last attempt saved something to go on from, or finished an epoch."""
    since = job.started or job.created
    if job.saved_at > since:
        return True
    return any(isinstance(event, EpochEvent) and event.time > since for event in read_events(job.folder))
