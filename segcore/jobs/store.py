"""The job is its folder: config.json, job.json, events.jsonl … Everything a page shows is read here."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from segcore.card import ModelCard, read_config, write_config
from segcore.config import RunConfig
from segcore.errors import JobError
from segcore.events import EpochEvent, Event, Progress, parse_event
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

    @property
    def ended(self) -> bool:
        """True if nothing more will happen by itself."""
        return self not in (State.QUEUED, State.RUNNING)


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


def request_stop(folder: Path) -> Job:
    """Ask the job to stop and keep what it has. A job that still waits is cancelled at once."""
    if read_job(folder).state.ended:
        return read_job(folder)
    (folder / "stop").touch()
    end = {"state": State.CANCELLED, "ended": time.time(), "message": "Cancelled before it began."}
    return _change(folder, lambda job: end if job.state is State.QUEUED else {})


def stop_requested(folder: Path) -> bool:
    """Say whether somebody asked the job to stop; cheap enough for every batch."""
    return (folder / "stop").exists()


def read_events(folder: Path) -> Iterator[Event]:
    """Yield the job's events in order; a last line that is still being written is left out."""
    return iter(EventTail(folder).new())


class EventTail:
    """Reads the events of a job as they come: every call of `new` returns those since the call before.

    Parameters
    ----------
    folder : Path
        The run folder.
    offset : int
        Where to begin, in bytes; afterwards it stands behind the last whole line that was read.
    """

    def __init__(self, folder: Path, offset: int = 0) -> None:
        self.path = folder / "events.jsonl"
        self.offset = offset

    def new(self) -> list[Event]:
        """Return the events since the last call; a line still being written comes with the next.

        A line that a killed process left unfinished, and another went on with, is passed over.
        """
        events = []
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self.offset += len(line)
                with suppress(ValidationError):
                    events.append(parse_event(line))
        return events


def read_history(folder: Path) -> list[EpochEvent]:
    """Return the epochs so far. An epoch repeated after a crash counts once, as last reported."""
    epochs = {event.epoch: event for event in read_events(folder) if isinstance(event, EpochEvent)}
    return [epochs[number] for number in sorted(epochs)]


def read_progress(folder: Path) -> Progress | None:
    """Return where the job stands, or None before it began."""
    try:
        return Progress.model_validate_json((folder / "progress.json").read_bytes())
    except (OSError, ValidationError):
        return None


def read_results(job: Job) -> dict[str, Any]:
    """Return what the job left, results.json of a training or metadata.json; empty until it is written."""
    name = "results.json" if job.kind == "train" else "metadata.json"
    try:
        content = json.loads((job.folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_log(folder: Path, lines: int = 50) -> str:
    """Return the last lines of the log; reads at most the last 64 KiB."""
    with (folder / "log.txt").open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - 65536))
        return "\n".join(stream.read().decode("utf-8", "replace").splitlines()[-lines:])


class FolderReporter:
    """Writes events into the run folder: history is appended, progress replaced at most twice a second."""

    def __init__(self, folder: Path, interval: float = 0.5) -> None:
        self.folder = folder
        self.interval = interval
        self._last = 0.0

    def __call__(self, event: Event) -> None:
        """Write one event."""
        if isinstance(event, Progress):
            now = time.monotonic()
            if now - self._last >= self.interval or event.done >= event.total:
                self._last = now
                write_atomic(self.folder / "progress.json", event.model_dump_json())
            return
        with (self.folder / "events.jsonl").open("ab") as stream:
            stream.write(event.model_dump_json().encode() + b"\n")
