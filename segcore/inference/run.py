"""The map of a segmentation: load the model, check the image, predict plane by plane, write what came out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from segcore.card import ModelCard, PixelSize
from segcore.config import RunConfig
from segcore.data.manifest import decode_labels
from segcore.data.open import open_source
from segcore.data.planes import Planes
from segcore.devices import Hardware, choose, versions
from segcore.errors import ConfigError, ModelError
from segcore.events import NoteEvent, Outcome, Progress, Reporter, Request, StageEvent, unheard
from segcore.files import sha256, write_atomic
from segcore.inference.sinks import TiffSink, check_space, tiff_sink
from segcore.models.saved import LoadedModel, find_model, load_model, place
from segcore.predictor import Predictor, to_labels, to_probabilities

SEGMENTATION = "segmentation.tif"
PROBABILITIES = "probabilities.tif"
METADATA = "metadata.json"
SIZE_TOLERANCE = 0.05
"""Relative difference of the pixel size from that of the training images that is worth a warning."""


class _Stopped(Exception):
    """Somebody asked the job to stop."""


def segment(
    config: RunConfig,
    folder: Path,
    report: Reporter = unheard,
    should_stop: Callable[[], bool] = lambda: False,
    model: LoadedModel | None = None,
    reference: str | None = None,
) -> Outcome:
    """Segment the image `config.data.images` and leave the result in `folder`.

    Parameters
    ----------
    config : RunConfig
        `inference.model` is the path of a run folder or `.pth` file, unless `model` is given.
    folder : Path
        The run folder; gets segmentation.tif, metadata.json and, on request, probabilities.tif.
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
    planes = open_images(config)
    for note in (*planes.source.notes, *check_image(planes, model.card)):
        report(NoteEvent(level="warning", text=note))
    report(StageEvent(text=f"segmenting {planes.source.path.name} on {hardware.describe()}"))
    predictor = Predictor(model.network, model.card, hardware, config.inference.tile_size)
    try:
        pixels = _write_results(predictor, planes, config, folder, _Pace(planes.count, report, should_stop))
    except _Stopped:
        return Outcome(request=Request.STOP, metrics={})
    classes = dict(zip(map(str, model.card.class_values), pixels.tolist(), strict=True))
    metrics = {"class_pixels": classes, "slices": planes.count, "seconds": time.monotonic() - began}
    named = reference or config.inference.model or str(model.weights)
    metadata = {"model": named} | _metadata(config, model, planes, hardware) | metrics
    write_atomic(folder / METADATA, json.dumps(metadata, indent=2, ensure_ascii=False) + "\n")
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


def open_images(config: RunConfig) -> Planes:
    """Open the image stack that `config` names.

    Raises
    ------
    ConfigError
        No image is named.
    DataError
        The file is not a readable image.
    """
    if not config.data.images:
        raise ConfigError("data.images is missing.", "Choose an image stack.")
    return Planes(open_source(Path(config.data.images), config.data.axes))


def check_image(planes: Planes, card: ModelCard) -> list[str]:
    """Return warnings about an image that differs from what the model was trained on.

    Raises
    ------
    ModelError
        The model cannot be applied to the image.
    """
    if planes.channels != card.channels:
        example = planes.source.axes.replace("C", "Z") if card.channels == 1 and planes.count == 1 else "CYX"
        raise ModelError(
            f"The model was trained on {_count(card.channels, 'channel')}, the image has {planes.channels} "
            f"({planes.shape_text}).",
            f"Choose an image with the same channels; if its axes are misread, give them, as in {example}.",
        )
    warnings = []
    if str(planes.dtype) != card.dtype and planes.dtype != np.dtype(bool):
        warnings.append(
            f"The model was trained on {card.dtype} images, this one is {planes.dtype}: "
            "if its grey values have another range, the result will be poor."
        )
    differing = [
        f"{axis} {there:.4g} instead of {trained:.4g} µm"
        for axis, there, trained in _pixel_sizes(planes.source.pixel_size, card.pixel_size)
        if abs(there / trained - 1) > SIZE_TOLERANCE
    ]
    if differing:
        warnings.append(
            f"The pixels have another size than in training ({', '.join(differing)}): "
            "rescale the image if the result is poor."
        )
    return warnings


