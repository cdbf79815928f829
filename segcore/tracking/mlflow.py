"""Follower: tells MLflow what a run folder says; the folder is the truth, and a server may be down."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from segcore.errors import ConfigError, JobError
from segcore.events import EpochEvent, Event, InterventionEvent, ResumeEvent
from segcore.files import write_atomic
from segcore.jobs.journal import EventTail
from segcore.jobs.store import Job, State, list_jobs, read_job, update_job
from segcore.tracking import store
from segcore.tracking.cursor import FILE, Cursor, read_cursor
from segcore.tracking.ending import STATE_TAG, send_results
from segcore.tracking.record import card_tags, epoch_metrics, intervention_tags
from segcore.tracking.runs import link_parent, open_run, set_tags
from segcore.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

WAITS = "SCHEDULED"
"""What MLflow calls a run that waits, is paused or was interrupted: there is more to come."""
BATCH = 1000
"""Most metrics MLflow takes at once."""

_log = logging.getLogger(__name__)


def pending(workspace: Workspace) -> list[Path]:
    """Return the folders of trainings of which MLflow does not know everything yet, oldest first."""
    jobs = [job for job in list_jobs(workspace, "train") if job.started is not None]
    return [job.folder for job in reversed(jobs) if read_cursor(job.folder).has_news(job)]


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
            if job.kind != "train" or job.started is None or not self._cursor().has_news(job):
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
        """Send all that is left of a job that is over, trying again until `timeout` seconds are over.

        Returns
        -------
        bool
            True if MLflow knows everything; False if the rest has to be sent later, or the job is not over,
            as one that is paused or was interrupted.
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
        unbegun = job.state.final and job.started is None
        return job.kind != "train" or unbegun or self._cursor().is_complete(job)

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
            link_parent(client, self.workspace, self._run, job)
            if self._run.info.run_id != cursor.run_id:
                cursor = self._save(Cursor(uri=self.uri, run_id=self._run.info.run_id))
        if job.mlflow_run_id != cursor.run_id:
            update_job(self.folder, mlflow_run_id=cursor.run_id)
        cursor = self._send_state(client, self._run, job, cursor)
        cursor = self._send_events(client, self._run, cursor)
        cursor = self._send_card(client, self._run, job, cursor)
        if job.state.final:
            link_parent(client, self.workspace, self._run, job)  # the other run may be known by now
            send_results(client, self._run, job, self.workspace, cursor.described)
            self._save(cursor.model_copy(update={"complete": True, "ended": job.ended, "state": job.state}))

    def _send_state(self, client: MlflowClient, run: Run, job: Job, cursor: Cursor) -> Cursor:
        """Say whether the run is at work or waits; also of one that had ended and was resumed."""
        if job.state.final or cursor.state == job.state:
            return cursor
        client.update_run(run.info.run_id, "RUNNING" if job.state is State.RUNNING else WAITS)
        set_tags(client, run, {STATE_TAG: job.state})
        return self._save(cursor.model_copy(update={"state": job.state, "complete": False}))

    def _send_events(self, client: MlflowClient, run: Run, cursor: Cursor) -> Cursor:
        tail = EventTail(self.folder, cursor.offset)
        events = tail.new()
        if tail.offset == cursor.offset:
            return cursor
        epochs = _new_epochs(events, cursor.epoch)
        metrics = [metric for event in epochs for metric in _metrics(event)]
        for start in range(0, len(metrics), BATCH):
            client.log_batch(run.info.run_id, metrics=metrics[start : start + BATCH])
        set_tags(
            client, run, intervention_tags([one for one in events if isinstance(one, InterventionEvent)])
        )
        last = epochs[-1].epoch if epochs else cursor.epoch
        return self._save(cursor.model_copy(update={"offset": tail.offset, "epoch": last}))

    def _send_card(self, client: MlflowClient, run: Run, job: Job, cursor: Cursor) -> Cursor:
        try:
            card = None if cursor.described and not job.state.final else job.card
        except ConfigError:
            return cursor  # damaged: the job itself will have said so
        if card is None:
            return cursor
        set_tags(client, run, card_tags(card))
        return self._save(cursor.model_copy(update={"described": True}))


def _new_epochs(events: list[Event], told: int) -> list[EpochEvent]:
    """Return the epochs after the last one that was told, each once, as last reported.

    A resumed training reports some epochs again; MLflow cannot take a point of a curve back.
    """
    found: dict[int, EpochEvent] = {}
    for event in events:
        if isinstance(event, EpochEvent) and event.epoch > told:
            found[event.epoch] = event
        elif isinstance(event, ResumeEvent):
            found = {number: epoch for number, epoch in found.items() if number <= event.epoch}
    return [found[number] for number in sorted(found)]


def _metrics(event: EpochEvent) -> list[Metric]:
    from mlflow.entities import Metric

    moment = round(event.time * 1000)
    return [Metric(name, value, moment, event.epoch) for name, value in epoch_metrics(event).items()]
