"""The autopilot: collapses of every kind are named and treated, healthy runs are left alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segcore.config import TrainingConfig
from segcore.events import EpochEvent
from segcore.training.autopilot import EPOCHS, QUICK_EPOCHS, SLOW, STEPS, Autopilot, Diagnosis, Treatment
from segcore.training.treatment import HIGHEST_RATE, MOST_TREATMENTS, USUAL_RATE, treat

SHARES = {"0": 0.8, "1": 0.2}
RARE_SHARES = {"0": 0.99, "1": 0.01}
PATCHES_A_SECOND = 8.0 * STEPS / EPOCHS
"""With batches of 8 and epochs of a second: exactly so many steps an epoch that the epochs decide."""


def _pilot(shares: dict[str, float] = SHARES, **options: Any) -> Autopilot:
    return Autopilot(TrainingConfig(**options), shares)


def _epoch(number: int, dice: float, shares: dict[str, float] = SHARES, **changes: Any) -> EpochEvent:
    """Return a healthy epoch; the classes share the Dice."""
    values: dict[str, Any] = {
        "epoch": number, "epochs": 100, "train_loss": 1 - dice, "train_dice": dice, "val_loss": 1 - dice,
        "val_dice": dice, "val_dice_per_class": dict.fromkeys(shares, dice), "val_iou_per_class": {},
        "learning_rate": 1e-3, "seconds": 1.0, "patches_per_second": PATCHES_A_SECOND, "best": False,
        "val_predicted_share": shares,
    }  # fmt: skip
    return EpochEvent(**values | changes)


def _dead(number: int, label: str, shares: dict[str, float] = SHARES, **changes: Any) -> EpochEvent:
    """Return an epoch in which only `label` was predicted."""
    dice = {key: 2 * share / (1 + share) if key == label else 0.0 for key, share in shares.items()}
    values: dict[str, Any] = {
        "val_dice_per_class": dice, "train_loss": 0.5,
        "val_predicted_share": {key: float(key == label) for key in shares},
    }  # fmt: skip
    return _epoch(number, sum(dice.values()) / len(dice), shares, **values | changes)


def _first(pilot: Autopilot, history: list[EpochEvent]) -> tuple[int, Diagnosis] | None:
    """Return after how many epochs something was found, and what."""
    for count in range(1, len(history) + 1):
        if found := pilot.check_epoch(history[:count]):
            return count, found
    return None


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_two_losses_in_a_row_that_are_not_finite_are_a_diagnosis_and_one_is_not(bad: float) -> None:
    pilot = _pilot()
    assert [pilot.check_step(loss) is None for loss in (1.0, bad, 1.0, bad)] == [True] * 4
    found = pilot.check_step(bad)
    assert found is not None
    assert found.what == "not-finite"


def test_an_epoch_without_a_number_is_found_at_once_and_one_lost_step_is_not() -> None:
    pilot = _pilot()
    found = pilot.check_epoch([_epoch(1, 0.6), _epoch(2, 0.6, val_loss=math.nan, train_loss=math.nan)])
    assert found is not None
    assert found.what == "not-finite"
    assert pilot.check_epoch([_epoch(1, 0.6), _epoch(2, 0.6, train_loss=math.nan)]) is None
    assert pilot.check_epoch([_epoch(n, 0.6, train_loss=math.nan) for n in (1, 2)]) is not None


@pytest.mark.parametrize(("label", "what"), [("0", "all-background"), ("1", "one-class")])
def test_one_class_everywhere_is_found_when_there_is_enough_evidence(label: str, what: str) -> None:
    found = _first(_pilot(), [_dead(number, label) for number in range(1, 30)])
    assert found is not None
    assert (found[0], found[1].what) == (EPOCHS, what)
    assert f"class {label}" in found[1].text


def test_one_class_after_the_other_is_found_too_and_sooner_at_an_absurd_rate() -> None:
    history = [_dead(n, str(n % 2), learning_rate=5.0) for n in range(1, 30)]
    found = _first(_pilot(learning_rate=5.0), history)
    assert found is not None
    assert (found[0], found[1].what) == (QUICK_EPOCHS, "one-class")


def test_a_class_that_is_only_most_of_the_image_is_not_everything() -> None:
    history = [_dead(n, "0", val_predicted_share={"0": 0.98, "1": 0.02}) for n in range(1, EPOCHS + 3)]
    assert _first(_pilot(), history) is None


def test_while_the_loss_falls_a_rare_class_is_waited_for_but_not_for_ever() -> None:
    history = [_dead(n, "0", RARE_SHARES, train_loss=0.5 * 0.9**n) for n in range(1, 60)]
    found = _first(_pilot(RARE_SHARES), history)
    assert found is not None
    assert found[0] == SLOW * EPOCHS


def test_epochs_of_a_few_steps_prove_nothing() -> None:
    few = [_dead(n, "0", patches_per_second=PATCHES_A_SECOND / 10) for n in range(1, 4 * EPOCHS)]
    assert _first(_pilot(), few) is None


def test_the_warm_up_proves_nothing() -> None:
    rising = [_dead(n, "0", learning_rate=1e-3 * 2.2 ** -(10 - n)) for n in range(1, 10)]
    assert _first(_pilot(), rising) is None


def test_near_the_end_only_numbers_that_are_no_numbers_matter() -> None:
    late = [_dead(n, "0") for n in range(86, 101)]
    assert _first(_pilot(), late) is None
    assert _pilot().check_epoch([_epoch(99, 0.5, val_loss=math.nan)]) is not None


@given(
    st.lists(st.floats(0.0, 0.05), min_size=30, max_size=60),
    st.floats(0.3, 0.95),
    st.sampled_from([SHARES, RARE_SHARES]),
)
def test_a_run_that_learns_and_then_stays_where_it_is_is_left_alone(
    wobble: list[float], plateau: float, shares: dict[str, float]
) -> None:
    trivial = sum(2 * s / (1 + s) for s in shares.values() if s == max(shares.values())) / len(shares)
    goal = trivial + (1 - trivial) * plateau
    history = [
        _epoch(n, max(0.05, goal * min(1, n / 6) - noise), shares, train_loss=1 - goal * min(1, n / 6))
        for n, noise in enumerate(wobble, start=1)
    ]
    assert _first(_pilot(shares), history) is None


def test_a_rare_class_may_stay_at_zero_for_the_first_epochs() -> None:
    start = [_dead(n, "0", RARE_SHARES) for n in range(1, EPOCHS)]
    later = [_epoch(n, 0.5 + 0.01 * n, RARE_SHARES) for n in range(EPOCHS, 40)]
    assert _first(_pilot(RARE_SHARES), [*start, *later]) is None


def test_a_loss_that_does_not_move_is_flat() -> None:
    mixed = {"0": 0.5, "1": 0.5}
    history = [
        _epoch(n, 0.42, train_loss=0.7, val_predicted_share=mixed, learning_rate=1e-7) for n in range(1, 30)
    ]
    found = _first(_pilot(learning_rate=1e-7), history)
    assert found is not None
    assert (found[0], found[1].what) == (SLOW * EPOCHS, "flat")
    assert "so low that nothing moves" in found[1].cause


def test_a_loss_that_falls_slowly_is_not_flat() -> None:
    mixed = {"0": 0.5, "1": 0.5}
    history = [_epoch(n, 0.42, train_loss=0.99**n, val_predicted_share=mixed) for n in range(1, 60)]
    assert _first(_pilot(), history) is None


def test_a_class_that_is_never_found_beside_others_that_are() -> None:
    shares = {"0": 0.6, "1": 0.39, "2": 0.01}
    dice = {"0": 0.9, "1": 0.8, "2": 0.0}
    history = [_epoch(n, 0.57, shares, train_loss=0.4, val_dice_per_class=dice) for n in range(1, 30)]
    found = _first(_pilot(shares), history)
    assert found is not None
    assert (found[0], found[1].what) == (SLOW * EPOCHS, "dice-zero")
    assert "Class 2" in found[1].text
    assert "1.0 %" in found[1].cause


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"learning_rate": 0.5}, "learning rate 0.5 is far too high"),
        ({"loss": "ce"}, "1.0 % of the annotated pixels are class 1"),
        ({}, "labels lie on the images"),
    ],
)
def test_the_cause_is_said_with_its_number(options: dict[str, Any], words: str) -> None:
    found = _pilot(RARE_SHARES, **options).check_epoch([_dead(n, "0", RARE_SHARES) for n in range(1, 20)])
    assert found is not None
    assert words in found.cause


def test_only_what_beats_every_constant_answer_is_worth_going_back_to() -> None:
    pilot = _pilot(RARE_SHARES)
    assert not pilot.has_learned(_dead(1, "0", RARE_SHARES))
    assert pilot.has_learned(_epoch(1, 0.6, RARE_SHARES))
    assert not pilot.has_learned(_epoch(1, 0.6, RARE_SHARES, val_loss=math.nan))


WHATS = st.sampled_from(["not-finite", "all-background", "one-class", "dice-zero", "flat"])


@given(st.floats(1e-7, 100), st.sampled_from(["adamw", "adam", "sgd"]), WHATS)
def test_three_treatments_lead_from_any_rate_to_a_working_one(rate: float, optimizer: Any, what: str) -> None:
    training = TrainingConfig(learning_rate=rate, optimizer=optimizer)
    treatment: Treatment | None = Treatment()
    for number in range(1, MOST_TREATMENTS + 1):
        before = treatment
        treatment = treat(training, Diagnosis(what, "", ""), before or Treatment(), number)
        if treatment is None:
            treatment = before
            break
        assert treatment != before
        assert treatment.describe()
    assert treatment is not None
    assert rate * treatment.rate_factor <= max(HIGHEST_RATE[optimizer], USUAL_RATE[optimizer])
    assert treat(training, Diagnosis(what, "", ""), treatment, MOST_TREATMENTS + 1) is None


@given(st.floats(1e-4, 1.0), WHATS)
def test_every_treatment_is_gentler_in_all_that_it_changes(rate: float, what: str) -> None:
    training = TrainingConfig(learning_rate=rate, gradient_clipping=0.5, warm_up=0.2)
    treatment = treat(training, Diagnosis(what, "", ""), Treatment(), 1)
    assert treatment is not None
    assert treatment.rate_factor <= 1
    assert treatment.warm_up == 0.2
    assert treatment.clipping == 0.5
    assert not treatment.fresh


def test_a_usual_rate_is_divided_by_three() -> None:
    treatment = treat(TrainingConfig(), Diagnosis("all-background", "", ""), Treatment(), 1)
    assert treatment is not None
    assert treatment.rate_factor == pytest.approx(1 / 3)
    assert "÷ 3" in treatment.describe()


def test_a_loss_that_counts_pixels_gives_way_and_a_stuck_start_gets_new_weights() -> None:
    training, stuck = TrainingConfig(loss="ce"), Diagnosis("all-background", "", "")
    first = treat(training, stuck, Treatment(), 1)
    assert first is not None
    assert (first.loss, first.fresh, first.rate_factor) == ("dice+ce", False, 1)
    second = treat(training, stuck, first, 2)
    assert second is not None
    assert second.fresh
    assert treat(training, Diagnosis("not-finite", "", ""), Treatment(), 2).fresh is False  # type: ignore[union-attr]


def test_after_a_treatment_the_cause_is_judged_by_the_rate_in_force() -> None:
    pilot = _pilot(learning_rate=0.05)
    assert "far too high" in str(pilot.check_epoch([_epoch(1, 0.5, val_loss=math.nan)]))
    pilot.treat(Diagnosis("not-finite", "", ""), Treatment(), 1)
    assert pilot.rate < HIGHEST_RATE["adamw"]
    assert "far too high" not in str(pilot.check_epoch([_epoch(1, 0.5, val_loss=math.nan)]))
    resumed = Autopilot(pilot.training, SHARES, pilot.treatment)
    assert resumed.rate == pilot.rate
