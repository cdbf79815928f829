"""JobView: everything a page shows of one job, read from its run folder in one go."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.history import History
from segcore.card import ModelCard, read_config
from segcore.config import RunConfig
from segcore.errors import SegcoreError
from segcore.events import EpochEvent, InterventionEvent, NoteEvent, Progress, Request, ResumeEvent
from segcore.jobs.job import noun_of
from segcore.jobs.journal import read_log, read_progress, read_results
from segcore.jobs.store import Compared, Job, Kind, State, asked, queue_place
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
    request : Request or None
        What somebody has asked of it while it has not ended yet.
    interventions : tuple of InterventionEvent
        What the autopilot changed.
    resumes : tuple of ResumeEvent
        Where it went on from a checkpoint.
    kept : tuple of int
        Epochs whose weights lie in the folder, the best apart; ascending.
    group, parent : str
        As in `job.json`: what it is a repeat of, and what it goes on from.
    evaluates : str
        As in `job.json`: "" unless it compares a segmentation with annotations.
    results : Mapping
        `metadata.json` of a segmentation, else `results.json`; empty until it is written.
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
    request: Request | None
    results: Mapping[str, Any] = field(default_factory=dict)
    interventions: tuple[InterventionEvent, ...] = ()
    resumes: tuple[ResumeEvent, ...] = ()
    kept: tuple[int, ...] = ()
    group: str = ""
    parent: str = ""
    evaluates: Compared = ""

    @property
    def noun(self) -> str:
        """What a person calls it: training, segmentation or evaluation."""
        return noun_of(self.kind, self.evaluates)

    @property
    def stopping(self) -> bool:
        """True if somebody asked it to end, in whichever way, and it has not ended yet."""
        return self.request is not None

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
    def label_names(self) -> dict[str, str]:
        """What the training calls its label values, by the value as events write it."""
        card = self.card
        return dict(zip(map(str, card.class_values), card.class_names, strict=True)) if card else {}

    @property
    def class_names(self) -> dict[int, str]:
        """What a segmentation or its evaluation calls label values, where the name is not just the value."""
        names = self.results.get("class_names", {}) if self.kind == "predict" else {}
        return {int(value): name for value, name in names.items() if name != value}

    @property
    def segmentations(self) -> dict[str, Path]:
        """The label images that the segmentation wrote, by the name of their image."""
        if self.noun != "segmentation":
            return {}
        alone = {key: self.results[key] for key in ("name", "segmentation") if key in self.results}
        paths = {
            str(one.get("name", "")): self.folder / str(one.get("segmentation", "segmentation.tif"))
            for one in self.results.get("images") or [alone]
        }
        return {name: path for name, path in paths.items() if path.exists()}

    @property
    def more_results(self) -> list[Path]:
        """What else the segmentation wrote that one may take along."""
        names = (
            "segmentation.objects.csv", "probabilities.tif", "probabilities.ome.zarr", "probabilities",
            "metadata.json",
        )  # fmt: skip
        return (
            [path for name in names if (path := self.folder / name).exists()]
            if self.kind == "predict"
            else []
        )

    @property
    def segmentation(self) -> Path | None:
        """The (first) label image that the segmentation wrote, if it has."""
        return next(iter(self.segmentations.values()), None)


def view_job(workspace: Workspace, job: Job, log_lines: int = 40, history: History | None = None) -> JobView:
    """Read what the page shows of `job`; a damaged part is shown as missing, never raised.

    With `history`, only the events that are new since it was last asked are read.
    """
    record = (history or History(1)).read(job.folder)
    notes = [*record.notes]
    if not record.whole:
        notes.append(NoteEvent(level="warning", text="The run's history cannot be read."))
    elif record.missing:
        notes.append(NoteEvent(level="warning", text=_missing_text(record.missing)))
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
        history=record.epochs,
        notes=tuple(notes),
        stage=record.stage,
        log=_log(job.folder, log_lines),
        elapsed=max(0.0, end - job.started) if job.started is not None and end is not None else None,
        request=None if job.state.ended else asked(job.folder),
        results=read_results(job),
        interventions=record.interventions,
        resumes=record.resumes,
        kept=kept_epochs(job.folder),
    )


def kept_epochs(folder: Path) -> tuple[int, ...]:
    """Return the epochs whose weights were kept in the run folder, ascending."""
    found = (_EPOCH_FILE.fullmatch(path.name) for path in (folder / "checkpoints").glob("epoch-*.pth"))
    return tuple(sorted(int(match[1]) for match in found if match))


_EPOCH_FILE = re.compile(r"epoch-(\d+)\.pth")
_JOB_FIELDS = {
    "id", "kind", "session", "state", "created", "started", "ended", "message", "remedy", "mlflow_run_id",
    "group", "parent", "evaluates",
}  # fmt: skip


def _missing_text(missing: list[int]) -> str:
    named = ", ".join(map(str, missing[:8])) + (" …" if len(missing) > 8 else "")
    many = len(missing) > 1
    return f"The numbers of epoch{'s' if many else ''} {named} cannot be read; the rest is complete."


def _log(folder: Path, lines: int) -> str:
    try:
        return read_log(folder, lines)
    except OSError:
        return ""
