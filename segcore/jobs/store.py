"""The job is its folder: config.json, job.json, events.jsonl … Everything a page shows is read here."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segcore.card import ModelCard, read_config, write_config
from segcore.config import RunConfig
from segcore.errors import JobError
from segcore.events import Request
from segcore.files import write_atomic
from segcore.workspace import Workspace

Kind = Literal["train", "predict"]
Owner = Literal["worker", "command"]


class State(StrEnum):
    """Where a job is in its life."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """Its process died, or its machine went down; it goes on by itself when a worker can."""
    PAUSED = "paused"
    DISCARDED = "discarded"

    @property
    def ended(self) -> bool:
        """True if no process works on it and none waits to: neither queued nor running."""
        return self not in (State.QUEUED, State.RUNNING)

    @property
    def final(self) -> bool:
        """True if nothing more happens by itself: over, and neither paused nor interrupted."""
        return self.ended and self not in (State.PAUSED, State.INTERRUPTED)


class Job(BaseModel):
    """What `job.json` says; a snapshot, never changed in place."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    kind: Kind
    session: str
    owner: Owner = "worker"
    """Who starts it: the worker that takes it from the queue, or the command that made it and waits."""
    state: State = State.QUEUED
    created: float = Field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    host: str = ""
    pid: int | None = None
    message: str = ""
    remedy: str = ""
    mlflow_run_id: str | None = None
    rank: float | None = None
    """Place in the line among those that wait, smallest first; None: by the time it was made."""
    parent: str = ""
    """Id of the run it continues or starts from."""
    group: str = ""
    """Id shared by the repeats of one training with several seeds."""
    device: str = ""
    """The slot of the worker it runs in: `cpu`, `cuda:0` …"""
    restarts: int = 0
    """How often it was resumed by itself without having got on since."""
    folder: Path = Field(default=Path(), exclude=True)

    @property
    def config(self) -> RunConfig:
        """The options the job was given."""
        return read_config(self.folder / "config.json")[0]

    @property
    def card(self) -> ModelCard | None:
        """The card of the model it trained, once the data has been read."""
        return read_config(self.folder / "config.json")[1]


def create_job(workspace: Workspace, kind: Kind, config: RunConfig, owner: Owner = "worker") -> Job:
    """Make the folder of a new job, state queued. Paths in `config` must be absolute or run-independent.

    Raises
    ------
    JobError
        The folder cannot be written; nothing of it is left behind.
    """
    identity = f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    parent = workspace.models / config.session if kind == "train" else workspace.results
    folder = parent / identity
    job = Job(id=identity, kind=kind, session=config.session, owner=owner, folder=folder)
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

    return _change(folder, decide)


def start_job(folder: Path) -> Job:
    """Mark a job that waits as running in this process; any other job is returned as it is.

    The job is ours only if the snapshot says running with our own pid.
    """
    begun = {"state": State.RUNNING, "started": time.time(), "host": socket.gethostname(), "pid": os.getpid()}
    return _change(folder, lambda job: begun if job.state is State.QUEUED else {})


def end_job(folder: Path, state: State, message: str = "", remedy: str = "") -> Job:
    """Mark the job as over. A job that is over already stays as it is."""
    end = {"state": state, "ended": time.time(), "message": message, "remedy": remedy, "pid": None}
    try:
        return _change(folder, lambda job: {} if job.state.ended else end)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        # Where the job stood is of no use any more, and its room on a full disk is just enough.
        (folder / "progress.json").unlink(missing_ok=True)
        return _change(folder, lambda job: {} if job.state.ended else end)


_END_FIELDS = ("state", "ended", "message", "remedy", "pid")


def _change(folder: Path, decide: Callable[[Job], dict[str, Any]]) -> Job:
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
    return 1 + sum((other.created, other.id) < (job.created, job.id) for other in waiting)


def ask(folder: Path, request: Request) -> Job:
    """Ask something of a job that waits or runs; the last request counts. One that waits obeys at once."""
    if read_job(folder).state.ended:
        return read_job(folder)
    write_atomic(folder / REQUEST, request)
    state, message = _UNBEGUN[request]
    end = {"state": state, "ended": time.time(), "message": message}
    return _change(folder, lambda job: end if job.state is State.QUEUED else {})


def asked(folder: Path) -> Request | None:
    """Return what somebody asked of the job; cheap enough for every batch."""
    try:
        return Request((folder / REQUEST).read_text())
    except (OSError, ValueError):
        return None


REQUEST = "request"
_UNBEGUN = {
    Request.PAUSE: (State.PAUSED, "Paused before it began."),
    Request.STOP: (State.CANCELLED, "Cancelled before it began."),
    Request.DISCARD: (State.DISCARDED, "Discarded before it began."),
}
