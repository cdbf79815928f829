"""Learning rates against those of torch, and runs that end where they end, whatever interrupts them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD, Optimizer, lr_scheduler
from trainings import assert_same_state, config_for, run_in

from segcore.config import TrainingConfig
from segcore.errors import ConfigError
from segcore.events import Request, unasked
from segcore.models.unet import UNet
from segcore.training.loop import fit
from segcore.training.optim import build_optimizer
from segcore.training.schedules import plateau_drops, rate_factor
from segcore.training.state import Phase, TrainState, read_checkpoint

SCHEDULES = ("cosine", "constant", "polynomial", "step", "one-cycle", "plateau")
STEPS = 60


def rates(scheduler: Any) -> Iterator[float]:
    """Yield the learning rate before every step."""
    for _ in range(STEPS):
        yield scheduler.get_last_lr()[0]
        scheduler.optimizer.step()
        scheduler.step()


def plain() -> Optimizer:
    return SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


@pytest.mark.parametrize(
    ("options", "reference"),
    [
        ({"schedule": "cosine"}, lambda: lr_scheduler.CosineAnnealingLR(plain(), STEPS)),
        ({"schedule": "polynomial"}, lambda: lr_scheduler.PolynomialLR(plain(), STEPS, power=0.9)),
        ({"schedule": "constant"}, lambda: lr_scheduler.ConstantLR(plain(), 1.0)),
        (
            {"schedule": "step", "schedule_steps": 3, "schedule_factor": 0.2},
            lambda: lr_scheduler.StepLR(plain(), STEPS // 4, 0.2),
        ),
    ],
)
def test_rates_are_those_of_torch(options: dict[str, Any], reference: Any) -> None:
    training = TrainingConfig(**options)
    for step, expected in enumerate(rates(reference())):
        assert rate_factor(training, step / STEPS) == pytest.approx(expected, abs=1e-9)


def test_one_cycle_is_that_of_torch() -> None:
    training = TrainingConfig(schedule="one-cycle")
    # Torch ends its cycle with the last step, and counts the peak from the first.
    reference = lr_scheduler.OneCycleLR(plain(), 1.0, STEPS + 1, pct_start=(0.3 * STEPS + 1) / (STEPS + 1))
    for step, expected in enumerate(rates(reference)):
        assert rate_factor(training, step / STEPS) == pytest.approx(expected, abs=1e-6)


@given(
    dices=st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=40),
    patience=st.integers(1, 6),
    gain=st.sampled_from([0.0, 0.001, 0.1]),
)
def test_a_plateau_is_that_of_torch(dices: list[float], patience: int, gain: float) -> None:
    training = TrainingConfig(schedule="plateau", schedule_patience=patience, min_gain=gain)
    reference = lr_scheduler.ReduceLROnPlateau(
        plain(), mode="max", factor=0.1, patience=patience - 1, threshold=gain, threshold_mode="abs", eps=0
    )
    for count, dice in enumerate(dices, start=1):
        reference.step(dice)
        factor = rate_factor(training, 0.5, drops=plateau_drops(training, dices[:count]))
        assert factor == pytest.approx(reference.get_last_lr()[0])


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(warm_up=st.floats(0.01, 0.5), progress=st.floats(0, 2))
def test_a_rate_rises_over_the_warm_up_and_never_again(
    schedule: str, warm_up: float, progress: float
) -> None:
    training = TrainingConfig(schedule=schedule)
    factor = rate_factor(training, progress, warm_up)
    assert 0 <= factor <= 1
    later = rate_factor(training, progress + 0.01, warm_up)
    peak = max(0.3, warm_up) if schedule == "one-cycle" else warm_up
    assert later >= factor or progress + 0.01 > peak
    assert later <= factor or progress < peak
    assert rate_factor(training, peak, warm_up) == pytest.approx(1)


def test_a_plateau_lowers_the_rate_of_a_run_paused_or_not_and_begins_anew_with_a_phase(
    stack: Path, tmp_path: Path
) -> None:
    options = {"schedule": "plateau", "schedule_patience": 1, "schedule_factor": 0.5, "min_gain": 0.99}
    config = config_for(stack, optimizer="radam", warm_up=0, epochs=3, **options)
    whole, part = run_in(tmp_path / "whole", config), run_in(tmp_path / "part", config)
    assert fit(whole, unasked) == "finished"
    # The first epoch always is a gain; every one after it lowers the rate of the next.
    told = [event.learning_rate / 1e-3 for event in whole.state.history]
    assert told == pytest.approx([1, 1, 0.5])
    assert fit(part, lambda: Request.PAUSE if part.state.step >= 9 else None) == "paused"
    resumed = run_in(tmp_path / "part", config)
    assert fit(resumed, unasked) == "finished"
    assert_same_state(whole.state, resumed.state)
    resumed.state.phase = Phase(3, resumed.state.step)
    assert resumed.rate == pytest.approx(1e-3)


def small_state(optimizer: str) -> TrainState:
    """Return the state of a run of the smallest network."""
    torch.manual_seed(0)
    network, device = UNet(1, 2, 2, 1), torch.device("cpu")
    training = TrainingConfig(optimizer=optimizer, learning_rate=0.01)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    return TrainState(network, build_optimizer(network, training, device), scaler, torch.Generator())


def take_steps(state: TrainState, steps: range) -> None:
    """Train on images that depend on the number of the step only."""
    for step in steps:
        image = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(step))
        state.network(image).square().mean().backward()
        state.optimizer.step()
        state.optimizer.zero_grad()


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "radam", "lamb", "sgd", "gd"])
def test_an_optimizer_that_was_saved_goes_on_to_the_bit(optimizer: str, tmp_path: Path) -> None:
    if optimizer == "lamb":
        with warnings.catch_warnings():  # of what timm imports
            warnings.simplefilter("ignore")
            pytest.importorskip("timm.optim")
    whole, part, resumed = (small_state(optimizer) for _ in range(3))
    before = [weight.detach().clone() for weight in whole.network.parameters()]
    take_steps(whole, range(12))
    assert not all(map(torch.equal, before, whole.network.parameters()))
    take_steps(part, range(7))
    torch.save(part.content(), tmp_path / "last.pt")
    resumed.restore(read_checkpoint(tmp_path / "last.pt"), tmp_path / "last.pt")
    take_steps(resumed, range(7, 12))
    assert_same_state(whole, resumed)


def test_plain_gradient_descent_takes_the_gradient() -> None:
    network = torch.nn.Linear(3, 2)
    training = TrainingConfig(optimizer="gd", learning_rate=0.5)
    optimizer = build_optimizer(network, training, torch.device("cpu"))
    for _ in range(2):  # no momentum: the second step knows nothing of the first
        before = network.weight.detach().clone()
        optimizer.zero_grad()
        network(torch.ones(1, 3)).square().sum().backward()
        assert network.weight.grad is not None
        optimizer.step()
        torch.testing.assert_close(network.weight.detach(), before - 0.5 * network.weight.grad)


def test_radam_decays_the_weights_and_spares_the_biases() -> None:
    network = torch.nn.Linear(3, 2)
    training = TrainingConfig(optimizer="radam", learning_rate=0.1)
    optimizer = build_optimizer(network, training, torch.device("cpu"))
    before = [weight.detach().clone() for weight in network.parameters()]
    for weight in network.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    torch.testing.assert_close(network.weight.detach(), before[0] * (1 - 0.1 * 1e-2))
    assert torch.equal(network.bias, before[1])


def test_lamb_without_timm_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm.optim", None)
    with pytest.raises(ConfigError, match=r"training\.optimizer is lamb.*timm.*pip install"):
        build_optimizer(torch.nn.Linear(3, 2), TrainingConfig(optimizer="lamb"), torch.device("cpu"))


def test_a_patience_that_ends_the_run_before_the_rate_falls_is_refused() -> None:
    with pytest.raises(ValueError, match=r"training\.patience 5 ends the run before"):
        TrainingConfig(schedule="plateau", patience=5, schedule_patience=5)
    TrainingConfig(schedule="plateau", patience=6, schedule_patience=5)
