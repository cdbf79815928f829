"""Paused, resumed, discarded, continued: MLflow has one run per job, whole, and knows where each stands."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tracking_runs import end_run, epoch

from segcore.config import RunConfig, build_config
from segcore.events import InterventionEvent, ResumeEvent
from segcore.jobs.journal import FolderReporter
from segcore.jobs.queue import discard, resume
from segcore.jobs.store import Job, State, create_job, end_job, read_job, start_job
from segcore.tracking import models, store
from segcore.tracking.mlflow import Follower, pending
from segcore.workspace import Workspace

Start = Callable[..., Job]
SECRET = "https://hooks.example.org/services/T0/secret"


def told(workspace: Workspace, job: Job) -> Any:
    """Tell MLflow what is new of a job and return its run."""
    assert Follower(job.folder, workspace).sync()
    run_id = read_job(job.folder).mlflow_run_id
    assert run_id
    return store.client(workspace).get_run(run_id)


def steps(workspace: Workspace, job: Job, name: str = "train_loss") -> list[int]:
    client = store.client(workspace)
    return [point.step for point in client.get_metric_history(str(read_job(job.folder).mlflow_run_id), name)]


def go_on(workspace: Workspace, job: Job, after: int, until: int) -> Job:
    """Resume a job from a checkpoint and let it report epochs."""
    resume(workspace, job.folder)
    job = start_job(job.folder)
    report = FolderReporter(job.folder)
    report(ResumeEvent(epoch=after, step=10 * after))
    for number in range(after + 1, until + 1):
        report(epoch(number).model_copy(update={"time": 1_800_000_000.0 + number}))
    return job


def test_a_paused_run_is_open_and_goes_on_in_the_same_run(
    workspace: Workspace, start_run: Start, config: RunConfig
) -> None:
    job = start_run(4)
    end_job(job.folder, State.PAUSED)
    assert pending(workspace) == [job.folder]
    paused = told(workspace, job)
    assert (paused.info.status, paused.data.tags["segcore.state"]) == ("SCHEDULED", "paused")
    assert pending(workspace) == [], "all there is to say has been said"
    assert not Follower(job.folder, workspace).finish(0), "it is not over"
    job = go_on(workspace, job, after=3, until=6)
    running = told(workspace, job)
    assert running.info.run_id == paused.info.run_id
    assert running.info.status == "RUNNING"
    end_run(job, config)
    assert told(workspace, job).info.status == "FINISHED"
    assert steps(workspace, job) == [1, 2, 3, 4, 5, 6]
    assert pending(workspace) == []


@pytest.mark.parametrize("state", [State.CANCELLED, State.FAILED])
def test_a_run_that_had_ended_is_reopened_and_gets_its_new_model(
    workspace: Workspace, start_run: Start, config: RunConfig, state: State
) -> None:
    job = end_run(start_run(2), config, state)
    first = told(workspace, job)
    assert first.data.metrics["best_epoch"] == 2
    (model,) = store.client(workspace).search_logged_models([first.info.experiment_id])
    job = go_on(workspace, job, after=2, until=5)
    assert pending(workspace) == [job.folder]
    assert told(workspace, job).info.status == "RUNNING"
    end_run(job, config)
    last = told(workspace, job)
    assert (last.info.run_id, last.info.status) == (first.info.run_id, "FINISHED")
    assert (last.data.metrics["best_epoch"], last.data.metrics["epochs_done"]) == (5, 5)
    assert steps(workspace, job) == [1, 2, 3, 4, 5]
    (newer,) = store.client(workspace).search_logged_models([first.info.experiment_id])
    assert newer.model_id != model.model_id, "the model of the first end is not that of the second"
    assert newer.tags["segcore.epoch"] == "5"


def test_a_registered_model_outlives_what_becomes_of_its_run(
    workspace: Workspace, start_run: Start, config: RunConfig
) -> None:
    job = end_run(start_run(2), config, State.CANCELLED)
    version = models.register(job, "cells", workspace)
    end_run(go_on(workspace, job, after=2, until=3), config)
    told(workspace, job)
    found = store.client(workspace).search_logged_models([told(workspace, job).info.experiment_id])
    assert sorted(model.tags["segcore.epoch"] for model in found) == ["2", "3"]
    assert models.fetch(version.reference, workspace).exists()
    assert models.register(read_job(job.folder), "cells", workspace).epoch == 3


def test_a_discarded_run_keeps_its_curves_and_nothing_of_its_model(
    workspace: Workspace, start_run: Start, config: RunConfig
) -> None:
    job, other = end_run(start_run(2), config, State.CANCELLED), start_run(1)
    client = store.client(workspace)
    known = told(workspace, job)
    assert "best_model.pth" in {item.path for item in client.list_artifacts(known.info.run_id)}
    for one in (job, other):
        discard(workspace, one.folder)
    end_job(other.folder, State.DISCARDED)  # as its process does
    for one in (job, other):
        run = told(workspace, one)
        assert (run.info.status, run.data.tags["segcore.state"]) == ("KILLED", "discarded")
        files = {item.path for item in client.list_artifacts(run.info.run_id)}
        assert "best_model.pth" not in files
        assert {"config.json", "curves.png"} <= files
    assert client.search_logged_models([known.info.experiment_id]) == []
    assert steps(workspace, job) == [1, 2]
    assert pending(workspace) == []


def test_kept_epochs_and_checkpoints_are_not_sent(
    workspace: Workspace, start_run: Start, config: RunConfig
) -> None:
    job = start_run(2)
    (job.folder / "checkpoints").mkdir()
    for name in ("last.pt", "best.pt", "epoch-0001.pth"):
        (job.folder / "checkpoints" / name).write_bytes(b"weights")
    run = told(workspace, end_run(job, config))
    files = {item.path for item in store.client(workspace).list_artifacts(run.info.run_id)}
    assert files == {"config.json", "results.json", "best_model.pth", "log.txt", "curves.png"}


def test_the_numbers_of_the_machine_are_told_where_they_are_known(
    workspace: Workspace, start_run: Start
) -> None:
    job = start_run(1)
    measured = {"loader_wait": 0.25, "memory": 3_000_000_000, "device_use": 0.75}
    FolderReporter(job.folder)(epoch(2).model_copy(update=measured))
    metrics = told(workspace, job).data.metrics
    assert (metrics["loader_wait"], metrics["memory_gb"], metrics["device_use"]) == (0.25, 3.0, 0.75)
    assert steps(workspace, job, "memory_gb") == steps(workspace, job, "device_use") == [2]


def test_what_the_autopilot_changed_is_told(workspace: Workspace, start_run: Start) -> None:
    job = start_run(1)
    report = FolderReporter(job.folder)
    given: dict[str, Any] = {"what": "dice-zero", "cause": "The rate is high.", "action": "Rate ÷ 3."}
    report(InterventionEvent(epoch=1, number=1, text="Nothing learned.", **given))
    told(workspace, job)
    report(InterventionEvent(epoch=4, number=2, text="x" * 9000, **given))
    tags = told(workspace, job).data.tags
    assert tags["segcore.interventions"] == "2"
    assert tags["segcore.intervention.1"] == "after epoch 1: Nothing learned. The rate is high. Rate ÷ 3."
    assert tags["segcore.intervention.2"].endswith("…")


def test_a_child_stands_below_its_parent(workspace: Workspace, config: RunConfig, start_run: Start) -> None:
    parent = start_run(1)
    early, late = (
        start_job(create_job(workspace, "train", config, parent=parent.id, group="g").folder) for _ in "ab"
    )
    orphan = start_job(create_job(workspace, "train", config, parent="20200101-000000-ffff").folder)
    unknown = told(workspace, early).data.tags
    assert (unknown["segcore.parent"], unknown["segcore.group"]) == (parent.id, "g")
    assert "mlflow.parentRunId" not in unknown
    run = told(workspace, parent)
    assert not {"segcore.parent", "segcore.group"} & run.data.tags.keys()
    assert told(workspace, late).data.tags["mlflow.parentRunId"] == run.info.run_id
    for job in (early, orphan):
        end_job(job.folder, State.FAILED)
    assert told(workspace, early).data.tags["mlflow.parentRunId"] == run.info.run_id
    assert "mlflow.parentRunId" not in told(workspace, orphan).data.tags


def test_a_continued_run_whose_best_epoch_is_its_parents_says_so(
    workspace: Workspace, start_run: Start, config: RunConfig
) -> None:
    job = start_run(0)
    for number in (4, 5):
        FolderReporter(job.folder)(epoch(number, dice=0.1, best=False))
    end_run(job, config)
    history = [epoch(1), epoch(2), epoch(3), *(epoch(number, dice=0.1, best=False) for number in (4, 5))]
    results = {"best_epoch": 3, "history": [event.model_dump(exclude={"kind"}) for event in history]}
    (job.folder / "results.json").write_text(json.dumps(results))
    metrics = told(workspace, job).data.metrics
    assert (metrics["best_epoch"], metrics["best_val_dice"]) == (3, epoch(3).val_dice)
    assert steps(workspace, job) == [4, 5]


def test_a_webhook_stays_on_this_machine(workspace: Workspace, start_run: Start) -> None:
    options = {"session": "s", "model": {"features": 2, "layers": 2}, "notify": {"webhook": SECRET}}
    config = build_config(options)
    job = end_run(start_run(1, config), config)
    run = told(workspace, job)
    assert run.data.params["notify.webhook"] == "https://hooks.example.org/…"
    artifacts = workspace.root.parent / "mlruns" / "artifacts"
    sent = [path for path in artifacts.rglob("*") if path.is_file()]
    assert len([path for path in sent if path.name == "config.json"]) == 2, "of the run and of its model"
    assert not [path for path in sent if b"T0/secret" in path.read_bytes()]
    assert SECRET in (job.folder / "config.json").read_text()


def test_a_store_that_was_down_over_a_pause_gets_everything(
    workspace: Workspace, config: RunConfig, start_run: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start_run(2)
    told(workspace, job)
    with monkeypatch.context() as down:
        down.setattr(store, "client", _refuse)
        FolderReporter(job.folder)(epoch(3))
        assert not Follower(job.folder, workspace).sync()
        end_job(job.folder, State.PAUSED)
        job = go_on(workspace, job, after=2, until=4)
        assert not Follower(job.folder, workspace).sync()
        assert pending(workspace) == [job.folder]
    end_run(job, config)
    assert told(workspace, job).info.status == "FINISHED"
    assert steps(workspace, job) == [1, 2, 3, 4]
    losses = store.client(workspace).get_metric_history(str(read_job(job.folder).mlflow_run_id), "val_dice")
    assert losses[2].timestamp == 1_800_000_003_000, "an epoch done again counts as last reported"


def _refuse(_: Workspace) -> None:
    raise ConnectionError("down")


def test_a_damaged_config_is_kept_back(workspace: Workspace, start_run: Start) -> None:
    job = start_run(1)
    follower = Follower(job.folder, workspace)
    assert follower.sync()
    (job.folder / "config.json").write_text('{"notify": {"webhook": "' + SECRET)
    end_job(job.folder, State.FAILED)
    assert follower.finish(0)
    client = store.client(workspace)
    run = client.get_run(str(read_job(job.folder).mlflow_run_id))
    assert run.info.status == "FAILED"
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {"log.txt", "curves.png"}
