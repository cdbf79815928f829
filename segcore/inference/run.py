"""The map of a segmentation: load the model, then check, predict and write one image after the other."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segcore.config import RunConfig
from segcore.data.comparison import compare_grey_values
from segcore.data.items import CHANNELS, Item, list_items
from segcore.data.opening import open_item
from segcore.data.planes import Planes
from segcore.data.recipe import parse_recipe
from segcore.data.suitability import as_trained, check_image
from segcore.devices import Hardware, choose, versions
from segcore.errors import ConfigError, DataError, ModelError
from segcore.events import NoteEvent, Outcome, Reporter, Request, StageEvent, unheard
from segcore.files import sha256_of_all, write_atomic
from segcore.inference.apply import Prediction
from segcore.inference.pace import Pace, Stopped
from segcore.inference.remarks import Remarks
from segcore.inference.rescale import SAME, scale_factors
from segcore.inference.results import PROBABILITIES, SEGMENTATION, Place, places, write_results
from segcore.models.saved import LoadedModel, find_model, load_model, place
from segcore.predictor import Predictor

METADATA = "metadata.json"
SHORT_OF_MEMORY = (
    "There is too little memory for blocks of slices with all that the network can see around them: less is "
    "read, and the result may differ a little at their borders."
)
COLOURS = 3
"""Channels of a colour image; a model trained on some reads grey images as three equal channels."""


@dataclass(frozen=True)
class _Work:
    """What is the same for all images of a segmentation."""

    config: RunConfig
    model: LoadedModel
    predictor: Predictor
    report: Reporter
    pace: Pace
    remarks: Remarks

    def open(self, item: Item) -> Planes:
        """Open an image as the model wants it."""
        data, channels = self.config.data, self.model.card.channels
        repeat = channels if channels == COLOURS else 0
        return open_item(item, data, parse_recipe(data.recipe), repeat=repeat).images


def segment(
    config: RunConfig,
    folder: Path,
    report: Reporter = unheard,
    should_stop: Callable[[], bool] = lambda: False,
    model: LoadedModel | None = None,
    reference: str | None = None,
) -> Outcome:
    """Segment the image or images `config.data.images` and leave the result in `folder`.

    Parameters
    ----------
    config : RunConfig
        `inference.model` is the path of a run folder or `.pth` file, unless `model` is given.
    folder : Path
        The run folder; gets metadata.json and segmentation.tif, of several images segmentation/NAME.tif, and
        on request the probabilities likewise. Of several images, one that cannot be used is reported and left
        out.
    report : Reporter
        Told of stages, warnings and progress.
    should_stop : callable
        Asked after every plane or tile; True ends the run and leaves no result.
    model : LoadedModel, optional
        A model that is already loaded.
    reference : str, optional
        What the person called the model, where `inference.model` is only a copy of it (`models:/name@alias`).

    Raises
    ------
    ConfigError, DataError, ModelError, JobError
        Something the person has to change; no result is left.
    """
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    report(StageEvent(text="loading the model"))
    hardware = choose(config.hardware)
    model = open_model(config, hardware, model)
    config = config.model_copy(update={"data": as_trained(config.data, model.config.data)})
    items = list_images(config, report)
    predictor = Predictor(model.network, model.card, hardware, config.inference.tile_size)
    pace, remarks = Pace(len(items), report, should_stop), Remarks(len(items), report)
    work = _Work(config, model, predictor, report, pace, remarks)
    targets = places(folder, [item.name for item in items], config.inference.probabilities)
    try:
        if len(items) > 1:
            report(StageEvent(text=f"segmenting {len(items)} images on {hardware.describe()}"))
        done, failed = _segment_all(work, items, targets)
    except BaseException as error:
        for path in (SEGMENTATION, PROBABILITIES):
            shutil.rmtree(folder / Path(path).stem, ignore_errors=True)
        if isinstance(error, Stopped):
            return Outcome(request=Request.STOP, metrics={})
        raise
    metrics = _sums(done) | {"seconds": time.monotonic() - began}
    named = {"model": reference or config.inference.model or str(model.weights)}
    entries = [entry | {"segmentation": str(at.segmentation.relative_to(folder))} for entry, at in done]
    of_all = named | _metadata(config, model, hardware) | {"images": entries, "failed": failed}
    metadata = entries[0] | of_all if len(items) == 1 else of_all
    write_atomic(folder / METADATA, json.dumps(metadata | metrics, indent=2, ensure_ascii=False) + "\n")
    return Outcome(request=None, metrics=metrics)


def open_model(config: RunConfig, hardware: Hardware, model: LoadedModel | None = None) -> LoadedModel:
    """Load the model that `config` names, or take `model`, and put it on the device.

    Raises
    ------
    ConfigError
        No model is named.
    ModelError
        The model is missing or unusable.
    """
    if model is not None:
        place(model.network, hardware)
        return model
    if not config.inference.model:
        raise ConfigError("inference.model is missing.", "Choose a run folder or a .pth file.")
    weights, configuration = find_model(config.inference.model, config.inference.config_file)
    return load_model(weights, configuration, hardware)


def list_images(config: RunConfig, report: Reporter) -> tuple[Item, ...]:
    """Return the images that `config` names; what was noticed on the way is reported.

    Raises
    ------
    ConfigError
        No image is named.
    DataError
        There is none.
    """
    if not config.data.images:
        raise ConfigError("data.images is missing.", "Choose an image stack or a folder of images.")
    listing = list_items(config.data, labelled=False)
    for finding in listing.findings:
        if finding.level == "error" or not listing.items:
            raise DataError(finding.what, finding.remedy)
        report(NoteEvent(level=finding.level, text=finding.what, remedy=finding.remedy))
    if not listing.items:
        raise DataError(f"{config.data.images} holds no images.", "Choose another file or folder.")
    return listing.items


def _segment_all(
    work: _Work, items: Sequence[Item], targets: Sequence[Place]
) -> tuple[list[tuple[dict[str, Any], Place]], list[dict[str, str]]]:
    """Segment one image after the other; of several, those that cannot be used are left out."""
    done: list[tuple[dict[str, Any], Place]] = []
    failed: list[dict[str, str]] = []
    for item, target in zip(items, targets, strict=True):
        try:
            done.append((_segment_one(work, item, target, alone=len(items) == 1), target))
        except (DataError, ModelError) as error:
            if len(items) == 1 or (not done and len(failed) == len(items) - 1):
                raise
            failed.append({"name": item.name, "message": error.message, "remedy": error.remedy})
            text = f"{item.name} is left out: {error.message}"
            work.report(NoteEvent(level="error", text=text, remedy=error.remedy))
        work.pace.image_done()
    work.remarks.tell()
    return done, failed


def _segment_one(work: _Work, item: Item, target: Place, alone: bool) -> dict[str, Any]:
    """Segment an image and return what is to be remembered of it."""
    images = work.open(item)
    card, rescale = work.model.card, work.config.inference.rescale
    for note in (*images.source.notes, *check_image(images, card, rescale)):
        work.remarks.add(item.name, note)
    factors = scale_factors(images.source.pixel_size, card) if rescale else SAME
    prediction = Prediction(work.predictor, images, factors)
    comparison = compare_grey_values(images, card, prediction.normalization)
    work.remarks.compare(comparison)
    if not prediction.is_exact():
        work.remarks.add(item.name, SHORT_OF_MEMORY)
    if alone:
        on = work.predictor.hardware.describe()
        work.report(StageEvent(text=f"segmenting {images.source.path.name} on {on}"))
    work.pace.image_begun(len(prediction.pieces), images.count)
    predicted = prediction.planes(work.pace.tile_done)
    counts = np.zeros(len(card.class_values), np.int64)
    for pixels in write_results(predicted, images, card.class_values, target):
        counts += pixels
        work.pace.plane_done()
    return {
        "name": item.name,
        "input": CHANNELS.join(item.images),
        "input_sha256": sha256_of_all(item.images),
        "axes": images.label_axes,
        "shape": list(images.label_shape),
        "pixel_size": images.source.pixel_size.model_dump(),
        "rescaled": list(factors),
        "grey_values": comparison.describe() if comparison else None,
        "class_pixels": dict(zip(map(str, card.class_values), counts.tolist(), strict=True)),
        "slices": images.count,
    }


def _sums(done: Sequence[tuple[dict[str, Any], Place]]) -> dict[str, Any]:
    """Return pixels of every class and slices, over all images."""
    classes: dict[str, int] = {}
    for entry, _ in done:
        for value, pixels in entry["class_pixels"].items():
            classes[value] = classes.get(value, 0) + pixels
    return {"class_pixels": classes, "slices": sum(entry["slices"] for entry, _ in done)}


def _metadata(config: RunConfig, model: LoadedModel, hardware: Hardware) -> dict[str, Any]:
    """Return what must be known to do the segmentation again."""
    return {
        "model_sha256": model.sha256,
        "class_names": dict(zip(map(str, model.card.class_values), model.card.class_names, strict=True)),
        "parameters": config.inference.model_dump(mode="json"),
        "device": hardware.describe(),
        "versions": versions(),
    }
