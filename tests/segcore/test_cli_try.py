"""`segcore try`: every family gets its minutes, a failure keeps no other from trying."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from segcore.cli import main
from segcore.families import FAMILIES
from segcore.jobs.store import State, list_jobs
from segcore.jobs.trials import is_trial
from segcore.workspace import Workspace

FAKE = """
import json, sys
from pathlib import Path
from segcore.jobs.store import State, end_job, start_job
job = start_job(Path(sys.argv[1]))
dice = {dices}.get(job.config.model.family)
if dice is None:
    end_job(job.folder, State.FAILED, "It learned nothing.", "Try another family.")
else:
    (job.folder / "best_model.pth").write_bytes(b"weights")
    results = {{"best_epoch": 2, "metrics": {{"val_dice": dice}}, "parameters": 5}}
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
    """Return a function that replaces training by a process that reaches the Dice given for its family."""
    monkeypatch.setattr("segcore.worker.local.FollowingThread", NoFollowing)

    def install(dices: dict[str, float], state: State = State.FINISHED) -> None:
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
    return ["try", *options, "--model.features", "4", "--model.layers", "2", "--minutes", "0.5"]


def test_families_are_tried_one_after_the_other_and_told_side_by_side(
    workspace: Workspace,
    words: list[str],
    fake_training: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    fake_training({"unet": 0.7, "unet-residual": 0.8})
    named = [*words, "--families", "unet, unet-small,unet-residual", "--crop", "48"]
    assert main([*named, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert is_trial(answer["group"])
    assert answer["proposed"]["name"] in FAMILIES
    told = [(one["family"], one["state"], one["score"]) for one in answer["families"]]
    assert told == [
        ("unet", "finished", 0.7),
        ("unet-small", "failed", None),
        ("unet-residual", "finished", 0.8),
    ]
    jobs = list_jobs(workspace)
    assert {job.group for job in jobs} == {answer["group"]}
    assert {job.config.training.max_minutes for job in jobs} == {0.5}
    assert {tuple(job.config.data.recipe) for job in jobs} == {("pair.crop 48 48",)}
    assert main(named) == 0
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:2] == ["FAMILY", "DICE"]
    assert [line.split()[0] for line in table[1:4]] == ["unet-residual", "unet", "unet-small"]
    assert table[4] == "unet-small: It learned nothing."


def test_who_stops_a_family_stops_the_trial(
    words: list[str], fake_training: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_training({"unet": 0.5, "unet-residual": 0.6}, State.CANCELLED)
    assert main([*words, "--families", "unet,unet-residual", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["families"]
    assert (one["family"], one["score"], one["measure"]) == ("unet", 0.5, "Dice")


def test_a_trial_in_which_all_fail_says_why(
    words: list[str], fake_training: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    fake_training({})
    assert main([*words, "--families", "unet", "--json"]) == 1
    assert "It learned nothing." in json.loads(capsys.readouterr().out)["error"]


def test_without_names_those_that_suit_are_queued(
    workspace: Workspace, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--queue", "--json"]) == 0
    queued = json.loads(capsys.readouterr().out)
    assert len(queued["families"]) > 1
    assert {job.id for job in list_jobs(workspace)} == {one["id"] for one in queued["families"]}
    assert {job.state for job in list_jobs(workspace)} == {State.QUEUED}


@pytest.mark.parametrize("named", [(), ("--families", "detr,mask2former")])
def test_a_head_that_the_usual_family_lacks_is_tried(
    workspace: Workspace, words: list[str], named: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = ["--data.patch-size", "64", "--model.features", "32"]
    more = [*sizes, "--model.head", "masks", "--data.labels-as", "objects", *named]
    assert main([*words, *more, "--queue"]) == 0
    capsys.readouterr()
    families = {job.config.model.family for job in list_jobs(workspace)}
    assert families
    assert all("masks" in FAMILIES[name].heads for name in families)
    assert not named or families == {"detr", "mask2former"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--families", "unett"], "unett"),
        (["--families", " , "], "nothing"),
        (["--crop", "wide"], "--crop"),
        (["--crop", "5,0"], "no part"),
        (["--minutes", "0"], "0 minutes"),
        (["--families", "sensor3d"], "sensor3d"),
        (["--training.teacher", "nowhere"], "no teacher at"),
        (["--data.sets", '[{"images": "more.tif", "use": "teach"}]'], "no model answers"),
    ],
)
def test_what_cannot_be_tried_is_refused_before_anything_begins(
    workspace: Workspace, words: list[str], more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, *more]) in (1, 2)
    assert said in capsys.readouterr().err
    assert list_jobs(workspace) == []
