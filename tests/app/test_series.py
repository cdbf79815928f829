"""Series: every number once, nothing invented, and the same plateau as the run says itself."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tabs_workspace import epoch

from app.series import KINDS, all_series, class_values, last_gain, rounded, smooth
from segcore.events import EpochEvent, parse_event

VALUES = st.lists(st.one_of(st.none(), st.floats(-1e6, 1e6)), max_size=30)


def of_an_earlier_version(number: int) -> EpochEvent:
    """Return an epoch as it was written before loader wait, memory, device use and shares were known."""
    event = epoch(number, 0.5).model_dump()
    for name in ("val_predicted_share", "loader_wait", "memory", "device_use", "without_gain"):
        del event[name]
    return EpochEvent.model_validate(event)


def test_every_number_of_an_epoch_is_there_once() -> None:
    new = {"loader_wait": 0.1, "memory": 2_000_000_000, "device_use": 0.9, "val_predicted_share": {"0": 0.7}}
    new |= {"val_f1": 0.8, "val_ap50": 0.7, "val_pq": 0.6}
    new |= {"train_adversarial": 0.9, "train_discriminator": 0.2}
    history = [epoch(number, 0.5).model_copy(update=new) for number in (1, 2)]
    series = all_series(history)
    assert {one.kind for one in series} == set(KINDS)
    keys = [one.key for one in series]
    assert len(set(keys)) == len(keys)
    value = {one.key: one.values[1] for one in series}
    assert value["train_loss"] == history[1].train_loss
    assert value["dice_255"] == history[1].val_dice_per_class["255"]
    assert value["iou_0"] == history[1].val_iou_per_class["0"]
    assert value["predicted_share_0"] == 0.7
    assert value["memory_gb"] == 2.0


def test_what_an_earlier_version_did_not_report_is_left_out() -> None:
    kinds = {one.kind for one in all_series([of_an_earlier_version(1)])}
    assert kinds == set(KINDS) - {"class_share", "loader_wait", "device_use", "memory", "objects", "contest"}


def test_what_only_some_epochs_report_has_gaps() -> None:
    history = [of_an_earlier_version(1), epoch(2, 0.5).model_copy(update={"device_use": 0.4})]
    (use,) = [one for one in all_series(history) if one.kind == "device_use"]
    assert use.values == [None, 0.4]


def test_no_number_that_is_not_finite_gets_through() -> None:
    broken = epoch(1, math.nan).model_copy(
        update={"train_loss": math.inf, "val_dice_per_class": {"0": math.nan}}
    )
    for one in all_series([broken, epoch(2, 0.5)]):
        assert all(value is None or math.isfinite(value) for value in one.values)


def test_classes_are_in_the_order_of_their_values() -> None:
    event = epoch(1, 0.5).model_copy(update={"val_dice_per_class": {"10": 0.1, "2": 0.2, "255": 0.3}})
    assert class_values([event]) == ["2", "10", "255"]


@given(values=VALUES, strength=st.floats(0, 0.95))
def test_smoothing_keeps_gaps_and_stays_within_the_values(
    values: list[float | None], strength: float
) -> None:
    result = smooth(values, strength)
    assert [value is None for value in result] == [value is None for value in values]
    known = [value for value in values if value is not None]
    for value in result:
        if value is not None:
            slack = 1e-6 * max(map(abs, known), default=0) + 1e-9
            assert min(known) - slack <= value <= max(known) + slack


@given(value=st.floats(-100, 100), count=st.integers(1, 20), strength=st.floats(0, 0.95))
def test_smoothing_leaves_a_constant_curve_alone(value: float, count: int, strength: float) -> None:
    assert smooth([value] * count, strength) == pytest.approx([value] * count)


def test_more_smoothing_is_smoother() -> None:
    zigzag: list[float | None] = [float(index % 2) for index in range(40)]

    def roughness(strength: float) -> float:
        drawn = smooth(zigzag, strength)
        return sum(abs((a or 0) - (b or 0)) for a, b in pairwise(drawn[20:]))

    assert roughness(0) > roughness(0.5) > roughness(0.9)


@pytest.mark.parametrize(
    ("scores", "epoch_of_gain"),
    [
        ((0.1, 0.2, 0.3), 3),
        ((0.1, 0.2, 0.2005, 0.2009), 2),  # each is the best so far, none is a gain
        ((0.1, 0.2, 0.2006, 0.2012), 4),  # small steps add up
        ((0.0, 0.0, 0.0), 1),
        ((math.nan, 0.3, math.nan), 2),
    ],
)
def test_the_last_gain_of_a_run_that_does_not_say_it(scores: tuple[float, ...], epoch_of_gain: int) -> None:
    history = [
        of_an_earlier_version(number).model_copy(update={"val_dice": score})
        for number, score in enumerate(scores, start=1)
    ]
    assert last_gain(history, 0.001) == epoch_of_gain


def test_the_last_gain_is_what_the_run_says() -> None:
    history = [epoch(1, 0.5), epoch(2, 0.6).model_copy(update={"without_gain": 1})]
    said = parse_event(history[1].model_dump_json())
    assert isinstance(said, EpochEvent)
    assert last_gain([history[0], said], 0.001) == 1
    assert last_gain([], 0.001) is None


@given(st.floats(-1e9, 1e9))
def test_rounding_for_the_page_changes_nothing_one_can_see(value: float) -> None:
    assert rounded(value) == pytest.approx(value, rel=1e-4)
