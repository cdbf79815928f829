"""Student against teacher, after the training: both on the validation slices, and what both cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from segcore.blocks import own_normalization
from segcore.config import RunConfig
from segcore.data.dataset import TrainingData
from segcore.data.taught import Answer
from segcore.data.volumes import Volume
from segcore.devices import Hardware
from segcore.events import NoteEvent, StageEvent
from segcore.metrics.overlap import Confusion, Scores
from segcore.models.saved import WEIGHTS, load_model
from segcore.predictor import Predictor, to_labels
from segcore.tasks import build_task
from segcore.tiling import IGNORE
from segcore.training.context import Run
from segcore.training.teacher import Teacher
from segcore.training.teaching import Lesson
from segcore.training.validation import Validator


def compared(run: Run, lesson: Lesson, data: TrainingData) -> dict[str, Any]:
    """Return what `compare` finds for a run that has ended; a failure is told and costs no training."""
    run.report(StageEvent(text="comparing with the teacher"))
    try:
        return compare(run.config, run.folder, data, lesson, run.hardware)
    except Exception as error:  # whatever it is, the model is there
        run.report(NoteEvent(level="warning", text=f"The teacher could not be compared with: {error}"))
        return {"reference": run.config.training.teacher}


def compare(
    config: RunConfig, folder: Path, data: TrainingData, lesson: Lesson, hardware: Hardware
) -> dict[str, Any]:
    """Return how the trained network compares with its teacher, for results.json.

    Both predict the validation slices: Dice against the annotation of each, and of the network against the
    teacher, parameters, bytes of the file, and seconds per 10⁶ px. Of masks nobody knows what they cost.

    Parameters
    ----------
    config, folder : RunConfig, Path
        Of the run, which has a best model.
    data : TrainingData
        Has the validation slices.
    lesson : Lesson
        What was learned.
    hardware : Hardware
        Where both compute.
    """
    learned: dict[str, Any] = {"reference": config.training.teacher, "distill": config.training.distill}
    student = load_model(folder / WEIGHTS, folder / "config.json", hardware)
    loss = build_task(config)
    own = Validator(
        Predictor(student.network, student.card, hardware), loss, data.validation, data.class_values
    )
    learned["student"] = _judged(own) | _size(student.network.parameters(), folder / WEIGHTS)
    believed: list[Volume] = []
    if lesson.masks is not None:
        believed, scores = _masked(data, lesson.masks)
        learned["teacher"] = {"dice": _counted(scores.mean_dice), "dice_per_class": scores.dice}
    elif lesson.teacher is not None and lesson.teacher.model.card.mode == student.card.mode:
        # In other dimensions its slices are not there, or not together.
        model = lesson.teacher.model
        seen = [_as_seen(volume, data, lesson.teacher) for volume in data.validation]
        his = Validator(lesson.teacher.predictor, loss, seen, data.class_values)
        learned["teacher"] = _judged(his) | _size(model.network.parameters(), model.weights)
        believed = _believing(his, seen, data.validation)
    if any((np.asarray(volume.label_ZYX[:, :, :]) >= 0).any() for volume in believed):
        verdict = Validator(own.predictor, loss, believed, data.class_values)()
        learned["agreement"] = _counted(verdict.scores.mean_dice) if verdict else None
    return learned


def _judged(validator: Validator) -> dict[str, Any]:
    validator.warm_up()  # kernels are built for the first picture
    verdict = validator()
    return {
        "dice": _counted(verdict.scores.mean_dice) if verdict else None,
        "dice_per_class": verdict.scores.dice if verdict else {},
        "seconds_per_megapixel": validator.seconds_per_megapixel,
    }


def _counted(dice: float) -> float | None:
    """Return a Dice, None where nothing was counted: JSON has no nan."""
    return None if math.isnan(dice) else dice


def _size(parameters: Any, weights: Path) -> dict[str, int]:
    return {
        "parameters": sum(parameter.numel() for parameter in parameters),
        "bytes": weights.stat().st_size,
    }


def _as_seen(volume: Volume, data: TrainingData, teacher: Teacher) -> Volume:
    """Return a volume with the grey values as the teacher takes them."""
    images = data.collection.open(volume.item).images
    return replace(volume, normalization=own_normalization(images, teacher.model.card.normalization))


def _believing(his: Validator, seen: Sequence[Volume], volumes: Sequence[Volume]) -> list[Volume]:
    """Return the volumes with what the teacher predicts where the annotation was."""
    predicted = {id(volume): np.full(volume.label_ZYX.shape, IGNORE, np.int16) for volume in seen}
    for scene in his.scenes:
        said = to_labels(scene.judged_part(his.logits(scene)))
        label_ZYX = predicted[id(scene.volume)]
        first, last = scene.judged[0], scene.judged[-1]
        label_ZYX[first : last + 1, *scene.tile.write] = said
    return [
        replace(volume, label_ZYX=predicted[id(his_own)])
        for volume, his_own in zip(volumes, seen, strict=True)
    ]


def _masked(data: TrainingData, masks: Callable[[int], Answer]) -> tuple[list[Volume], Scores]:
    """Return the validation volumes with masks in place of the annotation, and how these agree."""
    counts, found = Confusion(len(data.class_values)), []
    for volume in data.validation:
        answer, label_ZYX = masks(volume.item), np.full(volume.label_ZYX.shape, IGNORE, np.int16)
        height, width = label_ZYX.shape[1:]
        rows, columns = slice(volume.row, volume.row + height), slice(0, width)
        for plane in volume.annotated:
            said_YX = answer.classes(volume.first + plane, rows, columns)
            truth_YX = np.asarray(volume.label_ZYX[slice(plane, plane + 1), :, :])[0]
            both = np.where(said_YX >= 0, truth_YX, IGNORE)
            counts.update(torch.from_numpy(said_YX.astype(np.int64)), torch.from_numpy(both))
            label_ZYX[plane] = said_YX
        found.append(replace(volume, label_ZYX=label_ZYX))
    return found, counts.scores(data.class_values)
