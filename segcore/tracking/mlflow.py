"""Follower: tells MLflow what a run folder says; the folder is the truth, and a server may be down."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from segcore.errors import ConfigError, JobError
from segcore.events import EpochEvent
from segcore.files import write_atomic
from segcore.jobs.journal import EventTail, read_history, read_results
from segcore.jobs.store import Job, State, list_jobs, read_job, update_job
from segcore.tracking import store
from segcore.tracking.curves import draw_curves
from segcore.tracking.package import CONFIG, WEIGHTS, log_model, log_scores
from segcore.tracking.record import best_epoch, card_tags, epoch_metrics
from segcore.tracking.runs import open_run, set_tags
from segcore.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

FILE = "tracking.json"
ARTIFACTS = (CONFIG, "results.json", WEIGHTS, "log.txt")
STATUS = {
    State.FINISHED: "FINISHED",
    State.FAILED: "FAILED",
    State.INTERRUPTED: "FAILED",
    State.CANCELLED: "KILLED",
}
BATCH = 1000
"""Most metrics MLflow takes at once."""

_log = logging.getLogger(__name__)


class Cursor(BaseModel):
    """What `tracking.json` says: how much of the folder which store has accepted."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    uri: str = ""
    run_id: str | None = None
    offset: int = 0
    """Bytes of events.jsonl that were sent."""
    epoch: int = 0
    """Last epoch that was sent."""
    described: bool = False
    """Whether the model card was sent."""
    complete: bool = False


def read_cursor(folder: Path) -> Cursor:
    """Return what `tracking.json` says; nothing was sent if it is missing or damaged."""
    try:
        return Cursor.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError):
        return Cursor()


def pending(workspace: Workspace) -> list[Path]:
    """Return the folders of trainings of which MLflow does not know everything yet, oldest first."""
    jobs = [job for job in list_jobs(workspace, "train") if job.started is not None]
    return [job.folder for job in reversed(jobs) if not read_cursor(job.folder).complete]


