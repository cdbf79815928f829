"""MLflow's server goes away in the middle of a training: nothing stops, and nothing is missing afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from studio import Studio
from tracking_server import TrackingServer

from segcore.config import RunConfig
from segcore.jobs.journal import read_history
from segcore.jobs.queue import submit
from segcore.jobs.store import State, read_job
from segcore.tracking import store
from segcore.tracking.mlflow import pending
from segcore.workspace import Workspace

EPOCHS = 30


@pytest.fixture
def server(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrackingServer]:
    """Start a tracking server, which all processes are told to use."""
    server = TrackingServer(tmp_path / "server", empty_store)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.start())
    yield server
    server.close()


@pytest.mark.timeout(900)
def test_a_server_that_is_away_for_a_while_misses_nothing(
    workspace: Workspace, server: TrackingServer, tiny_config: RunConfig, wait_until: Callable[..., None]
) -> None:
    training = tiny_config.training.model_copy(update={"epochs": EPOCHS})
    studio = Studio(workspace, {"OMP_NUM_THREADS": "1", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})
    studio.start("worker")
    try:
        job = submit(workspace, "train", tiny_config.model_copy(update={"training": training}))
        wait_until(lambda: read_job(job.folder).mlflow_run_id is not None, 120)
        before = len(read_history(job.folder))
        server.close()
        wait_until(lambda: read_job(job.folder).state.final, 300)
        assert read_job(job.folder).state is State.FINISHED
        assert before < EPOCHS, "the server went away too late to be missed"
        assert pending(workspace) == [job.folder], "the server cannot know everything yet"

        server.start()
        wait_until(lambda: not pending(workspace), 300)
    finally:
        studio.close()
    client = store.client(workspace)
    run = client.get_run(str(read_job(job.folder).mlflow_run_id))
    assert run.info.status == "FINISHED"
    for metric in ("train_loss", "val_loss", "val_dice", "learning_rate"):
        points = client.get_metric_history(run.info.run_id, metric)
        assert [point.step for point in points] == list(range(1, EPOCHS + 1)), metric
    sent = {point.step: point.value for point in client.get_metric_history(run.info.run_id, "val_dice")}
    assert sent == {event.epoch: event.val_dice for event in read_history(job.folder)}
