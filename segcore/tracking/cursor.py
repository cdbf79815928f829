"""Cursor: what `tracking.json` in a run folder says, which is how much of the run MLflow has been told."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from segcore.jobs.store import Job

FILE = "tracking.json"


class Cursor(BaseModel):
    """How much of the folder which store has accepted."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    uri: str = ""
    run_id: str | None = None
    offset: int = 0
    """Bytes of events.jsonl that were sent."""
    epoch: int = 0
    """Last epoch that was sent."""
    described: bool = False
    """Whether the model card was sent."""
    state: str = ""
    """State of the job that was told last."""
    complete: bool = False
    """Whether an end was told with all its results."""
    ended: float | None = None
    """Which end that was, `Job.ended`: a job that was resumed ends once more."""

    def is_complete(self, job: Job) -> bool:
        """Say whether nothing is left to be told of a job that is over for good."""
        return self.complete and job.state.final and self.ended in (None, job.ended)

    def has_news(self, job: Job) -> bool:
        """Say whether the folder says something that MLflow does not know yet."""
        if job.state.final:
            return not self.is_complete(job)
        if self.run_id is None or self.state != job.state:
            return True
        try:
            return (job.folder / "events.jsonl").stat().st_size > self.offset
        except OSError:
            return False  # deleted meanwhile


def read_cursor(folder: Path) -> Cursor:
    """Return what `tracking.json` says; nothing was sent if it is missing or damaged."""
    try:
        return Cursor.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError):
        return Cursor()
