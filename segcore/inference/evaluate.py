"""Scores of a trained model on annotated images, by the same route as validation during training."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from segcore.config import RunConfig
from segcore.data.dataset import open_pair, read_labels
from segcore.data.manifest import split_planes
from segcore.data.planes import Planes
from segcore.devices import choose
from segcore.errors import ConfigError
from segcore.events import NoteEvent, Progress, Reporter, StageEvent
from segcore.inference.run import check_image, open_model
from segcore.metrics.overlap import Confusion
from segcore.models.saved import LoadedModel
from segcore.predictor import Predictor


def evaluate(config: RunConfig, report: Reporter, model: LoadedModel | None = None) -> dict[str, Any]:
    """Compare the model's segmentation of `data.images` with `data.labels`.

    Parameters
    ----------
    config : RunConfig
        With `data.validation_slices`, only these slices count, else all.
    report : Reporter
        Told of stages, warnings and progress.
    model : LoadedModel, optional
        A model that is already loaded; by default `inference.model`.

    Returns
    -------
    dict
        val_dice, val_dice_per_class, val_iou_per_class (keyed by label value), mean_iou, slices, seconds.

    Raises
    ------
    ConfigError, DataError, ModelError
        Something the person has to change, for example labels with values the model does not know.
    """
    began = time.monotonic()
    report(StageEvent(text="loading the model"))
    hardware = choose(config.hardware)
    model = open_model(config, hardware, model)
    images, labels = _open_pair(config)
    for note in (*images.source.notes, *check_image(images, model.card)):
        report(NoteEvent(level="warning", text=note))
    report(StageEvent(text=f"evaluating on {hardware.describe()}"))
    predictor = Predictor(model.network, model.card, hardware, config.inference.tile_size)
    counts = Confusion(len(model.card.class_values), hardware.device)
    chosen = _chosen_planes(config, images)
    for done, index in enumerate(chosen, start=1):
        label_YX = read_labels(labels, index, model.card.class_values, _labels_as(config, model))
        prediction_YX = predictor.logits(images.read(index)).argmax(0)
        counts.update(prediction_YX, torch.from_numpy(label_YX).to(hardware.device))
        left = (time.monotonic() - began) / done * (len(chosen) - done)
        report(Progress(stage="evaluating", done=done, total=len(chosen), unit="slice", seconds_left=left))
    scores = counts.scores(model.card.class_values)
    return {
        "val_dice": scores.mean_dice,
        "val_dice_per_class": scores.dice,
        "val_iou_per_class": scores.iou,
        "mean_iou": scores.mean_iou,
        "slices": len(chosen),
        "seconds": time.monotonic() - began,
    }


def _open_pair(config: RunConfig) -> tuple[Planes, Planes]:
    if not config.data.images or not config.data.labels:
        raise ConfigError(
            "data.images and data.labels are both needed.", "Choose an image and a label stack."
        )
    return open_pair(Path(config.data.images), Path(config.data.labels), config.data.axes)


def _chosen_planes(config: RunConfig, images: Planes) -> list[int]:
    if not config.data.validation_slices:
        return list(range(images.count))
    return [region.plane for region in split_planes(images.count, images.height, config.data).validation]


def _labels_as(config: RunConfig, model: LoadedModel) -> str:
    """Return how labels are read: as objects in the foreground if the option or the training says so."""
    return "foreground" if "foreground" in (config.data.labels_as, model.config.data.labels_as) else "classes"
