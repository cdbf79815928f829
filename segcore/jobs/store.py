"""The job is its folder: config.json, job.json, events.jsonl … Everything a page shows is read here."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock
from pydantic import ValidationError

from segcore.card import write_config
from segcore.config import RunConfig
from segcore.errors import JobError
from segcore.events import Request
from segcore.files import remove_leftovers, write_atomic
from segcore.jobs.host import this_host
from segcore.jobs.job import COMPARISON, PARTIAL, UNFINISHED
from segcore.jobs.job import Compared as Compared
from segcore.jobs.job import Job as Job
from segcore.jobs.job import Kind as Kind
from segcore.jobs.job import Owner as Owner
from segcore.jobs.job import State as State
from segcore.workspace import Workspace


def create_job(
    workspace: Workspace,
    kind: Kind,
    config: RunConfig,
    owner: Owner = "worker",
    parent: str = "",
    group: str = "",
    evaluates: Compared = "",
) -> Job:
    """Make the folder of a new job, state queued. Paths in `config` must be absolute or run-independent.

    Parameters
    ----------
    workspace : Workspace
        Where the folder is made.
    kind : {"train", "predict"}
        What it does.
    config : RunConfig
        Its options.
    owner : {"worker", "command"}
        Who starts it.
    parent, group, evaluates
        As in `Job`.

    Raises
    ------
    JobError
        The folder cannot be written; nothing of it is left behind.
    """
    identity = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    folder = (workspace.models / config.session if kind == "train" else workspace.results) / identity
    job = Job(
        id=identity,
        kind=kind,
        session=config.session,
        owner=owner,
        parent=parent,
        group=group,
        evaluates=evaluates,
        folder=folder,
    )
    try:
        folder.mkdir(parents=True)
        write_config(folder / "config.json", config)
        (folder / "events.jsonl").touch()
        (folder / "log.txt").touch()
        # job.json comes last: a folder without it is not a job yet, so nobody sees half of one.
        write_atomic(folder / "job.json", job.model_dump_json(indent=2))
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise JobError(
            f"The run folder {folder} cannot be made: {error.strerror}.",
            "Free disk space and check that you may write there, then start again.",
        ) from error
    return job


def read_job(folder: Path) -> Job:
    """Read the job in `folder`.

    Raises
    ------
    JobError
        There is no job in the folder, or its `job.json` is damaged.
    """
    try:
        return Job.model_validate_json((folder / "job.json").read_bytes()).model_copy(
            update={"folder": folder}
        )
    except OSError as error:
        raise JobError(f"{folder} holds no job.", "Choose a run from the list of runs.") from error
    except ValidationError as error:
        raise JobError(
            f"{folder}/job.json is damaged.", "Restore it from a backup or delete the folder."
        ) from error


def update_job(folder: Path, **changes: Any) -> Job:
    """Change fields of `job.json` under a lock and return the new snapshot. An ended job keeps its state."""

    def decide(job: Job) -> dict[str, Any]:
        return {key: value for key, value in changes.items() if not (job.state.ended and key in _END_FIELDS)}

    return change_job(folder, decide)


def start_job(folder: Path, mark: str = "") -> Job:
    """Mark a job that waits as running in this process; any other job is returned as it is.

    The job is ours only if the snapshot says running with our own pid. `mark` as in `Job.mark`.
    """

    def begin(job: Job) -> dict[str, Any]:
        if job.state is not State.QUEUED:
            return {}
        if job.attempts:
            remove_leftovers(folder, PARTIAL)  # of a process that was killed while it wrote
            for path in folder.glob(f"{UNFINISHED}*"):
                shutil.rmtree(path, ignore_errors=True)
        return {
            **_BLANK,
            "state": State.RUNNING,
            "started": time.time(),
            "host": this_host(),
            "pid": os.getpid(),
            "mark": mark,
            "attempts": job.attempts + 1,
        }

    return change_job(folder, begin)


def end_job(
    folder: Path, state: State, message: str = "", remedy: str = "", attempt: int | None = None
) -> Job:
    """Mark the job as over. A job that is over already stays as it is.

    Parameters
    ----------
    folder : Path
        The run folder.
    state : State
        How it ended; `discarded` deletes what the job made.
    message, remedy : str
        Why, and what to do, in the person's words.
    attempt : int, optional
        `Job.attempts` of the process that speaks: once another one has begun the job, it has no say any more.
    """

    def end(job: Job) -> dict[str, Any]:
        stale = attempt is not None and attempt != job.attempts
        return {} if job.state.ended or stale else _ended(state, message, remedy)

    try:
        job = change_job(folder, end)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        # Where the job stood is of no use any more, and its room on a full disk is just enough.
        (folder / "progress.json").unlink(missing_ok=True)
        job = change_job(folder, end)
    throw_away(job)
    return job


def line_up_again(folder: Path, rank: float, restarts: int = 0) -> Job:
    """Put a job that ended too early back to queued; one that waits, runs, is finished or discarded stays.

    Parameters
    ----------
    folder : Path
        The run folder.
    rank : float
        Its place in the line, see `Job.rank`.
    restarts : int
        What `Job.restarts` becomes; 0 if a person asked for it: a request from before is then forgotten.
    """
    again = {"state": State.QUEUED, "owner": "worker", "rank": rank, "restarts": restarts, "device": ""}

    def decide(job: Job) -> dict[str, Any]:
        if not job.resumable:
            return {}
        if not restarts:
            (folder / REQUEST).unlink(missing_ok=True)
        return {**_BLANK, **again}

    return change_job(folder, decide)


def throw_away(job: Job) -> None:
    """Delete what a discarded job made; options, log and curves stay.

    Of a segmentation or evaluation that was stopped, nobody needs the unfinished part, of a training what
    its teacher said. Other jobs are left alone.
    """
    if job.state not in (State.DISCARDED, State.CANCELLED):
        return
    names = MADE if job.state is State.DISCARDED else (PARTIAL, COMPARISON, TEACHING)
    for path in [*(job.folder / name for name in names), *job.folder.glob(f"{UNFINISHED}*")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


TEACHING = "teaching"
"""Folder of what a teacher said."""
MADE = (
    "best_model.pth",
    TEACHING,
    "checkpoints",
    "previews",
    "results.json",
    "segmentation.tif",
    "segmentation.ome.zarr",
    "segmentation",
    "segmentation.objects.csv",
    "probabilities.tif",
    "probabilities.ome.zarr",
    "probabilities",
    "metadata.json",
    COMPARISON,
    PARTIAL,
)
_END_FIELDS = ("state", "ended", "message", "remedy", "pid")
_BLANK: dict[str, Any] = {"ended": None, "message": "", "remedy": "", "pid": None}


def _ended(state: State, message: str = "", remedy: str = "") -> dict[str, Any]:
    return {"state": state, "ended": time.time(), "message": message, "remedy": remedy, "pid": None}


def change_job(folder: Path, decide: Callable[[Job], dict[str, Any]]) -> Job:
    """Change `job.json` under its lock by what `decide` returns for the present snapshot."""
    with FileLock(folder / ".job.lock"):
        job = read_job(folder)
        changes = decide(job)
        if changes:
            job = job.model_copy(update=changes)
            write_atomic(folder / "job.json", job.model_dump_json(indent=2))
        return job


def find_job(workspace: Workspace, identity: str) -> Job:
    """Return the job with this id.

    Raises
    ------
    JobError
        No job of the workspace has this id.
    """
    safe = identity.replace("-", "").isalnum()
    matches = [*workspace.models.glob(f"*/{identity}"), *workspace.results.glob(identity)] if safe else []
    if not matches:
        raise JobError(
            f"There is no job {identity!r} in {workspace.root}.", "`segcore jobs list` shows them."
        )
    return read_job(matches[0])


def list_jobs(workspace: Workspace, kind: Kind | None = None) -> list[Job]:
    """Return all jobs, newest first."""
    patterns = {"train": "models/*/*/job.json", "predict": "results/*/job.json"}
    jobs = []
    for name, pattern in patterns.items():
        if kind in (None, name):
            for path in workspace.root.glob(pattern):
                try:
                    jobs.append(read_job(path.parent))
                except JobError:
                    continue  # deleted, or damaged: the others must still be listed
    return sorted(jobs, key=lambda job: (job.created, job.id), reverse=True)


def queue_place(workspace: Workspace, job: Job) -> int:
    """Return 1 for the job that is next, 2 for the one after it …; 0 if it does not wait."""
    if job.state is not State.QUEUED:
        return 0
    waiting = [other for other in list_jobs(workspace, job.kind) if other.state is State.QUEUED]
    return 1 + sum(other.line_key < job.line_key for other in waiting)


def ask(folder: Path, request: Request) -> Job:
    """Ask something of a job that waits or runs; the last request counts. One that waits obeys at once.

    Only a training that waits to go on and shall stop and keep still needs a moment of a device, to write its
    results: it becomes the next in line.
    """

    def decide(job: Job) -> dict[str, Any]:
        if job.state.ended:
            return {}
        write_atomic(folder / REQUEST, request)
        if job.state is State.RUNNING:
            return {}
        if request is Request.STOP and job.has_checkpoint:
            return {"rank": 0.0}
        return _ended(*_UNBEGUN[request])

    job = change_job(folder, decide)
    throw_away(job)
    return job


def asked(folder: Path) -> Request | None:
    """Return what somebody asked of the job; cheap enough for every batch."""
    try:
        return Request((folder / REQUEST).read_text())
    except (OSError, ValueError):
        return None


def end_anew(folder: Path, state: State, message: str, remedy: str = "") -> Job:
    """Give a job that ended too early another end: discarded, or failed for good. Others stay as they are."""
    job = change_job(folder, lambda job: _ended(state, message, remedy) if job.resumable else {})
    throw_away(job)
    return job


REQUEST = "request"
_UNBEGUN = {
    Request.PAUSE: (State.PAUSED, "Paused while it waited."),
    Request.STOP: (State.CANCELLED, "Cancelled before it began."),
    Request.DISCARD: (State.DISCARDED, "Discarded while it waited."),
}