class _Pace:
    """Counts planes and tiles, reports progress with the time left, and breaks off when asked to."""

    def __init__(self, planes: int, report: Reporter, should_stop: Callable[[], bool]) -> None:
        self.planes = planes
        self.plane = 0
        self._report = report
        self._should_stop = should_stop
        self._began = time.monotonic()

    def tile_done(self, done: int, tiles: int) -> None:
        """Take note of a tile of the current plane; raises _Stopped."""
        if self._should_stop():
            raise _Stopped
        if done < tiles:  # a plane counts when it is written
            self._tell(self.plane * tiles + done, self.planes * tiles, "tile")

    def plane_done(self) -> None:
        """Take note of a plane that has been written."""
        self.plane += 1
        self._tell(self.plane, self.planes, "slice")

    def _tell(self, done: int, total: int, unit: str) -> None:
        left = (time.monotonic() - self._began) / done * (total - done)
        self._report(Progress(stage="segmenting", done=done, total=total, unit=unit, seconds_left=left))


def _write_results(
    predictor: Predictor, planes: Planes, config: RunConfig, folder: Path, pace: _Pace
) -> np.ndarray:
    """Predict and write every plane; return the pixels of every class index."""
    values = predictor.card.class_values
    axes, shape = planes.label_axes, planes.label_shape
    dtype = decode_labels(np.zeros((1, 1), np.uint8), values).dtype
    wide = (*shape[:-2], len(values), *shape[-2:])
    pixels = np.prod(shape, dtype=np.int64)
    check_space(folder, int(pixels) * (dtype.itemsize + 4 * len(values) * config.inference.probabilities))
    counts = np.zeros(len(values), np.int64)
    size = planes.source.pixel_size
    with ExitStack() as files:
        sink = files.enter_context(tiff_sink(folder / SEGMENTATION, axes, shape, dtype, size))
        wide_sink: TiffSink | None = None
        if config.inference.probabilities:
            wide_axes = f"{axes[:-2]}CYX"
            wide_sink = files.enter_context(
                tiff_sink(folder / PROBABILITIES, wide_axes, wide, np.dtype(np.float32), size, plane_axes=3)
            )
        for index in range(planes.count):
            logits_KYX: Tensor = predictor.logits(planes.read(index), pace.tile_done)
            labels_YX = to_labels(logits_KYX)
            counts += np.bincount(labels_YX.ravel(), minlength=len(values))
            sink.write(index, decode_labels(labels_YX, values))
            if wide_sink:
                wide_sink.write(index, to_probabilities(logits_KYX))
            pace.plane_done()
    return counts


def _metadata(config: RunConfig, model: LoadedModel, planes: Planes, hardware: Hardware) -> dict[str, Any]:
    """Return what must be known to do the segmentation again."""
    return {
        "model_sha256": model.sha256,
        "class_names": dict(zip(map(str, model.card.class_values), model.card.class_names, strict=True)),
        "input": str(planes.source.path),
        "input_sha256": sha256(planes.source.path),
        "axes": planes.label_axes,
        "shape": list(planes.label_shape),
        "pixel_size": planes.source.pixel_size.model_dump(),
        "parameters": config.inference.model_dump(mode="json"),
        "device": hardware.describe(),
        "versions": versions(),
    }


def _pixel_sizes(there: PixelSize, trained: PixelSize) -> list[tuple[str, float, float]]:
    """Return (axis, size here, size in training) for the axes of a plane whose size both know."""
    pairs = [("Y", there.y, trained.y), ("X", there.x, trained.x)]
    return [(axis, here, then) for axis, here, then in pairs if here and then]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
