"""What MLflow calls the scores of an epoch: old names stay, and what nobody counted is left out."""

from __future__ import annotations

from typing import Any

from segcore.events import EpochEvent
from segcore.tracking.record import epoch_metrics


def epoch(**scores: Any) -> EpochEvent:
    """Return an epoch with these scores."""
    return EpochEvent(
        epoch=1, epochs=1, train_loss=1.0, train_dice=0.5, val_loss=1.0, val_dice=0.5, best=True,
        val_dice_per_class={"0": 0.9}, val_iou_per_class={"0": 0.8}, learning_rate=1e-3, seconds=1.0,
        patches_per_second=1.0, **scores,
    )  # fmt: skip


def test_precision_recall_and_accuracy_stand_beside_dice_and_iou() -> None:
    older = epoch_metrics(epoch())
    assert {"val_dice", "val_dice_class_0", "val_iou_class_0"} <= older.keys()
    nothing = float("nan")
    told = epoch_metrics(
        epoch(
            val_precision_per_class={"0": 0.7, "1": nothing},
            val_recall_per_class={"0": 0.6},
            val_accuracy=0.8,
        )
    )
    new = {"val_precision_class_0": 0.7, "val_recall_class_0": 0.6, "val_accuracy": 0.8}
    assert told == older | new
