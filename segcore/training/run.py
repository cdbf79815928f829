"""The map of a training run: read the data, build everything, run the loop, write what came out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

from segcore.card import ModelCard, write_config
from segcore.config import RunConfig
from segcore.data.dataset import TrainingData, load_training_data
from segcore.data.patches import PatchPool
from segcore.devices import choose, versions
from segcore.events import EpochEvent, NoteEvent, Outcome, Progress, Reporter, Request, StageEvent, unheard
from segcore.files import write_atomic
from segcore.models.build import build_model
from segcore.models.saved import place
from segcore.predictor import Predictor
from segcore.tasks import build_task
from segcore.training.loop import Run, fit
from segcore.training.optim import build_optimizer
from segcore.training.state import TrainState
from segcore.training.validation import Validator


def train(
    config: RunConfig,
    folder: Path,
    report: Reporter = unheard,
    should_stop: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Train a model as `config` says and leave it in `folder`.

    A checkpoint in the folder is taken up: the run goes on where it stood.

    Parameters
    ----------
    config : RunConfig
        `data.images` and `data.labels` are paths of existing files.
    folder : Path
        The run folder; gets best_model.pth, config.json (with the model card), results.json and checkpoints/.
    report : Reporter
        Told of every epoch and of progress in between.
    should_stop : callable
        Asked before every batch; True ends the run and keeps the best model so far.

    Raises
    ------
    DataError, ConfigError, ModelError
        Something the person has to change; nothing was trained.
    """
    began = time.monotonic()
    hardware = choose(config.hardware)
    report(StageEvent(text=f"reading {Path(config.data.images or '').name}"))
    data = load_training_data(config.data, lambda done, total: report(_reading(done, total)))
    for note in data.notes:
        report(NoteEvent(text=note))
    run = build_run(config, folder, data, report)
    run.began = began
    checkpoint = folder / "checkpoints" / "last.pt"
    if checkpoint.exists():
        report(StageEvent(text=f"going on after epoch {run.state.epoch}"))
    report(StageEvent(text=f"training on {hardware.describe()}"))
    run.validator.warm_up()
    ended = fit(run, should_stop)
    results = summarize(run, ended)
    write_atomic(folder / "results.json", json.dumps(results, indent=2) + "\n")
    return Outcome(request=Request.STOP if ended == "stopped" else None, metrics=results["metrics"])


def build_run(config: RunConfig, folder: Path, data: TrainingData, report: Reporter) -> Run:
    """Build what the loop needs, write the model card, and take up a checkpoint if there is one."""
    hardware = choose(config.hardware)
    torch.manual_seed(config.training.seed)
    network = build_model(config.model, data.channels, len(data.class_values))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    card = model_card(data, parameters)
    write_config(folder / "config.json", config, card)
    network = place(network, hardware)
    task = build_task(config)
    state = TrainState(
        network=network,
        optimizer=build_optimizer(network, config.training, hardware.device),
        scaler=torch.amp.GradScaler(hardware.device.type, enabled=hardware.needs_scaler),
        generator=torch.Generator().manual_seed(config.training.seed),
    )
    checkpoint = folder / "checkpoints" / "last.pt"
    if checkpoint.exists():
        state.load(checkpoint)
    return Run(
        config=config,
        folder=folder,
        hardware=hardware,
        task=task,
        pool=PatchPool(data.train, data.normalization, hardware.device),
        validator=Validator(Predictor(network, card, hardware), task, data.validation, data.class_values),
        state=state,
        report=report,
        class_values=data.class_values,
    )


def model_card(data: TrainingData, parameters: int) -> ModelCard:
    """Write down what must travel with the weights."""
    return ModelCard(
        channels=data.channels,
        class_values=data.class_values,
        class_names=data.class_names,
        normalization=data.normalization,
        axes=data.axes,
        dtype=data.dtype,
        pixel_size=data.pixel_size,
        data_hash=data.data_hash,
        parameters=parameters,
        versions=versions(),
    )


def summarize(run: Run, ended: str) -> dict[str, Any]:
    """Return the content of results.json."""
    history = run.state.history
    best = next((event for event in history if event.epoch == run.state.best_epoch), None)
    return {
        "ended": ended,
        "stopped": ended == "stopped",
        "best_epoch": run.state.best_epoch,
        "metrics": _metrics(best) if best else {},
        "epochs": len(history),
        "history": [event.model_dump(exclude={"kind"}) for event in history],
        "seconds": run.seconds,
        "patches_per_second": median(event.patches_per_second for event in history) if history else 0.0,
        "parameters": sum(parameter.numel() for parameter in run.state.network.parameters()),
        "device": run.hardware.describe(),
    }


def _metrics(event: EpochEvent) -> dict[str, Any]:
    names = ("val_dice", "val_dice_per_class", "val_iou_per_class", "val_loss", "train_dice", "train_loss")
    return event.model_dump(include=set(names))


def _reading(done: int, total: int) -> Progress:
    return Progress(stage="reading images", done=done, total=total, unit="slice")
