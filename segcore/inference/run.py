"""The map of a segmentation: load the model, then check, predict and write one image after the other."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

from segcore.config import RunConfig
from segcore.data.items import Item, list_items
from segcore.data.suitability import as_trained
from segcore.devices import Hardware, choose, versions
from segcore.ensemble import build_predictor
from segcore.errors import ConfigError, DataError, ModelError
from segcore.events import NoteEvent, Outcome, Reporter, Request, StageEvent, unasked, unheard
from segcore.files import write_atomic
from segcore.inference.cluster import choose_cluster
from segcore.inference.image import Work, segment_image
from segcore.inference.object_image import for_objects
from segcore.inference.pace import Pace, Stopped
from segcore.inference.partial import PARTIAL, Finished, key_of, stamps
from segcore.inference.remarks import Remarks
from segcore.inference.results import Place, places
from segcore.inference.sinks import remove
from segcore.models.saved import LoadedModel, find_model, hash_of, load_model, place

METADATA = "metadata.json"


def segment(
    config: RunConfig,
    folder: Path,
    report: Reporter = unheard,
    asked: Callable[[], Request | None] = unasked,
    model: LoadedModel | None = None,
    reference: str | None = None,
) -> Outcome:
    """Segment the image or images `config.data.images` and leave the result in `folder`.

    What an earlier call with the same options, model and images left unfinished there is taken up: it goes on
    at the first block that is not on disk, and the result is the same: to the bit on the same machine with as
    many threads, else (other cores, another device of its kind) up to rounding, of which a warning is given.

    Parameters
    ----------
    config : RunConfig
        `inference.model` is the path of a run folder, `.pth` file or model of another program, unless `model`
        is given.
    folder : Path
        The run folder; gets metadata.json and segmentation.tif, of several images segmentation/NAME.tif, and
        on request the probabilities likewise. Of several images, one that cannot be used is reported and left
        out.
    report : Reporter
        Told of stages, warnings and progress.
    asked : callable
        Asked between blocks what somebody wants. PAUSE: what is done stays, the same call goes on. STOP,
        DISCARD: no result is left.
    model : LoadedModel, optional
        A model that is already loaded.
    reference : str, optional
        What the person called the model, where `inference.model` is only a copy of it (`models:/name@alias`).

    Raises
    ------
    ConfigError, DataError, ModelError
        Something the person has to change; no result is left.
    JobError
        Memory or disk space ran out; what is done stays.
    """
    began = time.monotonic()
    work, items = _prepare(config, folder, report, asked, model)
    targets = places(folder, [item.name for item in items], work.config.inference)
    try:
        with work.cluster or nullcontext():
            done, failed = _segment_all(work, items, targets)
    except Stopped as stopped:
        if stopped.request is not Request.PAUSE:
            _remove_results(work, items, targets)
        return Outcome(request=stopped.request, metrics={})
    except (ConfigError, DataError, ModelError):
        _remove_results(work, items, targets)  # what has to be changed makes another result
        raise
    metrics = _sums(done) | {"seconds": time.monotonic() - began}
    metadata = _metadata(work, reference, done, failed) | metrics
    write_atomic(folder / METADATA, json.dumps(metadata, indent=2, ensure_ascii=False) + "\n")
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)
    return Outcome(request=None, metrics=metrics)


def _prepare(
    config: RunConfig,
    folder: Path,
    report: Reporter,
    asked: Callable[[], Request | None],
    model: LoadedModel | None,
) -> tuple[Work, tuple[Item, ...]]:
    """Load the model and list the images; see `segment`."""
    folder.mkdir(parents=True, exist_ok=True)
    report(StageEvent(text="loading the model"))
    hardware = choose(config.hardware)
    model = open_model(config, hardware, model)
    config = config.model_copy(update={"data": as_trained(config.data, model.config.data)})
    items = list_images(config, report)
    if model.card.head is not None:
        config = for_objects(config, report)
    cluster = choose_cluster(config, hardware, report, folder)
    work = Work(
        config=config,
        model=model,
        predictor=build_predictor(config, model, hardware),
        folder=folder / PARTIAL,
        key=_key(config, model, hardware),
        report=report,
        pace=Pace(len(items), report, asked),
        remarks=Remarks(len(items), report),
        cluster=cluster,
    )
    return work, items


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
        raise ConfigError("inference.model is missing.", "Choose a run folder or a model file.")
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
    work: Work, items: Sequence[Item], targets: Sequence[Place]
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Segment one image after the other; of several, those that cannot be used are left out."""
    if len(items) > 1:
        on = work.predictor.hardware.describe()
        work.report(StageEvent(text=f"segmenting {len(items)} images on {on}"))
    done: list[dict[str, Any]] = []
    failed: list[dict[str, str]] = []
    finished = Finished(work.folder, work.key)
    for number, (item, target) in enumerate(zip(items, targets, strict=True)):
        stamp = stamps(item.images)
        before = finished.get(item.name)
        table = target.objects if work.model.card.head else None
        written = all(path.exists() for path in (target.segmentation, target.probabilities, table) if path)
        if before is None or before["stamp"] != stamp or not (written or "failed" in before):
            before = None
            try:
                entry = segment_image(work, item, target, number)
                finished.note(item.name, stamp=stamp, entry=entry)
                done.append(entry)
            except (DataError, ModelError) as error:
                if len(items) == 1 or (not done and len(failed) == len(items) - 1):
                    raise
                problem = {"name": item.name, "message": error.message, "remedy": error.remedy}
                finished.note(item.name, stamp=stamp, failed=problem)
                failed.append(problem)
                text = f"{item.name} is left out: {error.message}"
                work.report(NoteEvent(level="error", text=text, remedy=error.remedy))
        elif "failed" in before:
            failed.append(before["failed"])
        else:
            done.append(before["entry"])
        work.pace.image_done(before is not None)
    work.remarks.tell()
    return done, failed


