"""Run folders made by hand, and a store whose tables are made once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tracking_runs import CARD, end_run, epoch

from segcore.card import write_config
from segcore.config import RunConfig, build_config
from segcore.jobs.store import FolderReporter, Job, State, create_job, start_job
from segcore.tracking import store
from segcore.workspace import Workspace


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a database with its tables once, because that takes seconds."""
    workspace = Workspace.open(tmp_path_factory.mktemp("store") / "workspace")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv(store.ENVIRONMENT, raising=False)
        store.ensure_ready(workspace)
    return store.mlruns(workspace) / "mlflow.db"


@pytest.fixture
def workspace(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Open a workspace with an embedded store of its own; the working folder is watched for litter."""
    for name in ("MLFLOW_TRACKING_URI", store.ENVIRONMENT, "SEGCORE_MLFLOW_URL"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_store, tmp_path / "mlruns" / "mlflow.db")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return Workspace.open(tmp_path / "workspace")


@pytest.fixture
def config() -> RunConfig:
    return build_config({"session": "Test session", "model": {"features": 2, "layers": 2}})


@pytest.fixture
def start_run(workspace: Workspace, config: RunConfig) -> Callable[..., Job]:
    """Make a training that runs and has reported some epochs."""

    def start(epochs: int = 3, config: RunConfig = config) -> Job:
        job = start_job(create_job(workspace, "train", config).folder)
        write_config(job.folder / "config.json", config, CARD)
        report = FolderReporter(job.folder)
        for number in range(1, epochs + 1):
            report(epoch(number))
        return job

    return start


@pytest.fixture
def finished_run(start_run: Callable[..., Job], config: RunConfig) -> Callable[..., Job]:
    """Make a training that has ended with a model."""

    def finish(epochs: int = 3, state: State = State.FINISHED) -> Job:
        return end_run(start_run(epochs), config, state)

    return finish
