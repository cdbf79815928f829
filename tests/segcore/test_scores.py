"""What the best epoch is chosen by is named and read the same way everywhere."""

from __future__ import annotations

import math

import pytest

from segcore.events import EpochEvent, score_of


def epoch(**scores: float) -> EpochEvent:
    """Return an epoch with a Dice of 0.9, and these scores."""
    return EpochEvent(
        epoch=1, epochs=1, train_loss=1, train_dice=0.5, val_loss=1, val_dice=0.9, val_dice_per_class={},
        val_iou_per_class={}, learning_rate=1e-3, seconds=1, patches_per_second=1, best=True, **scores,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("scores", "text"),
    [({}, "Dice 0.900"), ({"val_f1": 0.25}, "F1 0.250"), ({"val_f1": math.nan}, "F1 0.000")],
)
def test_an_epoch_of_objects_is_judged_by_them(scores: dict[str, float], text: str) -> None:
    assert epoch(**scores).score_text == text
    again = EpochEvent.model_validate_json(epoch(**scores).model_dump_json())
    assert again.score_text == text


@pytest.mark.parametrize(
    ("metrics", "found"),
    [
        ({}, ("Dice", None)),
        ({"val_dice": math.nan}, ("Dice", None)),
        ({"val_dice": 0.5, "val_f1": None}, ("Dice", 0.5)),
        ({"val_dice": 0.5, "val_f1": 0.25}, ("F1", 0.25)),
        ({"val_dice": 0.5, "val_f1": math.nan}, ("F1", None)),
    ],
)
def test_results_are_read_alike(metrics: dict[str, float], found: tuple[str, float | None]) -> None:
    assert score_of(metrics) == found
