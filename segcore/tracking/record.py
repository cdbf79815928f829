"""What MLflow is told about a run, as plain names and values: options, tags, metrics, the best epoch."""

from __future__ import annotations

import json
import math
from typing import Any

from segcore import __version__
from segcore.card import ModelCard
from segcore.config import RunConfig
from segcore.events import EpochEvent
from segcore.jobs.store import Job

JOB_TAG = "segcore.job_id"
LONGEST = 6000
"""Longest value MLflow stores for an option, in characters."""


def parameters(config: RunConfig) -> dict[str, str]:
    """Return every option as `group.option` → text: lists as JSON, long values cut with "…"."""
    flat: dict[str, str] = {}
    for group, value in config.model_dump(mode="json").items():
        options = (
            {f"{group}.{name}": item for name, item in value.items()}
            if isinstance(value, dict)
            else {group: value}
        )
        flat.update({name: _text(item) for name, item in options.items()})
    return flat


def _text(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def job_tags(job: Job) -> dict[str, str]:
    """Return what is known when the run begins."""
    return {
        JOB_TAG: job.id,
        "segcore.session": job.session,
        "segcore.kind": job.kind,
        "segcore.host": job.host,
        "segcore.version": __version__,
        "mlflow.source.name": "segcore",
        "mlflow.source.type": "LOCAL",
    }


def card_tags(card: ModelCard) -> dict[str, str]:
    """Return what is known once the data has been read: data hash, classes, versions."""
    size = card.pixel_size
    tags = {
        "segcore.data_hash": card.data_hash,
        "segcore.class_values": _text(list(card.class_values)),
        "segcore.class_names": _text(list(card.class_names)),
        "segcore.channels": str(card.channels),
        "segcore.axes": card.axes,
        "segcore.dtype": card.dtype,
        "segcore.parameters": str(card.parameters),
    }
    known = [f"{axis} {value:g}" for axis, value in (("z", size.z), ("y", size.y), ("x", size.x)) if value]
    if known:
        tags["segcore.pixel_size"] = f"{', '.join(known)} {size.unit}"
    return tags | {f"segcore.version.{name}": version for name, version in card.versions.items()}


def epoch_metrics(event: EpochEvent) -> dict[str, float]:
    """Return the metrics of one epoch; those that are not a number (a class without a pixel) are left out."""
    values = {
        "train_loss": event.train_loss,
        "val_loss": event.val_loss,
        "train_dice": event.train_dice,
        "val_dice": event.val_dice,
        "learning_rate": event.learning_rate,
        "patches_per_second": event.patches_per_second,
        "seconds": event.seconds,
        **{f"val_dice_class_{value}": score for value, score in event.val_dice_per_class.items()},
        **{f"val_iou_class_{value}": score for value, score in event.val_iou_per_class.items()},
    }
    return {name: value for name, value in values.items() if math.isfinite(value)}


def best_epoch(history: list[EpochEvent]) -> EpochEvent | None:
    """Return the epoch whose model was kept, or None before the first."""
    kept = [event for event in history if event.best]
    return kept[-1] if kept else max(history, key=lambda event: event.val_dice, default=None)


def final_metrics(history: list[EpochEvent]) -> dict[str, float]:
    """Return the metrics of the best epoch as `best_…`, the epochs done and their seconds together."""
    best = best_epoch(history)
    if best is None:
        return {}
    scores = {f"best_{name}": value for name, value in epoch_metrics(best).items() if name.startswith("val_")}
    return {
        **scores,
        "best_epoch": float(best.epoch),
        "epochs_done": float(len(history)),
        "seconds_total": math.fsum(event.seconds for event in history),
    }
