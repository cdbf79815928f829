"""The job as `job.json` has it: what it is, where it is in its life, and its place in the line."""

from __future__ import annotations

import time
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from segcore.card import ModelCard, read_config
from segcore.config import RunConfig

Kind = Literal["train", "predict"]
Owner = Literal["worker", "command"]
Compared = Literal["", "default", "test", "validation", "all"]
PARTIAL = "partial"
"""Folder in a run folder with the blocks of a segmentation that is not finished."""
COMPARISON = "comparison"
"""Folder in a run folder with what an evaluation found, slice by slice."""
UNFINISHED = f".{COMPARISON}-"
"""What the name of such a folder begins with while it is written."""


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
    attempts: int = 0
    """How often a process has begun it; tells the present one from those before."""
    evaluates: Compared = ""
    """Of a job in the line of segmentations that compares one with annotations: which part of the annotated
    images counts, "default" for what `segcore evaluate` chooses; "" for a job that compares nothing."""
    mark: str = ""
    """What stands in the command line of its process, if not its id: a process that had waited for a job."""
    folder: Path = Field(default=Path(), exclude=True)

    @property
    def noun(self) -> str:
        """What a person calls it."""
        return noun_of(self.kind, self.evaluates)

    @property
    def resumption(self) -> str:
        """What it does when it is resumed."""
        return "begins anew" if self.evaluates else "goes on from where it was saved"

    @property
    def config(self) -> RunConfig:
        """The options the job was given."""
        return read_config(self.folder / "config.json")[0]

    @property
    def card(self) -> ModelCard | None:
        """The card of the model it trained, once the data has been read."""
        return read_config(self.folder / "config.json")[1]

    @property
    def line_key(self) -> tuple[float, float, str]:
        """What the jobs that wait are ordered by, the next one first."""
        return (self.created if self.rank is None else self.rank, self.created, self.id)

    @property
    def resumable(self) -> bool:
        """True if it ended too early and can be put in line again."""
        return self.state in (State.PAUSED, State.INTERRUPTED, State.FAILED, State.CANCELLED)

    @property
    def has_checkpoint(self) -> bool:
        """True if a training can go on from where it was."""
        return (self.folder / "checkpoints" / "last.pt").exists()

    @property
    def saved_at(self) -> float:
        """When it last saved what it can go on from, checkpoint or blocks of a segmentation; 0 for never."""
        patterns = ("checkpoints/last.pt",) if self.kind == "train" else ("*.jsonl", "*/*.jsonl")
        place = self.folder if self.kind == "train" else self.folder / PARTIAL
        times = [0.0]
        for path in (path for pattern in patterns for path in place.glob(pattern)):
            with suppress(OSError):  # finished a moment ago
                times.append(path.stat().st_mtime)
        return max(times)


def noun_of(kind: Kind, evaluates: Compared = "") -> str:
    """Return what a person calls a job.

    Examples
    --------
    >>> noun_of("train"), noun_of("predict"), noun_of("predict", "test")
    ('training', 'segmentation', 'evaluation')
    """
    return "training" if kind == "train" else "evaluation" if evaluates else "segmentation"