def _sums(entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return pixels of every class, slices and perhaps objects, over all images."""
    classes: dict[str, int] = {}
    for entry in entries:
        for value, pixels in entry["class_pixels"].items():
            classes[value] = classes.get(value, 0) + pixels
    sums: dict[str, Any] = {"class_pixels": classes, "slices": sum(entry["slices"] for entry in entries)}
    if any("objects" in entry for entry in entries):
        sums["objects"] = sum(entry.get("objects", 0) for entry in entries)
    return sums


def _remove_results(work: Work, items: Sequence[Item], targets: Sequence[Place]) -> None:
    """Remove what this segmentation has made, and nothing else that lies in the folder."""
    finished = Finished(work.folder, work.key)
    for item, target in zip(items, targets, strict=True):
        if finished.get(item.name):
            for path in filter(None, (target.segmentation, target.probabilities, target.objects)):
                remove(path)
                for folder in path.relative_to(work.folder.parent).parents[:-1]:
                    with suppress(OSError):  # others' files are in it, or it is gone
                        (work.folder.parent / folder).rmdir()
    remove(work.folder)


def _key(config: RunConfig, model: LoadedModel, hardware: Hardware) -> str:
    """Return what stands for all that decides a result but for rounding, and but for the image.

    The number of cores and the name of a graphics card are left out: who goes on with others after days keeps
    what is done, as a cluster of unlike workers does, and is told.
    """
    options = config.inference.model_dump(
        mode="json", exclude={"model", "config_file", "ensemble", "cluster"}
    )
    data = config.data.model_dump(mode="json")
    models = [model.sha256, *(hash_of(*find_model(name)) for name in config.inference.ensemble)]
    return key_of(options, data, models, hardware.kind(), versions())


def _metadata(
    work: Work, reference: str | None, done: list[dict[str, Any]], failed: list[dict[str, str]]
) -> dict[str, Any]:
    """Return what must be known to do the segmentation again; a single image is described there, too."""
    options, model = work.config.inference, work.model
    alone = done[0] if len(done) == 1 and not failed else {}
    return alone | {
        "model": reference or options.model or str(model.weights),
        "model_sha256": model.sha256,
        "class_names": dict(zip(map(str, model.card.class_values), model.card.class_names, strict=True)),
        "parameters": options.model_dump(mode="json"),
        "device": work.predictor.hardware.describe(),
        "versions": versions(),
        "images": done,
        "failed": failed,
    }
