"""What the loop does when a collapse is found: where it goes back to, what it changes, when it gives up."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from trainings import config_for, run_in

from segcore.errors import ModelError
from segcore.events import EpochEvent, Event, InterventionEvent, NoteEvent, Request, unasked
from segcore.tasks import ClassLabels
from segcore.training.autopilot import Autopilot
from segcore.training.context import Run
from segcore.training.loop import fit
from segcore.training.run import summarize
from segcore.training.state import read_checkpoint
from segcore.training.treatment import Diagnosis, Treatment

FLAT = Diagnosis("flat", "Nothing was learned.", "The rate is too high.")


class Scripted(Autopilot):
    """Finds a collapse after the given epochs, and takes every epoch or none for a good one."""

    def __init__(self, run: Run, collapses: list[int], good: bool, **treatment: Any) -> None:
        super().__init__(run.config.training, {"0": 0.8, "255": 0.2})
        self.collapses, self.good, self.advice = collapses, good, treatment
        self.seen: list[list[int]] = []

    def check_step(self, loss: float) -> Diagnosis | None:
        """Find nothing."""
        return None

    def check_epoch(self, history: Sequence[EpochEvent]) -> Diagnosis | None:
        """Find what the script says."""
        self.seen.append([event.epoch for event in history])
        return FLAT if history[-1].epoch in self.collapses else None

    def has_learned(self, event: EpochEvent) -> bool:
        """Say what the script says."""
        return self.good

    def treat(self, diagnosis: Diagnosis, earlier: Treatment, number: int) -> Treatment | None:
        """Divide the rate by three."""
        return Treatment(rate_factor=earlier.rate_factor / 3, **self.advice)


def build(stack: Path, folder: Path, heard: list[Any], **options: Any) -> Run:
    """Build a run whose events are heard."""
    return run_in(folder, config_for(stack, **options), heard.append)


def test_a_collapse_goes_back_to_the_best_epoch_and_begins_the_schedule_anew(
    stack: Path, tmp_path: Path
) -> None:
    heard: list[Any] = []
    run = build(stack, tmp_path / "run", heard, epochs=6, warm_up=0.1)
    run.autopilot = pilot = Scripted(run, [3], good=True, loss="ce", clipping=1.0, warm_up=0.0)
    rates: dict[int, float] = {}

    def look() -> Request | None:
        rates[run.state.step] = run.rate
        if run.state.step == 3 * run.steps_per_epoch and run.state.interventions:
            best = torch.load(tmp_path / "run" / "best_model.pth", weights_only=True)
            weights = run.state.network.state_dict()
            assert all(torch.equal(weights[name], tensor) for name, tensor in best.items())
        return None

    assert fit(run, look) == "finished"
    events = [event for event in heard if isinstance(event, InterventionEvent)]
    assert [(event.epoch, event.number, event.what) for event in events] == [(3, 1, "flat")]
    assert "back to epoch" in events[0].action
    assert [event.epoch for event in heard if isinstance(event, EpochEvent)] == [1, 2, 3, 4, 5, 6]
    assert pilot.seen == [[1], [1, 2], [1, 2, 3], [4], [4, 5]]
    assert rates[3 * run.steps_per_epoch] == pytest.approx(run.config.training.learning_rate / 3)
    assert run.clipping == 1.0
    logits, label = torch.randn(2, 2, 4, 4), torch.randint(0, 2, (2, 4, 4))
    for task in (run.task, run.validator.task):
        loss = task.loss(logits, label)  # type: ignore[attr-defined]
        torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits, label))
    results = summarize(run, "finished")
    assert [item["what"] for item in results["interventions"]] == ["flat"]
    json.dumps(results)


@pytest.mark.parametrize(("good", "fresh"), [(False, False), (True, True)])
def test_without_a_good_point_other_random_weights_are_drawn(
    stack: Path, tmp_path: Path, good: bool, fresh: bool
) -> None:
    heard: list[Any] = []
    run = build(stack, tmp_path / "run", heard, epochs=3, averaging="ema")
    run.autopilot = Scripted(run, [1], good=good, fresh=fresh)
    first = run.first_weights(run.config.training.seed)
    new = run.first_weights(run.config.training.seed + 1)
    steps = run.steps_per_epoch
    seen: list[int] = []

    def look() -> Request | None:
        if run.state.step == steps and run.state.interventions:
            seen.append(steps)
            weights = run.state.network.state_dict()
            assert all(torch.equal(weights[name], tensor) for name, tensor in new.items())
            assert not torch.equal(weights["head.weight"], first["head.weight"])
            assert not run.state.optimizer.state
            assert run.state.average is not None
            assert run.state.average.count == 0
        return None

    assert fit(run, look) == "finished"
    assert seen == [steps]
    assert run.state.step == 3 * steps


def test_an_intervention_survives_a_pause(stack: Path, tmp_path: Path) -> None:
    run = build(stack, tmp_path / "run", [], epochs=4)
    run.autopilot = Scripted(run, [1], good=False)
    fit(run, lambda: Request.PAUSE if run.state.step == run.steps_per_epoch + 1 else None)
    resumed = build(stack, tmp_path / "run", [], epochs=4)
    assert resumed.state.treatment == run.state.treatment
    assert resumed.state.phase == run.state.phase
    assert [event.what for event in resumed.state.interventions] == ["flat"]
    assert resumed.rate == pytest.approx(run.rate)


def test_after_three_interventions_it_is_said_once_and_the_training_goes_on(
    stack: Path, tmp_path: Path
) -> None:
    heard: list[Event] = []
    run = build(stack, tmp_path / "run", heard, epochs=8)
    run.autopilot = Scripted(run, list(range(1, 9)), good=False)
    assert fit(run, unasked) == "finished"
    assert len([event for event in heard if isinstance(event, InterventionEvent)]) == 3
    warnings = [event for event in heard if isinstance(event, NoteEvent) and event.level == "warning"]
    assert len(warnings) == 1
    assert FLAT.text in warnings[0].text


class Diverging(ClassLabels):
    """A task whose loss is not a number from a certain step on."""

    def __init__(self, run: Run, first: int) -> None:
        self.run, self.first, self.task = run, first, run.task

    def step(self, network: nn.Module, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Take the step of the task, with a loss that is no number."""
        loss, prediction = self.task.step(network, image, label)
        return (loss * math.nan if self.run.state.step >= self.first else loss), prediction

    def judge(self, logits: Tensor, label: Tensor) -> Tensor:
        """Judge as the task does."""
        return self.task.judge(logits, label)


