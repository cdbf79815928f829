"""The same against a real tracking server that keeps its artifacts to itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tracking_server import TrackingServer

from segcore.jobs.queue import discard
from segcore.jobs.store import Job, State, end_job, read_job
from segcore.tracking import models, store
from segcore.tracking.mlflow import Follower, pending
from segcore.workspace import Workspace


@pytest.fixture
def server(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Give the means to start a server, whose address is known already."""
    server = TrackingServer(tmp_path / "server", empty_store)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    yield server.start
    server.close()


def test_a_server_that_comes_late_gets_everything(
    workspace: Workspace,
    server: Callable[[], str],
    start_run: Callable[..., Job],
    finished_run: Callable[..., Job],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job, other = finished_run(), start_run(2)
    assert not Follower(job.folder, workspace).finish(0)
    assert pending(workspace) == [job.folder, other.folder]
    url = server()
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    assert Follower(other.folder, workspace).sync()
    end_job(other.folder, State.FAILED, "No memory.")
    version = models.register(job, "cells", workspace)
    assert Follower(other.folder, workspace).finish(0)
    assert pending(workspace) == []

    client = store.client(workspace)
    assert client.get_run(version.run_id).info.artifact_uri.startswith("mlflow-artifacts:")
    assert len(client.get_metric_history(version.run_id, "val_dice")) == 3
    assert client.get_run(str(read_job(other.folder).mlflow_run_id)).info.status == "FAILED"
    assert models.register(job, "cells", workspace) == version
    assert models.set_alias("cells", "champion", 1, workspace).aliases == ("champion",)
    (model,) = models.list_models(workspace)
    assert model.versions[0].val_dice == version.val_dice
    assert str(models.ui_url(workspace, version.run_id)).startswith(f"{url}/#/runs/")

    folder = models.fetch("models:/cells@champion", workspace)
    assert folder.is_relative_to(workspace.state), "a server's files are kept in the workspace"
    assert (folder / "best_model.pth").read_bytes() == (job.folder / "best_model.pth").read_bytes()
    before = (folder / "best_model.pth").stat().st_mtime_ns
    assert models.fetch("models:/cells/1", workspace) == folder
    assert (folder / "best_model.pth").stat().st_mtime_ns == before, "downloaded once"

    stopped = finished_run(state=State.CANCELLED)
    assert Follower(stopped.folder, workspace).finish(0)
    run_id = str(read_job(stopped.folder).mlflow_run_id)
    assert "best_model.pth" in {item.path for item in client.list_artifacts(run_id)}
    discard(workspace, stopped.folder)
    assert Follower(stopped.folder, workspace).finish(0)
    assert "best_model.pth" not in {item.path for item in client.list_artifacts(run_id)}
