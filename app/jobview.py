"""JobView: everything a page shows of one job, read from its run folder in one go."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segcore.card import ModelCard, read_config
from segcore.config import RunConfig
from segcore.errors import SegcoreError
from segcore.events import EpochEvent, NoteEvent, Progress, StageEvent
from segcore.jobs.journal import read_events, read_log, read_progress, read_results
from segcore.jobs.store import Job, Kind, State, asked, queue_place
from segcore.workspace import Workspace


@dataclass(frozen=True)
class JobView:
    """A snapshot of a job for the page.

    Parameters
    ----------
    id, kind, session, state, created, started, ended, message, remedy, mlflow_run_id
        As in `job.json`; times in seconds since 1970.
    folder : Path
        The run folder, absolute.
    config : RunConfig
        The options it was given; defaults if `config.json` cannot be read.
    card : ModelCard or None
        The card of the trained model, if there is one.
    place : int
        1 for the job that is next in the queue; 0 if it does not wait.
    progress : Progress or None
        Where it stands now.
    history : tuple of EpochEvent
        The epochs so far.
    notes : tuple of NoteEvent
        What it had to say.
    stage : str
        What it does at the moment, in the user's words.
    log : str
        The last lines of the log.
    elapsed : float or None
        Seconds since it started, or what it took.
    stopping : bool
        Somebody asked it to stop and it has not ended yet.
    results : Mapping
        `results.json` of a training, `metadata.json` of a segmentation; empty until it is written.
    """

    id: str
    kind: Kind
    session: str
    state: State
    created: float
    started: float | None
    ended: float | None
    message: str
    remedy: str
    mlflow_run_id: str | None
    folder: Path
    config: RunConfig
    card: ModelCard | None
    place: int
    progress: Progress | None
    history: tuple[EpochEvent, ...]
    notes: tuple[NoteEvent, ...]
    stage: str
    log: str
    elapsed: float | None
    stopping: bool
    results: Mapping[str, Any] = field(default_factory=dict)

    @property
    def best(self) -> EpochEvent | None:
        """The best epoch so far, by validation Dice."""
        return next((epoch for epoch in reversed(self.history) if epoch.best), None)

    @property
    def last(self) -> EpochEvent | None:
        """The last epoch that ended."""
        return self.history[-1] if self.history else None

    @property
    def seconds_left(self) -> float | None:
        """Predicted seconds until the end, None if unknown or over."""
        running = self.state is State.RUNNING and self.progress is not None
        return self.progress.seconds_left if running and self.progress else None

    @property
    def has_model(self) -> bool:
        """True if the training left a model that can be used."""
        return self.kind == "train" and (self.folder / "best_model.pth").is_file()

    @property
    def class_names(self) -> dict[int, str]:
        """What a segmentation calls its label values, where the name is not just the value."""
        names = self.results.get("class_names", {}) if self.kind == "predict" else {}
        return {int(value): name for value, name in names.items() if name != value}

    @property
    def segmentation(self) -> Path | None:
        """The label image that the segmentation wrote, if it has."""
        path = self.folder / "segmentation.tif"
        return path if self.kind == "predict" and path.is_file() else None


def view_job(workspace: Workspace, job: Job, log_lines: int = 40) -> JobView:
    """Read what the page shows of `job`; a damaged part is shown as missing, never raised."""
    history: dict[int, EpochEvent] = {}
    notes: list[NoteEvent] = []
    stage = ""
    try:
        for event in read_events(job.folder):
            if isinstance(event, EpochEvent):
                history[event.epoch] = event
            elif isinstance(event, NoteEvent):
                notes.append(event)
            elif isinstance(event, StageEvent):
                stage = event.text
    except (OSError, ValueError):
        notes.append(NoteEvent(level="warning", text="The run's history cannot be read completely."))
    try:
        config, card = read_config(job.folder / "config.json")
    except SegcoreError as error:
        config, card = RunConfig(session=job.session), None
        notes.append(NoteEvent(level="warning", text=error.message, remedy=error.remedy))
    end = job.ended if job.state.ended else time.time()
    return JobView(
        **job.model_dump(include=_JOB_FIELDS),
        folder=job.folder,
        config=config,
        card=card,
        place=queue_place(workspace, job),
        progress=read_progress(job.folder),
        history=tuple(history[number] for number in sorted(history)),
        notes=tuple(notes),
        stage=stage,
        log=_log(job.folder, log_lines),
        elapsed=max(0.0, end - job.started) if job.started is not None and end is not None else None,
        stopping=not job.state.ended and (asked(job.folder) is not None),
        results=read_results(job),
    )


_JOB_FIELDS = {
    "id",
    "kind",
    "session",
    "state",
    "created",
    "started",
    "ended",
    "message",
    "remedy",
    "mlflow_run_id",
}


def _log(folder: Path, lines: int) -> str:
    try:
        return read_log(folder, lines)
    except OSError:
        return ""
