"""Kept epochs: any can become the model and none is lost by it; a run at work is left alone."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from segcore.errors import JobError
from segcore.events import EpochEvent
from segcore.jobs import epochs
from segcore.jobs.epochs import end_choice, epoch_file, find_epoch, kept_epochs, model_epoch, use_epoch
from segcore.jobs.journal import FolderReporter, read_history
from segcore.jobs.store import Job, State, end_job, start_job

DICE = {1: 0.3, 2: 0.5, 3: 0.7, 4: 0.6}


def report(folder: Path, number: int, dice: float, best: bool) -> None:
    FolderReporter(folder)(
        EpochEvent(
            epoch=number, epochs=9, train_loss=1.0, train_dice=dice, val_loss=1.0, val_dice=dice,
            val_dice_per_class={"0": dice}, val_iou_per_class={"0": dice}, learning_rate=0.1, seconds=1.0,
            patches_per_second=1.0, best=best,
        )
    )  # fmt: skip


@pytest.fixture
def run(make_job: Callable[..., Job]) -> Path:
    """Make a training that runs: four epochs, the second and fourth kept, the third is the best."""
    folder = start_job(make_job().folder).folder
    for number, dice in DICE.items():
        report(folder, number, dice, best=number <= 3)
    for number in (2, 4):
        epoch_file(folder, number).parent.mkdir(exist_ok=True)
        epoch_file(folder, number).write_bytes(b"weights %d" % number)
    (folder / "best_model.pth").write_bytes(b"weights 3")
    return folder


def contents(folder: Path) -> dict[int, bytes]:
    return {one.epoch: one.weights.read_bytes() for one in kept_epochs(folder, read_history(folder))}


EXPECTED = {2: b"weights 2", 3: b"weights 3", 4: b"weights 4"}


def test_every_kept_epoch_is_listed_with_its_scores_best_and_model_marked(run: Path) -> None:
    (run / "checkpoints" / "epoch-x.pth").touch()
    (run / "checkpoints" / ".epoch-0009.pth.1.part").touch()
    kept = kept_epochs(run, read_history(run))
    assert contents(run) == EXPECTED
    assert [one.scores.val_dice for one in kept if one.scores] == [DICE[2], DICE[3], DICE[4]]
    assert [one.epoch for one in kept if one.best] == [one.epoch for one in kept if one.model] == [3]


def test_any_epoch_becomes_the_model_and_none_is_lost(run: Path) -> None:
    end_job(run, State.FINISHED)
    for number in (2, 4, 3, 3, 2):
        assert use_epoch(run, number).model
        assert (run / "best_model.pth").read_bytes() == EXPECTED[number]
        assert contents(run) == EXPECTED
        history = read_history(run)
        assert model_epoch(run, history) == number
        assert find_epoch(run, 3, history).best
    assert list(run.rglob("*.part")) == []


def test_the_results_name_the_choice_and_its_scores(run: Path) -> None:
    results = {"best_epoch": 3, "metrics": {"val_dice": 0.7, "val_loss": 1.0}, "epochs": 4}
    (run / "results.json").write_text(json.dumps(results))
    end_job(run, State.FINISHED)
    use_epoch(run, 2)
    now = json.loads((run / "results.json").read_text())
    assert now == results | {"chosen_epoch": 2, "metrics": {"val_dice": 0.5, "val_loss": 1.0}}
    use_epoch(run, 3)
    now = json.loads((run / "results.json").read_text())
    assert now["metrics"] == results["metrics"]


def test_a_run_that_goes_on_has_its_best_epoch_as_the_model_again(run: Path) -> None:
    end_job(run, State.PAUSED)
    for number in (2, 4):
        use_epoch(run, number)
    report(run, 5, 0.69, best=False)
    assert model_epoch(run, read_history(run)) == 4
    for _ in range(2):
        end_choice(run)
        assert model_epoch(run, read_history(run)) == 3
        assert contents(run) == EXPECTED
        assert (run / "best_model.pth").read_bytes() == EXPECTED[3]


def test_a_model_from_the_run_before_is_epoch_0_and_not_lost(make_job: Callable[..., Job]) -> None:
    folder = start_job(make_job().folder).folder
    (folder / "best_model.pth").write_bytes(b"weights 0")
    report(folder, 31, 0.2, best=False)
    epoch_file(folder, 31).parent.mkdir()
    epoch_file(folder, 31).write_bytes(b"weights 31")
    end_job(folder, State.PAUSED)
    use_epoch(folder, 31)
    assert contents(folder) == {0: b"weights 0", 31: b"weights 31"}
    assert use_epoch(folder, 0).weights.read_bytes() == b"weights 0"


def test_a_choice_that_was_cut_off_is_made_good_by_making_it_again(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end_job(run, State.FINISHED)
    share = epochs.share_file

    def fail(source: Path, target: Path) -> None:
        if target.name == "best_model.pth":
            raise OSError(errno.ENOSPC, "No space left on device")
        share(source, target)

    monkeypatch.setattr(epochs, "share_file", fail)
    with pytest.raises(JobError, match="No space left"):
        use_epoch(run, 2)
    monkeypatch.undo()
    use_epoch(run, 2)
    assert (run / "best_model.pth").read_bytes() == EXPECTED[2]
    assert contents(run) == EXPECTED


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.DISCARDED])
def test_a_run_at_work_or_discarded_keeps_its_model(
    run: Path, make_job: Callable[..., Job], state: State
) -> None:
    folder = make_job().folder if state is State.QUEUED else run
    if state is State.DISCARDED:
        end_job(folder, state)
    before = contents(folder)
    with pytest.raises(JobError, match=str(state)) as caught:
        use_epoch(folder, 2)
    assert caught.value.remedy
    assert contents(folder) == before


def test_an_epoch_that_was_not_kept_is_told_with_those_that_were(run: Path) -> None:
    end_job(run, State.FAILED)
    with pytest.raises(JobError, match="Kept epochs: 2, 3, 4"):
        use_epoch(run, 1)
    assert (run / "best_model.pth").read_bytes() == EXPECTED[3]


def test_a_damaged_choice_counts_as_none(run: Path) -> None:
    for damage in ("", "[]", '{"epoch": null, "instead_of": 3}', '{"epoch": 2}'):
        (run / "checkpoints" / "chosen.json").write_text(damage)
        assert model_epoch(run, read_history(run)) == 3
    (run / "checkpoints" / "chosen.json").write_text('{"epoch": 2, "instead_of": 3}')
    assert model_epoch(run, read_history(run)) == 2
