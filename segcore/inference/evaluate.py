"""Scores of a trained model on annotated images, by the same route as validation during training.

Only a slice of which some rows validated is predicted as a whole: near their border the scores are not to the
digit those of the training, which saw these rows alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal

from segcore.config import DataConfig, RunConfig
from segcore.data.collection import Collection, open_collection
from segcore.data.dataset import data_hash
from segcore.data.manifest import ONE_CLASS
from segcore.data.split_file import load_split, split_folder
from segcore.data.splits import Region, Split, parse_slices
from segcore.data.suitability import as_trained
from segcore.data.targets import LabelRule
from segcore.devices import choose
from segcore.ensemble import build_predictor
from segcore.errors import ConfigError, DataError
from segcore.events import NoteEvent, Progress, Reporter, Request, StageEvent, unasked
from segcore.inference.object_scorer import ObjectScorer
from segcore.inference.pace import Stopped
from segcore.inference.remarks import Remarks
from segcore.inference.run import open_model
from segcore.inference.scorer import Scorer, Watcher
from segcore.metrics.overlap import Scores
from segcore.models.saved import LoadedModel

Part = Literal["test", "validation", "all"]
PARTS: tuple[Part, ...] = ("test", "validation", "all")


def evaluate(
    config: RunConfig,
    report: Reporter,
    model: LoadedModel | None = None,
    part: Part | None = None,
    asked: Callable[[], Request | None] = unasked,
    watcher: Watcher | None = None,
) -> dict[str, Any]:
    """Compare the model's segmentation of `data.images` with `data.labels`.

    Parameters
    ----------
    config : RunConfig
        Without images and labels, those of the training. With `data.validation_slices`, only these slices
        count.
    report : Reporter
        Told of stages, warnings and progress.
    model : LoadedModel, optional
        A model that is already loaded; by default `inference.model`.
    part : {"test", "validation", "all"}, optional
        The part of the training's own images that counts. By default what the training kept for the test, if
        it kept something and these are its images; otherwise all of the images given, or what validated if
        none are given.
    asked : callable
        Asked between blocks what somebody wants.
    watcher : Watcher, optional
        Told what is found slice by slice.

    Returns
    -------
    dict
        val_dice, val_dice_per_class, val_iou_per_class, val_precision_per_class, val_recall_per_class (keyed
        by label value), val_accuracy, mean_iou, part, images, slices, seconds. Where objects are told apart
        also val_ap50, val_f1, val_pq (at an IoU of 0.5), val_ap (mean from 0.5 to 0.95), objects_annotated,
        objects_predicted.

    Raises
    ------
    ConfigError, DataError, ModelError
        Something the person has to change, for example labels with values the model does not know.
    Stopped
        Somebody asked for it.
    """
    began, watcher = time.monotonic(), watcher or Watcher()
    report(StageEvent(text="loading the model"))
    hardware = choose(config.hardware)
    model = open_model(config, hardware, model)
    data = _labelled_as_trained(config.data, model)
    collection = open_collection(data)
    part, regions = _choose(collection, config, model, part, report)
    report(StageEvent(text=f"evaluating {_PART_TEXT[part]} on {hardware.describe()}"))
    predictor = build_predictor(config, model, hardware)
    told = watcher if watcher.needs_slices else None
    kind = Scorer if model.card.head is None else ObjectScorer
    scorer = kind(predictor, collection, LabelRule.of(data), config.inference.rescale, told)
    watcher.begin(data, model)
    slices = _score_all(scorer, regions, report, asked)
    return _numbers(scorer.counts.scores(model.card.class_values)) | {
        **(scorer.results() if isinstance(scorer, ObjectScorer) else {}),
        "part": part,
        "images": len({region.item for region in regions}),
        "slices": slices,
        "seconds": time.monotonic() - began,
    }


def _score_all(
    scorer: Scorer, regions: Sequence[Region], report: Reporter, asked: Callable[[], Request | None]
) -> int:
    """Score the slices of regions, image by image, and return how many there were."""

    def check(*_: int) -> None:
        if request := asked():
            raise Stopped(request)

    began, scored = time.monotonic(), 0
    slices = sum(region.planes[1] - region.planes[0] for region in regions)
    groups = _by_image(regions)
    remarks = Remarks(len(groups), report)
    for group in groups:
        for note in scorer.notes(group[0].item):
            remarks.add(scorer.collection.entries[group[0].item].item.name, note)
        for step in scorer.score(group, check):
            scored += step.slices
            done, total, unit = scored, slices, "slice"
            if len(groups) == 1:  # which may be a single slice of thousands of blocks
                done, total, unit = step.done, step.total, step.unit
            left = (time.monotonic() - began) / done * (total - done) if done else None
            report(Progress(stage="evaluating", done=done, total=total, unit=unit, seconds_left=left))
    remarks.tell()
    if not scored:
        raise DataError("Nothing is annotated in these slices.", "Choose slices that are annotated.")
    return scored


def _numbers(scores: Scores) -> dict[str, Any]:
    """Return scores by the names they are told under."""
    return {
        "val_dice": scores.mean_dice,
        "val_dice_per_class": scores.dice,
        "val_iou_per_class": scores.iou,
        "val_precision_per_class": scores.precision,
        "val_recall_per_class": scores.recall,
        "val_accuracy": scores.accuracy,
        "mean_iou": scores.mean_iou,
    }


_LEARNED = "These are the images of the training: the scores are also of slices it has learned from."
_UNSEEN = "The validation part (--part validation) has those it has not."
_PART_TEXT: dict[Part, str] = {
    "test": "what was kept for the test",
    "validation": "what validated",
    "all": "all annotated slices",
}


def _labelled_as_trained(data: DataConfig, model: LoadedModel) -> DataConfig:
    """Return the options with what the training says of images and labels, where nobody said otherwise.

    Of its own images and labels that is everything: mask, annotated slices, further sets, repairs.
    Objects are read as such, or as foreground, if the option or the training says so.
    """
    trained = model.config.data
    own = (trained.images, trained.labels)
    if (data.images, data.labels) in ((None, None), own):
        given = {name: getattr(data, name) for name in data.model_fields_set}
        # Nobody says with an empty list that further sets or repairs are to be left out.
        given = {name: value for name, value in given.items() if value not in (None, [])}
        return trained.model_copy(update={"images": trained.images, "labels": trained.labels} | given)
    data = as_trained(data, model.config.data)
    update: dict[str, Any] = {}
    if trained.labels_as in ONE_CLASS:
        update["labels_as"] = trained.labels_as
    if data.unlabelled_value is None:
        update["unlabelled_value"] = trained.unlabelled_value
    return data.model_copy(update=update)


def _choose(
    collection: Collection, config: RunConfig, model: LoadedModel, part: Part | None, report: Reporter
) -> tuple[Part, list[Region]]:
    """Return the part that counts and where it lies, and tell if its scores flatter."""
    own = bool(model.card.data_hash) and data_hash(collection) == model.card.data_hash
    split = _own_split(collection, model) if own else None
    part, regions = _choose_part(collection, config, split, part)
    if part == "all" and own:
        report(NoteEvent(text=_LEARNED, remedy=_UNSEEN if split is not None else ""))
    return part, regions


def _choose_part(
    collection: Collection, config: RunConfig, split: Split | None, part: Part | None
) -> tuple[Part, list[Region]]:
    """Return the part that counts and where it lies."""
    if part is None and config.data.validation_slices:
        return "validation", _named(collection, config.data.validation_slices)
    if part is None:
        rest: Part = "all" if config.data.images or split is None else "validation"
        part = "test" if split and split.test else rest
    if part == "all":
        return part, [
            Region(number, (0, entry.planes), (0, entry.height))
            for number, entry in enumerate(collection.entries)
        ]
    if split is None:
        raise ConfigError(
            f"There is no {part} part of these images: the model was not trained on them, or did not keep "
            "its split.",
            "Leave out --part, or evaluate the images of the training.",
        )
    regions = list(getattr(split, part))
    if not regions:
        raise ConfigError(
            f"The training kept nothing for the {part}.",
            "Train with data.test_fraction or data.test_groups, or evaluate another part.",
        )
    return part, regions


def _own_split(collection: Collection, model: LoadedModel) -> Split | None:
    """Return the split of the training, whose images and labels these are; None where it is lost."""
    folder = split_folder(model.weights)
    try:
        return load_split(folder, collection) if folder else None
    except DataError:
        return None


def _named(collection: Collection, text: str) -> list[Region]:
    chosen = parse_slices(text)
    if chosen[-1] >= collection.count:
        raise ConfigError(
            f"data.validation_slices {text!r} names {chosen[-1]}, but there are the slices 0 to "
            f"{collection.count - 1}.",
            "Slices are counted from 0.",
        )
    places = [collection.locate(index) for index in chosen]
    return [
        Region(number, (plane, plane + 1), (0, collection.entries[number].height)) for number, plane in places
    ]


def _by_image(regions: Sequence[Region]) -> list[list[Region]]:
    groups: dict[int, list[Region]] = {}
    for region in regions:
        groups.setdefault(region.item, []).append(region)
    return list(groups.values())
