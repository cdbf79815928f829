"""What MLflow is told about a run, as plain names and values: options, tags, metrics, the best epoch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from segcore import __version__
from segcore.card import ModelCard
from segcore.config import RunConfig
from segcore.config.secret import SECRETS, shown_address
from segcore.events import EpochEvent, InterventionEvent
from segcore.jobs.journal import read_history, read_results
from segcore.jobs.store import Job

JOB_TAG = "segcore.job_id"
PARENT_TAG = "segcore.parent"
"""Tag of a run that goes on from another one: the id of the other job."""
LONGEST = 6000
"""Longest value MLflow stores for an option, in characters."""
LONGEST_TAG = 4000


def parameters(config: RunConfig) -> dict[str, str]:
    """Return every option as `group.option` → text: lists as JSON, long values cut with "…", no secrets."""
    flat: dict[str, str] = {}
    for group, value in config.model_dump(mode="json").items():
        options = (
            {f"{group}.{name}": item for name, item in value.items()}
            if isinstance(value, dict)
            else {group: value}
        )
        flat.update({name: _text(_shown(name, item)) for name, item in options.items()})
    return flat


def _shown(name: str, value: Any) -> Any:
    return shown_address(value) if value and name.rpartition(".")[2] in SECRETS else value


def without_secrets(config: Path, scratch: Path) -> Path:
    """Return a config.json as others may see it: the file itself, or a copy in `scratch` without its secrets.

    Whoever takes the options over would otherwise send messages in the name of who made them.
    """
    content = json.loads(config.read_text(encoding="utf-8"))
    sections = [part for part in content.values() if isinstance(part, dict)]
    found = [(part, name) for part in sections for name in SECRETS if part.get(name)]
    if not found:
        return config
    for part, name in found:
        part[name] = None
    copy = scratch / config.name
    copy.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return copy


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
        PARENT_TAG: job.parent,
        "segcore.group": job.group,
        "segcore.version": __version__,
        "mlflow.source.name": "segcore",
        "mlflow.source.type": "LOCAL",
    }


def card_tags(card: ModelCard) -> dict[str, str]:
    """Return what is known once the data has been read: data hash, classes, versions."""
    size = card.pixel_size
    head = {} if card.head is None else {"segcore.head": card.head.name}
    tags = head | {
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


def intervention_tags(events: list[InterventionEvent]) -> dict[str, str]:
    """Return what the autopilot changed: one tag each, by its number, and how many there are by now."""
    tags = {f"segcore.intervention.{event.number}": _intervention_text(event) for event in events}
    return tags | ({"segcore.interventions": str(max(event.number for event in events))} if events else {})


def _intervention_text(event: InterventionEvent) -> str:
    parts = (f"after epoch {event.epoch}: {event.text}", event.cause, event.action)
    text = " ".join(part for part in parts if part)
    return text if len(text) <= LONGEST_TAG else text[: LONGEST_TAG - 1] + "…"


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
        "loader_wait": event.loader_wait,
        **({"memory_gb": event.memory / 1e9} if event.memory else {}),
        **({} if event.device_use is None else {"device_use": event.device_use}),
        **{f"val_dice_class_{value}": score for value, score in event.val_dice_per_class.items()},
        **{f"val_iou_class_{value}": score for value, score in event.val_iou_per_class.items()},
        **{f"val_precision_class_{value}": score for value, score in event.val_precision_per_class.items()},
        **{f"val_recall_class_{value}": score for value, score in event.val_recall_per_class.items()},
        **({} if event.val_accuracy is None else {"val_accuracy": event.val_accuracy}),
        **_objects(event),
        **_contest(event),
    }
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _objects(event: EpochEvent) -> dict[str, float]:
    """Return the scores of objects, where they are learned."""
    scores = {"val_ap50": event.val_ap50, "val_f1": event.val_f1, "val_pq": event.val_pq}
    return {name: value for name, value in scores.items() if value is not None}


def _contest(event: EpochEvent) -> dict[str, float]:
    """Return the losses of the predictions that face an adversary, and of the adversary."""
    losses = {"train_adversarial": event.train_adversarial, "train_discriminator": event.train_discriminator}
    return {name: value for name, value in losses.items() if value is not None}


def whole_history(job: Job) -> list[EpochEvent]:
    """Return the epochs that led to the run's model: of a continued run also those of the runs before it."""
    own = read_history(job.folder)
    known: list[EpochEvent] = []
    with suppress(ValidationError, TypeError):  # results of another version
        known = [EpochEvent.model_validate(item) for item in read_results(job).get("history", ())]
    # Results of an end before the run was resumed know less than the events.
    return known if known and (not own or known[-1].epoch >= own[-1].epoch) else own


def best_epoch(history: list[EpochEvent]) -> EpochEvent | None:
    """Return the epoch whose model was kept, or None before the first."""
    kept = [event for event in history if event.best]
    return kept[-1] if kept else max(history, key=lambda event: event.val_score, default=None)


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


def result_metrics(results: Mapping[str, Any]) -> dict[str, float]:
    """Return what results.json tells beside the epochs: the speed of predicting, and how a teacher compares.

    Parameters
    ----------
    results : mapping
        Its content, empty for a run without one.
    """
    learned = results.get("teaching") or {}
    found = {"seconds_per_megapixel": results.get("seconds_per_megapixel")}
    for who in ("teacher", "student"):
        told = learned.get(who)
        if isinstance(told, dict):
            names = ("dice", "parameters", "bytes", "seconds_per_megapixel")
            found |= {f"{who}_{name}": told.get(name) for name in names}
    found["student_dice_with_teacher"] = learned.get("agreement")
    return {
        name: float(value)
        for name, value in found.items()
        if isinstance(value, int | float) and math.isfinite(value)
    }
