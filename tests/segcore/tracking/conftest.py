"""Run folders made by hand, beside a store whose tables are made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tracking_runs import CARD, end_run, epoch

from segcore.card import write_config
from segcore.config import RunConfig, build_config
from segcore.jobs.journal import FolderReporter
from segcore.jobs.store import Job, State, create_job, start_job
from segcore.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path, tracked_workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Return a workspace with an embedded store of its own; the working folder is watched for litter."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tracked_workspace


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
