"""Workspaces for the tests of the tabs: small stacks and runs written the way the worker writes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tifffile

from app.services import Services
from segcore.card import ModelCard, Normalization, PixelSize, write_config
from segcore.config import build_config
from segcore.events import EpochEvent
from segcore.inference.sinks import SinkSpec, create_sink, finish_sink
from segcore.jobs.journal import FolderReporter
from segcore.jobs.store import Job, State, create_job, end_job, read_job, start_job
from segcore.workspace import Workspace


def make_services(folder: Path) -> Services:
    """Return services of an empty workspace that start no worker."""
    return Services(Workspace.open(folder / "workspace"), worker=False)


def write_stack(services: Services, name: str = "images.tif", seed: int = 0) -> np.ndarray:
    """Write a stack of 3 × 40 × 50 grey values into `data/` and return it."""
    stack = np.random.default_rng(seed).integers(0, 4000, (3, 40, 50)).astype(np.uint16)
    tifffile.imwrite(
        services.workspace.data / name, stack, photometric="minisblack", metadata={"axes": "ZYX"}
    )
    return stack


def write_labels(services: Services, name: str = "labels.tif") -> np.ndarray:
    """Write labels 0, 7 and 255 for `write_stack`; the first plane lacks 0."""
    labels = np.full((3, 40, 50), 7, np.uint8)
    labels[1:, :20] = 0
    labels[:, :, 30:] = 255
    tifffile.imwrite(
        services.workspace.data / name, labels, photometric="minisblack", metadata={"axes": "ZYX"}
    )
    return labels


def epoch(number: int, dice: float, epochs: int = 10, best: bool = True) -> EpochEvent:
    """Return the event of an epoch."""
    return EpochEvent(
        epoch=number, epochs=epochs, train_loss=1 / number, train_dice=dice, val_loss=1.5 / number,
        val_dice=dice,
        val_dice_per_class={"0": dice, "255": dice}, val_iou_per_class={"0": dice / 2, "255": dice / 2},
        learning_rate=1e-3, seconds=1.0, patches_per_second=10.0, best=best,
    )  # fmt: skip


def make_run(
    services: Services,
    scores: tuple[float, ...] = (0.4, 0.6),
    state: State = State.FINISHED,
    session: str = "cells",
    **options: dict[str, object],
) -> Job:
    """Make the folder of a training with one epoch per score, in any state."""
    data = {
        "images": str(services.workspace.data / "images.tif"),
        "labels": str(services.workspace.data / "labels.tif"),
    }
    config = build_config({"session": session, **options, "data": {**data, **options.get("data", {})}})
    job = create_job(services.workspace, "train", config)
    if state is State.QUEUED:
        return job
    start_job(job.folder)
    reporter = FolderReporter(job.folder)
    for number, score in enumerate(scores, start=1):
        reporter(epoch(number, score, best=score == max(scores[:number])))
    if scores:
        (job.folder / "best_model.pth").write_bytes(b"weights")
        card = ModelCard(
            channels=1, class_values=(0, 255), class_names=("background", "cell"), axes="ZYX", dtype="uint8",
            normalization=Normalization(kind="none", offset=(0.0,), scale=(1.0,)), parameters=1_900_000,
        )  # fmt: skip
        write_config(job.folder / "config.json", config, card)
    if state.ended:
        end_job(job.folder, state)
    return read_job(job.folder)


def make_result(services: Services, image: str = "images.tif", file_format: str = "tiff") -> str:
    """Make the folder of a finished segmentation of `data/<image>` and return the path of its result."""
    data = {"images": str(services.workspace.data / image)}
    config = build_config({"data": data, "inference": {"model": "a-run", "format": file_format}})
    job = create_job(services.workspace, "predict", config)
    start_job(job.folder)
    labels = np.zeros((3, 40, 50), np.uint8)
    labels[:, 10:30, 10:30] = 255
    result = job.folder / f"segmentation{'.tif' if file_format == 'tiff' else '.ome.zarr'}"
    spec = SinkSpec("ZYX", labels.shape, labels.dtype, PixelSize(), format=file_format, chunk=(1, 16, 16))
    sink = create_sink(job.folder / "work", spec)
    sink.write(range(3), slice(0, 40), slice(0, 50), labels)
    sink.close()
    finish_sink(job.folder / "work", spec, result)
    metadata = {"name": image, "segmentation": result.name, "class_pixels": {"0": 4800, "255": 1200}}
    (job.folder / "metadata.json").write_text(json.dumps(metadata))
    end_job(job.folder, State.FINISHED)
    return services.relative(result)
