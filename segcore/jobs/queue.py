"""The queue: which jobs wait in which order, and how a person puts one in, moves it or takes it out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from segcore.config import RunConfig
from segcore.errors import JobError
from segcore.events import Request
from segcore.jobs.lineage import check_unneeded
from segcore.jobs.store import (
    Compared,
    Job,
    Kind,
    State,
    ask,
    asked,
    create_job,
    end_anew,
    end_job,
    line_up_again,
    list_jobs,
    read_job,
    update_job,
)
from segcore.jobs.supervisor import is_supervised
from segcore.jobs.tokens import QueueUnreachable, Tokens
from segcore.workspace import Workspace


def submit(
    workspace: Workspace,
    kind: Kind,
    config: RunConfig,
    parent: str = "",
    group: str = "",
    evaluates: Compared = "",
) -> Job:
    """Make a job and put it at the end of its line; `parent`, `group`, `evaluates` as in `create_job`.

    Raises
    ------
    JobError
        The run folder or the queue cannot be written; no job is left behind.
    """
    job = create_job(workspace, kind, config, parent=parent, group=group, evaluates=evaluates)
    try:
        with Tokens(workspace, kind) as tokens:
            tokens.put()
    except JobError as error:
        # Unless a worker that held a spare token was fast enough to begin it.
        if end_job(job.folder, State.FAILED, attempt=0).state is not State.FAILED:
            return read_job(job.folder)
        shutil.rmtree(job.folder, ignore_errors=True)
        raise JobError(f"The job could not be queued. {error.message}", error.remedy) from error
    return job


def waiting(workspace: Workspace, kind: Kind) -> list[Job]:
    """Return the jobs of one kind that wait for a worker, the next one first."""
    found = [job for job in list_jobs(workspace, kind) if job.state is State.QUEUED and job.owner == "worker"]
    return sorted(found, key=lambda job: job.line_key)


def next_job(workspace: Workspace, kind: Kind, fits: Callable[[Job], bool]) -> Job | None:
    """Return the first job in line that fits and that nobody is about to begin; None if there is none."""
    for job in waiting(workspace, kind):
        request = asked(job.folder)
        if request is not None and not job.attempts:
            ask(job.folder, request)  # whoever asked was killed before the job could obey
        elif fits(job) and not is_supervised(job.folder):
            return job
    return None


def move(workspace: Workspace, job: Job, place: int) -> Job:
    """Give a job that waits another place in its line.

    Parameters
    ----------
    workspace : Workspace
        The workspace of the job.
    job : Job
        A job that waits.
    place : int
        1 for the next to run; a place behind the end means the end.

    Raises
    ------
    JobError
        It does not wait, or the place is below 1.
    """
    if place < 1:
        raise JobError(f"There is no place {place} in the line.", "Places are counted from 1.")
    with FileLock(workspace.state / "line.lock"):
        line = waiting(workspace, job.kind)
        if job.id not in [other.id for other in line]:
            state = read_job(job.folder).state
            raise JobError(
                f"The job {job.id} does not wait: it is {state}.", "Only jobs that wait have a place."
            )
        others = [other for other in line if other.id != job.id]
        others.insert(place - 1, job)
        # The places stay, and are dealt out anew: a crash in between leaves another order, but an order.
        rank = float("-inf")
        for other, owner in zip(others, line, strict=True):
            rank = max(owner.line_key[0], rank + 1e-3)
            if other.line_key[0] != rank:
                update_job(other.folder, rank=rank)
    return read_job(job.folder)


def front_rank(workspace: Workspace, kind: Kind) -> float:
    """Return the rank of a job that goes before all that wait."""
    line = waiting(workspace, kind)
    return line[0].line_key[0] - 1 if line else time.time()


def resume(workspace: Workspace, folder: Path) -> Job:
    """Put a job that was paused, interrupted, stopped or failed at the end of its line, to go on.

    A training goes on from its last checkpoint, a segmentation at its first unfinished block. One that waits
    already waits on.

    Raises
    ------
    JobError
        It is at work, finished or discarded.
    """
    job = line_up_again(folder, rank=time.time())
    if job.state is State.QUEUED:
        bring_token(workspace, job.kind)
        return job
    raise JobError(f"The job {job.id} cannot be resumed: it is {job.state}.", _INSTEAD[job.state])


def stop(workspace: Workspace, folder: Path) -> Job:
    """Ask a job to end and keep what it has, also one that is paused or was interrupted.

    A paused training becomes the next in line: it needs a moment of a device to write its results.
    """
    job = ask(folder, Request.STOP)
    if job.state not in (State.PAUSED, State.INTERRUPTED):
        return job
    if not job.has_checkpoint:
        return end_anew(folder, State.CANCELLED, "Cancelled.")
    resume(workspace, folder)
    return ask(folder, Request.STOP)


def discard(workspace: Workspace, folder: Path) -> Job:
    """Throw away what a job made, model and checkpoints; its options, log and curves stay.

    One at work is asked to, and does it within a step.

    Raises
    ------
    JobError
        It is finished, or another job that is not over goes on from it.
    DataError
        The folder lies outside the workspace.
    """
    folder = workspace.resolve(folder)
    check_unneeded(workspace, folder)
    job = ask(folder, Request.DISCARD)
    if job.state.ended:
        job = end_anew(folder, State.DISCARDED, "Discarded.")
    if job.state is State.FINISHED:
        raise JobError(f"The job {job.id} is finished.", "Delete its folder if you do not need it.")
    return job


def bring_token(workspace: Workspace, kind: Kind, count: int = 1) -> None:
    """Put tokens in for jobs that wait; where the queue is out of reach, `reconcile` does it later."""
    with suppress(QueueUnreachable), Tokens(workspace, kind) as tokens:
        tokens.put(count)


_INSTEAD = {
    State.RUNNING: "Nothing needs to be done: it is at work.",
    State.FINISHED: "Continue it for more epochs instead.",
    State.DISCARDED: "What it had made is deleted; start it again with the same options.",
}
