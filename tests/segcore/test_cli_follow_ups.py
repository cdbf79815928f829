"""`segcore train` repeats with several seeds, goes on with a run, and starts from its model."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest

from segcore.cli import main
from segcore.config import RunConfig
from segcore.jobs.store import Job, State, create_job, end_job, list_jobs, read_job, start_job
from segcore.workspace import Workspace

FAKE = """
import json, sys, time
from pathlib import Path
from segcore.jobs.store import State, end_job, start_job
job = start_job(Path(sys.argv[1]))
dice = {dices}.get(job.config.training.seed)
if dice is None:
    end_job(job.folder, State.FAILED, "It learned nothing.", "Try another seed.")
else:
    (job.folder / "best_model.pth").write_bytes(b"weights")
    results = {{"best_epoch": 2, "metrics": {{"val_dice": dice}}, "patches_per_second": 9.0, "seconds": 1.0}}
    (job.folder / "results.json").write_text(json.dumps(results))
    end_job(job.folder, State({state!r}), "")
"""


class NoFollowing:
    """MLflow left out."""

    def __init__(self, workspace: Workspace) -> None:
        self.follow = self.conclude = lambda folder: None
        self.wait = lambda timeout: True
        self.close = lambda: None


@pytest.fixture
def fake_training(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that replaces training by a process that reaches the Dice given for its seed."""
    monkeypatch.setattr("segcore.worker.local.FollowingThread", NoFollowing)

    def install(dices: dict[int, float], state: State = State.FINISHED) -> None:
        code = FAKE.format(dices=dices, state=state.value)
        monkeypatch.setattr(
            "segcore.jobs.supervisor.job_command",
            lambda folder, _: [sys.executable, "-c", code, str(folder)],
        )

    return install


@pytest.fixture
def words(simulated: tuple[Path, Path]) -> list[str]:
    images, labels = simulated
    options = ["--data.images", str(images), "--data.labels", str(labels), "--data.patch-size", "32"]
    return ["train", *options, "--model.features", "4", "--model.layers", "2"]


@pytest.fixture
def parent(workspace: Workspace, tiny_config: RunConfig) -> Job:
    """Return a finished training with model and checkpoint."""
    training = tiny_config.training.model_copy(update={"max_minutes": 3.0, "repeats": 1})
    job = create_job(workspace, "train", tiny_config.model_copy(update={"training": training}))
    start_job(job.folder)
    (job.folder / "checkpoints").mkdir()
    (job.folder / "checkpoints" / "last.pt").write_bytes(b"state")
    (job.folder / "best_model.pth").write_bytes(b"weights")
    return end_job(job.folder, State.FINISHED)


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any]]:
    """Run a command with --json and return its status and its one JSON object."""
    status = main([*words, "--json"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    return status, json.loads(lines[0])


def test_repeats_report_the_best_with_mean_and_spread(
    workspace: Workspace,
    words: list[str],
    fake_training: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_training({5: 0.70, 6: 0.80, 7: 0.76})
    repeated = [*words, "--training.seed", "5", "--training.repeats", "3"]
    status, answer = run_json(capsys, *repeated)
    assert status == 0
    assert [(one["seed"], one["best_dice"]) for one in answer["repeats"]] == [(5, 0.70), (6, 0.80), (7, 0.76)]
    assert answer["mean"] == pytest.approx(mean([0.70, 0.80, 0.76]))
    assert answer["spread"] == pytest.approx(stdev([0.70, 0.80, 0.76]))
    assert answer["id"] == answer["repeats"][1]["id"]
    assert answer["metrics"]["val_dice"] == 0.80
    assert len({job.group for job in list_jobs(workspace)}) == 1
    assert main(repeated) == 0
    assert "Dice 0.753 ± 0.050 (3 finished)" in capsys.readouterr().out


def test_a_repeat_that_fails_does_not_keep_the_others_from_trying(
    words: list[str], fake_training: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_training({1: 0.70})
    status, answer = run_json(capsys, *words, "--training.repeats", "3")
    assert status == 0
    assert [one["state"] for one in answer["repeats"]] == ["failed", "finished", "failed"]
    assert (answer["mean"], answer["spread"]) == (0.70, None)
    fake_training({})
    status, answer = run_json(capsys, *words, "--training.repeats", "2")
    assert status == 1
    assert "It learned nothing." in answer["error"]


def test_who_stops_a_repeat_stops_them_all(
    words: list[str], fake_training: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_training({0: 0.5, 1: 0.6}, State.CANCELLED)
    status, answer = run_json(capsys, *words, "--training.repeats", "3")
    assert (status, answer["state"]) == (0, "cancelled")
    assert [one["seed"] for one in answer["repeats"]] == [0]
    assert answer["mean"] is None, "what was stopped early is not compared"


def test_a_single_training_says_nothing_of_repeats(
    words: list[str], fake_training: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_training({0: 0.5})
    status, answer = run_json(capsys, *words)
    assert status == 0
    assert not {"repeats", "mean", "spread"} & answer.keys()


def test_repeats_are_queued_together(
    workspace: Workspace, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    status, answer = run_json(capsys, *words, "--queue", "--training.repeats", "3")
    assert status == 0
    assert [one["seed"] for one in answer["repeats"]] == [0, 1, 2]
    assert answer["id"] == answer["repeats"][0]["id"]
    assert {job.state for job in list_jobs(workspace)} == {State.QUEUED}


def test_continue_takes_the_options_of_the_run(
    workspace: Workspace, parent: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["train", "--continue", parent.id, "--queue"]
    _, answer = run_json(capsys, *given, "--training.epochs", "9", "--training.patience", "4")
    child = read_job(Path(answer["run_folder"]))
    training = child.config.training
    assert child.parent == parent.id
    assert (training.continue_from, training.epochs, training.patience) == (str(parent.folder), 9, 4)
    assert (training.max_minutes, training.start_from) == (None, None)
    assert child.config.data == parent.config.data
    assert child.config.model == parent.config.model
    assert child.session == parent.session
    _, answer = run_json(capsys, *given)
    assert read_job(Path(answer["run_folder"])).config.training.epochs == parent.config.training.epochs


def test_what_cannot_be_continued_makes_no_run(
    workspace: Workspace, parent: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    status, answer = run_json(capsys, "train", "--continue", "no-such-run")
    assert (status, "no job" in answer["error"]) == (1, True)
    config = str(parent.folder / "config.json")
    status, answer = run_json(capsys, "train", "--continue", parent.id, "--config", config)
    assert (status, "--config" in answer["error"]) == (2, True)
    repeated = ["train", "--continue", parent.id, "--training.repeats", "2"]
    status, answer = run_json(capsys, *repeated)
    assert (status, "would be the same" in answer["error"]) == (1, True)
    (parent.folder / "checkpoints" / "last.pt").unlink()
    status, answer = run_json(capsys, "train", "--continue", parent.id)
    assert (status, "no checkpoint" in answer["error"]) == (1, True)
    assert [job.id for job in list_jobs(workspace)] == [parent.id]


def test_start_from_takes_the_id_of_a_run(
    workspace: Workspace, parent: Job, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    begun = [*words, "--queue", "--training.start-from", parent.id]
    _, answer = run_json(capsys, *begun, "--model.freeze-encoder")
    child = read_job(Path(answer["run_folder"]))
    assert (child.parent, child.config.training.start_from) == (parent.id, str(parent.folder))
    status, answer = run_json(capsys, *begun, "--model.features", "8")
    assert status == 1
    assert "4 features and 2 layers" in answer["error"]
    assert len(list_jobs(workspace)) == 2
