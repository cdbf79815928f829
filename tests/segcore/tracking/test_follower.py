"""Whatever happens between folder and store, MLflow ends up with exactly what the folder says."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tracking_runs import CARD, end_run, epoch

from segcore.config import RunConfig, build_config
from segcore.jobs.journal import FolderReporter
from segcore.jobs.store import Job, State, create_job, end_job, read_job, start_job
from segcore.tracking import mlflow as tracking
from segcore.tracking import store
from segcore.tracking.mlflow import Follower, pending, read_cursor
from segcore.workspace import Workspace

Start = Callable[..., Job]


def curves(workspace: Workspace, run_id: str) -> dict[str, list[tuple[int, int, float]]]:
    """Read every metric of the run: step, time, value."""
    client = store.client(workspace)
    names = client.get_run(run_id).data.metrics
    return {
        name: [
            (point.step, point.timestamp, point.value) for point in client.get_metric_history(run_id, name)
        ]
        for name in sorted(names)
    }


def run_of(job: Job) -> str:
    run_id = read_job(job.folder).mlflow_run_id
    assert run_id
    return run_id


def runs(workspace: Workspace) -> list[Any]:
    client = store.client(workspace)
    return list(client.search_runs([item.experiment_id for item in client.search_experiments()]))


def test_told_bit_by_bit_is_told_at_once(workspace: Workspace, start_run: Start, config: RunConfig) -> None:
    slow, fast = start_run(0), start_run(0)
    follower = Follower(slow.folder, workspace)
    assert follower.sync()
    for number in range(1, 6):
        for job in (slow, fast):
            FolderReporter(job.folder)(epoch(number))
        assert follower.sync()
        assert follower.sync(), "nothing new is no error"
    for job in (slow, fast):
        end_run(job, config)
    assert follower.finish(0)
    assert Follower(fast.folder, workspace).finish(0)
    told = curves(workspace, run_of(slow))
    assert told == curves(workspace, run_of(fast))
    assert [step for step, _, _ in told["val_dice_class_255"]] == [1, 2, 3, 4, 5]
    assert told["val_loss"][3] == (4, round(epoch(4).time * 1000), epoch(4).val_loss)
    assert "val_iou_class_255" not in told, "what is not a number is not a score"
    assert (workspace.root.parent / "elsewhere").exists()
    assert not list(Path.cwd().iterdir()), "MLflow must not write into the working folder"


def test_everything_about_a_run_is_told(workspace: Workspace, finished_run: Start) -> None:
    job = finished_run()
    assert Follower(job.folder, workspace).finish(0)
    client = store.client(workspace)
    run = client.get_run(run_of(job))
    assert client.get_experiment(run.info.experiment_id).name == job.session
    assert run.info.run_name == job.id
    assert run.info.status == "FINISHED"
    assert run.data.params["data.patch_size"] == "64"
    assert run.data.params["training.max_minutes"] == "None"
    options = json.loads((job.folder / "config.json").read_text())
    del options["trained"]
    expected = {
        "session",
        *(f"{group}.{name}" for group, values in options.items() if group != "session" for name in values),
    }
    assert set(run.data.params) == expected
    assert run.data.tags["segcore.data_hash"] == CARD.data_hash
    assert run.data.tags["segcore.class_values"] == "[0, 255]"
    assert run.data.tags["segcore.device"] == "CPU, 2 cores, fp32"
    assert run.data.metrics["best_val_dice"] == epoch(3).val_dice
    assert run.data.metrics["best_epoch"] == 3
    files = {item.path for item in client.list_artifacts(run.info.run_id)}
    assert files == {"config.json", "results.json", "best_model.pth", "log.txt", "curves.png"}
    picture = Path(client.download_artifacts(run.info.run_id, "curves.png"))
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("state", "status"),
    [(State.FAILED, "FAILED"), (State.DISCARDED, "KILLED"), (State.CANCELLED, "KILLED")],
)
def test_the_end_of_a_run_is_told(workspace: Workspace, start_run: Start, state: State, status: str) -> None:
    job = start_run()
    assert not Follower(job.folder, workspace).finish(0), "it has not ended"
    end_job(job.folder, state)
    assert Follower(job.folder, workspace).finish(0)
    client = store.client(workspace)
    run = client.get_run(run_of(job))
    assert run.info.status == status
    assert not client.search_logged_models([run.info.experiment_id]), "without weights there is no model"


def test_a_crash_at_any_moment_doubles_nothing(
    workspace: Workspace, finished_run: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = finished_run()
    write = tracking.write_atomic
    for allowed in range(4):  # dies before the first, the second … note of what was accepted
        left = [allowed]

        def dying(path: Path, content: str | bytes, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            write(path, content)

        monkeypatch.setattr(tracking, "write_atomic", dying)
        with pytest.raises(KeyboardInterrupt):
            Follower(job.folder, workspace).sync()
        (job.folder / tracking.FILE).unlink(missing_ok=True)
        monkeypatch.undo()
    monkeypatch.chdir(workspace.root)
    assert Follower(job.folder, workspace).finish(0)
    assert len(runs(workspace)) == 1
    assert all(
        len(points) == (3 if not name.startswith(("best", "epochs", "seconds_")) else 1)
        for name, points in curves(workspace, run_of(job)).items()
    )
    client = store.client(workspace)
    run = client.get_run(run_of(job))
    assert len(client.search_logged_models([run.info.experiment_id])) == 1
    assert len(run.outputs.model_outputs) == 1


def test_epochs_repeated_by_a_resumed_training_are_told_once(workspace: Workspace, start_run: Start) -> None:
    job = start_run(4)
    assert Follower(job.folder, workspace).sync()
    with (job.folder / "events.jsonl").open("ab") as stream:
        stream.write(b'{"kind": "epoch", "epo\n')
    for number in (3, 4, 5):
        FolderReporter(job.folder)(epoch(number).model_copy(update={"time": 1_800_000_000.0 + number}))
    assert Follower(job.folder, workspace).sync()
    steps = [step for step, _, _ in curves(workspace, run_of(job))["train_loss"]]
    assert steps == [1, 2, 3, 4, 5]


def test_a_line_still_being_written_waits(workspace: Workspace, start_run: Start) -> None:
    job = start_run(1)
    line = epoch(2).model_dump_json().encode() + b"\n"
    with (job.folder / "events.jsonl").open("ab") as stream:
        stream.write(line[:50])
    follower = Follower(job.folder, workspace)
    assert follower.sync()
    assert read_cursor(job.folder).epoch == 1
    with (job.folder / "events.jsonl").open("ab") as stream:
        stream.write(line[50:])
    assert follower.sync()
    assert len(curves(workspace, run_of(job))["val_dice"]) == 2


def test_a_server_that_is_down_is_told_later(
    workspace: Workspace,
    finished_run: Start,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound but not listening: refuses, and nobody else can take it
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{closed.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        job = finished_run()
        follower = Follower(job.folder, workspace)
        with caplog.at_level(logging.WARNING, logger="segcore"):
            assert not follower.sync()
            assert not follower.finish(0.5)
        assert len([record for record in caplog.records if record.name.startswith("segcore")]) == 1
        assert "does not answer" in caplog.text
        assert "secret" not in caplog.text
        assert pending(workspace) == [job.folder]
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert Follower(job.folder, workspace).finish(0)
    assert pending(workspace) == []
    assert len(curves(workspace, run_of(job))["val_dice"]) == 3


def test_after_a_failure_it_does_not_ask_again_at_once(
    workspace: Workspace, start_run: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def down(_: Workspace) -> None:
        asked.append(1)
        raise ConnectionError("down")

    monkeypatch.setattr(store, "client", down)
    follower = Follower(start_run().folder, workspace)
    assert not follower.sync()
    assert not follower.sync()
    assert len(asked) == 1


def test_deleted_runs_and_experiments_of_a_living_job_come_back(
    workspace: Workspace, start_run: Start
) -> None:
    job = start_run(1)
    assert Follower(job.folder, workspace).sync()
    client = store.client(workspace)
    experiment = client.get_run(run_of(job)).info.experiment_id
    client.delete_run(run_of(job))
    client.delete_experiment(experiment)
    FolderReporter(job.folder)(epoch(2))
    assert Follower(job.folder, workspace).sync()
    assert client.get_experiment(experiment).lifecycle_stage == "active"
    assert client.get_run(run_of(job)).info.lifecycle_stage == "active"
    assert len(curves(workspace, run_of(job))["val_dice"]) == 2


def test_jobs_without_anything_to_tell_get_no_run(workspace: Workspace, config: RunConfig) -> None:
    waiting = create_job(workspace, "train", config)
    cancelled = end_job(create_job(workspace, "train", config).folder, State.CANCELLED)
    segmentation = end_job(start_job(create_job(workspace, "predict", config).folder).folder, State.FINISHED)
    assert Follower(waiting.folder, workspace).sync()
    assert Follower(cancelled.folder, workspace).finish(0)
    assert Follower(segmentation.folder, workspace).finish(0)
    assert runs(workspace) == []
    assert pending(workspace) == []


def test_a_deleted_folder_is_no_trouble(workspace: Workspace, start_run: Start) -> None:
    job = start_run(1)
    follower = Follower(job.folder, workspace)
    (job.folder / "job.json").unlink()
    assert follower.sync()
    assert follower.finish(0)


def test_a_value_too_long_for_mlflow_is_cut(workspace: Workspace, start_run: Start) -> None:
    names = [f"class {number:05}" for number in range(1000)]
    job = start_run(1, build_config({"session": "long", "data": {"class_names": names}}))
    assert Follower(job.folder, workspace).sync()
    value = store.client(workspace).get_run(run_of(job)).data.params["data.class_names"]
    assert len(value) == 6000
    assert value.endswith("…")