class Follower:
    """Follows one run folder and tells MLflow.

    Every call may fail at any point and be repeated, by this process or another: what was accepted is noted
    afterwards in `tracking.json`, and what is sent twice changes nothing (the run is found by its job id; a
    metric with equal time, step and value is the same metric). Segmentations get no run.

    Parameters
    ----------
    folder : Path
        Run folder.
    workspace : Workspace
        The workspace it belongs to.
    """

    def __init__(self, folder: Path, workspace: Workspace) -> None:
        self.folder = folder
        self.workspace = workspace
        self.uri = store.public_uri(store.tracking_uri(workspace))
        self._client: MlflowClient | None = None
        self._run: Run | None = None
        self._failures = 0
        self._next_try = 0.0

    def sync(self) -> bool:
        """Send what is new. Cheap when nothing is; returns at once for a while after the store has failed.

        Returns
        -------
        bool
            True if MLflow knows all the folder says now; False if something has to be sent later.
        """
        if time.monotonic() < self._next_try:
            return False
        try:
            job = read_job(self.folder)
            if job.kind != "train" or job.started is None or not self._has_news(job):
                return True
            with FileLock(self.folder / ".tracking.lock", timeout=0):
                self._send(job)
        except JobError:
            return True  # deleted meanwhile: there is nothing left to tell
        except Timeout:
            return False  # another process is sending the same
        except Exception as error:  # whatever MLflow does, the job and whoever watches it must go on
            self._failed(error)
            return False
        if self._failures:
            _log.info("MLflow answers again; run %s is up to date.", job.id)
        self._failures = 0
        return True

    def finish(self, timeout: float = 60) -> bool:
        """Send all that is left of an ended job, trying again until `timeout` seconds are over.

        Returns
        -------
        bool
            True if MLflow knows everything; False if the rest has to be sent later, or the job has not ended.
        """
        deadline = time.monotonic() + timeout
        pause = 0.2
        while True:
            self._next_try = 0.0
            if self.sync():
                return self._is_complete()
            if time.monotonic() + pause >= deadline:
                return False
            time.sleep(pause)
            pause = min(2 * pause, 5.0)

    def forget(self) -> None:
        """Forget what was sent, so that everything is sent again: the store has lost it."""
        self._run = None
        self._save(Cursor(uri=self.uri))

    def _cursor(self) -> Cursor:
        cursor = read_cursor(self.folder)
        return cursor if cursor.uri == self.uri else Cursor(uri=self.uri)  # another store knows nothing yet

    def _save(self, cursor: Cursor) -> Cursor:
        write_atomic(self.folder / FILE, cursor.model_dump_json(indent=2))
        return cursor

    def _is_complete(self) -> bool:
        try:
            job = read_job(self.folder)
        except JobError:
            return True
        return job.kind != "train" or (job.state.ended and job.started is None) or self._cursor().complete

    def _has_news(self, job: Job) -> bool:
        cursor = self._cursor()
        if cursor.complete:
            return False
        size = (self.folder / "events.jsonl").stat().st_size
        return cursor.run_id is None or size > cursor.offset or job.state.ended

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._run = self._client = None  # the store may have been emptied or moved: look for the run again
        self._next_try = time.monotonic() + min(15 * 2 ** (self._failures - 1), 300)
        if self._failures == 1:
            reason = store.explain(error, self.uri)
            known = isinstance(error, store.server_errors())
            _log.warning(
                "%s What run %s has to say is sent later.", reason, self.folder.name, exc_info=not known
            )

    def _send(self, job: Job) -> None:
        if self._client is None:
            self._client = store.client(self.workspace)
        client = self._client
        cursor = self._cursor()
        if self._run is None:
            self._run = open_run(client, self.workspace, job)
            if self._run.info.run_id != cursor.run_id:
                cursor = self._save(Cursor(uri=self.uri, run_id=self._run.info.run_id))
        if job.mlflow_run_id != cursor.run_id:
            update_job(self.folder, mlflow_run_id=cursor.run_id)
        cursor = self._send_epochs(client, self._run, cursor)
        cursor = self._send_card(client, self._run, job, cursor)
        if job.state.ended:
            self._send_results(client, self._run, job)
            self._save(cursor.model_copy(update={"complete": True}))

    def _send_epochs(self, client: MlflowClient, run: Run, cursor: Cursor) -> Cursor:
        tail = EventTail(self.folder, cursor.offset)
        events = tail.new()
        if tail.offset == cursor.offset:
            return cursor
        last, metrics = cursor.epoch, []
        for event in events:
            # A resumed training reports some epochs again; MLflow cannot take a point of a curve back.
            if isinstance(event, EpochEvent) and event.epoch > last:
                last = event.epoch
                metrics += _metrics(event)
        for start in range(0, len(metrics), BATCH):
            client.log_batch(run.info.run_id, metrics=metrics[start : start + BATCH])
        return self._save(cursor.model_copy(update={"offset": tail.offset, "epoch": last}))

    def _send_card(self, client: MlflowClient, run: Run, job: Job, cursor: Cursor) -> Cursor:
        try:
            card = None if cursor.described and not job.state.ended else job.card
        except ConfigError:
            return cursor  # damaged: the job itself will have said so
        if card is None:
            return cursor
        set_tags(client, run, card_tags(card))
        return self._save(cursor.model_copy(update={"described": True}))

    def _send_results(self, client: MlflowClient, run: Run, job: Job) -> None:
        run_id = run.info.run_id
        for name in ARTIFACTS:
            if (self.folder / name).exists():
                client.log_artifact(run_id, str(self.folder / name))
        model = None
        if (self.folder / WEIGHTS).exists() and self._cursor().described:
            model = log_model(client, client.get_run(run_id), self.folder, self.workspace.state / "scratch")
        history = read_history(self.folder)
        best = best_epoch(history)
        if best is not None:
            log_scores(client, run_id, model.model_id if model else None, history, best)
            with TemporaryDirectory() as temporary:
                picture = Path(temporary) / "curves.png"
                draw_curves(history, picture, f"{job.session} / {job.id}")
                client.log_artifact(run_id, str(picture))
        set_tags(client, run, {"segcore.device": _device(self.folder), "segcore.message": job.message})
        client.set_terminated(run_id, STATUS[job.state], round((job.ended or time.time()) * 1000))


def _metrics(event: EpochEvent) -> list[Metric]:
    from mlflow.entities import Metric

    moment = round(event.time * 1000)
    return [Metric(name, value, moment, event.epoch) for name, value in epoch_metrics(event).items()]


def _device(folder: Path) -> str:
    return str(read_results(read_job(folder)).get("device", ""))
