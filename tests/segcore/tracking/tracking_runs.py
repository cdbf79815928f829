"""What the tracking tests tell: a model card, epochs, the end of a training."""

from __future__ import annotations

import torch

from segcore.card import ModelCard, Normalization
from segcore.config import RunConfig
from segcore.events import EpochEvent
from segcore.jobs.store import Job, State, end_job
from segcore.models.build import build_model

CARD = ModelCard(
    channels=1,
    class_values=(0, 255),
    class_names=("Background", "Membrane"),
    normalization=Normalization(kind="min-max", offset=(0.0,), scale=(255.0,)),
    axes="ZYX",
    dtype="uint8",
    data_hash="ab" * 32,
    parameters=1234,
    versions={"torch": "2"},
)


def epoch(number: int, *, dice: float | None = None, best: bool = True) -> EpochEvent:
    """Make an epoch whose every value depends on its number."""
    dice = 0.5 + number / 100 if dice is None else dice
    return EpochEvent(
        time=1_700_000_000 + number,
        epoch=number,
        epochs=10,
        train_loss=1 / number,
        train_dice=dice,
        val_loss=2 / number,
        val_dice=dice,
        val_dice_per_class={"0": dice, "255": dice / 2},
        val_iou_per_class={"0": dice / 3, "255": float("nan")},
        learning_rate=1e-3 / number,
        seconds=float(number),
        patches_per_second=100.0,
        best=best,
    )


def end_run(job: Job, config: RunConfig, state: State = State.FINISHED, card: ModelCard = CARD) -> Job:
    """End the training as the real one does: model, results, then the state."""
    torch.manual_seed(0)
    network = build_model(config.model, card.channels, len(card.class_values))
    torch.save(network.state_dict(), job.folder / "best_model.pth")
    (job.folder / "results.json").write_text('{"device": "CPU, 2 cores, fp32"}')
    return end_job(job.folder, state, "Trained.")