def diverge(run: Run, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run diverge from step `first` on, whatever is tried."""
    monkeypatch.setattr(run, "follow_treatment", lambda: None)
    run.task = Diverging(run, first)


def test_a_run_that_stays_without_numbers_fails_and_keeps_its_best_model(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Event] = []
    folder = tmp_path / "run"
    run = build(stack, folder, heard, epochs=12)
    steps = run.steps_per_epoch
    monkeypatch.setattr(Autopilot, "has_learned", lambda self, event: math.isfinite(event.val_loss))
    diverge(run, 2 * steps, monkeypatch)
    with pytest.raises(ModelError, match="not a number") as caught:
        fit(run, unasked)
    assert caught.value.remedy
    assert len([event for event in heard if isinstance(event, InterventionEvent)]) == 3
    # The curves show the epochs without numbers; none of them is the best.
    epochs = [event for event in heard if isinstance(event, EpochEvent)]
    assert any(math.isnan(event.val_loss) for event in epochs)
    assert not any(event.best for event in epochs if math.isnan(event.val_loss))
    # What was saved last can be continued: it is the best point.
    for tensor in read_checkpoint(folder / "checkpoints" / "last.pt")["network"].values():
        assert tensor.isfinite().all()
    best = torch.load(folder / "best_model.pth", weights_only=True)
    assert all(tensor.isfinite().all() for tensor in best.values())


def test_a_run_without_a_single_number_and_without_autopilot_leaves_no_model_and_says_so(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = build(stack, tmp_path / "run", [], epochs=2, autopilot=False)
    assert run.autopilot is None
    diverge(run, 0, monkeypatch)
    with pytest.raises(ModelError, match="no model"):
        fit(run, unasked)
    assert not (tmp_path / "run" / "best_model.pth").exists()


def test_a_diagnosis_within_an_epoch_ends_the_epoch(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segcore.training.epochs.LOOK_EVERY", 0.0)
    heard: list[Event] = []
    run = build(stack, tmp_path / "run", heard, epochs=3)
    run.autopilot = pilot = Scripted(run, [], good=False)
    losses: list[float] = []
    monkeypatch.setattr(
        pilot, "check_step", lambda loss: losses.append(loss) or FLAT if len(losses) < 2 else None
    )
    assert fit(run, unasked) == "finished"
    events = [event for event in heard if isinstance(event, InterventionEvent)]
    assert [event.epoch for event in events] == [1, 2]
    assert [event.epoch for event in heard if isinstance(event, EpochEvent)] == [1, 2, 3]
    assert run.state.step == 1 + 1 + run.steps_per_epoch


def test_a_run_that_was_killed_before_it_was_judged_is_judged_when_it_goes_on(
    stack: Path, tmp_path: Path
) -> None:
    heard: list[Any] = []
    run = build(stack, tmp_path / "run", heard, epochs=4, warm_up=0.1)
    run.autopilot = Scripted(run, [2], good=True)

    class Killed(BaseException):
        pass

    def die(epoch: int) -> None:
        if epoch == 2:
            run.save()
            raise Killed

    run.preview = die
    with pytest.raises(Killed):
        fit(run, unasked)
    assert not run.state.interventions
    again = build(stack, tmp_path / "run", heard, epochs=4, warm_up=0.1)
    assert (again.state.epoch, again.state.part) == (2, None)
    again.autopilot = Scripted(again, [2], good=True)
    assert fit(again, unasked) == "finished"
    assert [event.epoch for event in again.state.interventions] == [2]
