"""Ending: what MLflow is told when a run is over: files, model, final scores, picture, status."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from segcore.jobs.epochs import find_epoch, model_epoch
from segcore.jobs.journal import read_history, read_results
from segcore.jobs.store import Job, State
from segcore.tracking import store
from segcore.tracking.curves import draw_curves
from segcore.tracking.package import CONFIG, EPOCH_TAG, WEIGHTS, find_model, log_epoch, log_model, log_scores
from segcore.tracking.record import best_epoch, result_metrics, whole_history, without_secrets
from segcore.tracking.runs import set_tags
from segcore.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run

STATE_TAG = "segcore.state"
FILES = ("results.json", "log.txt")
"""Sent as they are; the checkpoints and the weights of kept epochs stay where they are."""
STATUS = {
    State.FINISHED: "FINISHED",
    State.FAILED: "FAILED",
    State.CANCELLED: "KILLED",
    State.DISCARDED: "KILLED",
}


def send_results(client: MlflowClient, run: Run, job: Job, workspace: Workspace, described: bool) -> None:
    """Tell MLflow how a run ended; a run that ended before and was resumed is told anew.

    Parameters
    ----------
    client : MlflowClient
        The store.
    run : Run
        The run of the job.
    job : Job
        It is over: `State.final`.
    workspace : Workspace
        The workspace of the job.
    described : bool
        Whether the model card is known, without which there is no model.
    """
    _send_files(client, run, job)
    scratch = workspace.state / "scratch"
    model = None
    if job.state is State.DISCARDED:
        _withdraw_model(client, run, store.tracking_uri(workspace))
    elif described and (job.folder / WEIGHTS).exists():
        model = _send_model(client, client.get_run(run.info.run_id), job, scratch)
    history = whole_history(job)
    best = best_epoch(history)
    if best is not None:
        more = result_metrics(read_results(job))
        log_scores(client, run.info.run_id, model.model_id if model else None, history, best, more)
        with TemporaryDirectory() as temporary:
            picture = Path(temporary) / "curves.png"
            draw_curves(history, picture, f"{job.session} / {job.id}")
            client.log_artifact(run.info.run_id, str(picture))
    device = str(read_results(job).get("device", ""))
    set_tags(
        client, run, {"segcore.device": device, "segcore.message": job.message, STATE_TAG: job.state.value}
    )
    client.set_terminated(run.info.run_id, STATUS[job.state], round((job.ended or time.time()) * 1000))


def _send_files(client: MlflowClient, run: Run, job: Job) -> None:
    names = FILES if job.state is State.DISCARDED else (*FILES, WEIGHTS)
    for path in (job.folder / name for name in names):
        if path.exists():
            client.log_artifact(run.info.run_id, str(path))
    with TemporaryDirectory() as temporary, suppress(ValueError, FileNotFoundError):
        # A damaged one is kept back: what of it is secret cannot be told.
        config = without_secrets(job.folder / CONFIG, Path(temporary))
        client.log_artifact(run.info.run_id, str(config))


def _send_model(client: MlflowClient, run: Run, job: Job, scratch: Path) -> LoggedModel:
    """Log the model of the run; one that was logged at an earlier end gives way, unless it is registered."""
    logged, now = find_model(client, run), model_epoch(job.folder, read_history(job.folder))
    if logged is not None and now is not None and logged.tags.get(EPOCH_TAG, str(now)) != str(now):
        if _is_registered(logged):
            kept = find_epoch(job.folder, now, read_history(job.folder))
            return log_epoch(client, run, job.folder, kept, scratch)
        client.delete_logged_model(logged.model_id)
    return log_model(client, run, job.folder, scratch)


def _withdraw_model(client: MlflowClient, run: Run, uri: str) -> None:
    """Delete what an earlier end of a discarded run left of its model; a registered model stays."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    if any(item.path == WEIGHTS for item in client.list_artifacts(run.info.run_id)):
        get_artifact_repository(run.info.artifact_uri, tracking_uri=uri).delete_artifacts(WEIGHTS)
    model = find_model(client, run)
    if model is not None and not _is_registered(model):
        client.delete_logged_model(model.model_id)


def _is_registered(model: LoggedModel) -> bool:
    from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

    return MLFLOW_MODEL_VERSIONS in model.tags
