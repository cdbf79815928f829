"""The map of a training run: read the data, build everything, run the loop, write what came out."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from torch import Tensor

from segcore.card import ModelCard, read_config, write_config
from segcore.config import RunConfig
from segcore.data.dataset import TrainingData, load_training_data
from segcore.data.patches import DiskPool, Patches, PatchPool
from segcore.data.sampling import PatchPlan
from segcore.data.split_file import parts_text, save_split
from segcore.data.volumes import Volume
from segcore.devices import Hardware, choose
from segcore.errors import ConfigError
from segcore.estimate import plan_strides
from segcore.events import (
    EpochEvent,
    NoteEvent,
    Outcome,
    Progress,
    Reporter,
    Request,
    ResumeEvent,
    StageEvent,
    unasked,
    unheard,
)
from segcore.files import write_atomic
from segcore.models.build import empty_model
from segcore.models.saved import place
from segcore.models.segmenter import Segmenter
from segcore.predictor import Predictor
from segcore.tasks import build_task
from segcore.training.adversary import build_adversary
from segcore.training.against_teacher import compared
from segcore.training.autopilot import Autopilot
from segcore.training.averaging import WeightAverage
from segcore.training.checkpoints import LAST, Checkpoints
from segcore.training.context import Run
from segcore.training.described import class_shares, loss_weights, model_card
from segcore.training.distributed import Team
from segcore.training.feedback import Feedback
from segcore.training.launch import assembled
from segcore.training.loop import ENDED, fit
from segcore.training.objects import head_for
from segcore.training.optim import build_optimizer, freeze
from segcore.training.randomness import seed_everything
from segcore.training.state import TrainState, build_scaler
from segcore.training.teacher import FOLDER as ANSWERS
from segcore.training.teacher import Interrupted
from segcore.training.teaching import Lesson, teach
from segcore.training.transfer import any_weights, continue_run, first_weights
from segcore.training.tuning import prepare_process
from segcore.training.validation import Validator

DEVICE_SHARE = 0.5
"""Share of the memory of a GPU that images may take; the network needs the rest."""


def train(
    config: RunConfig,
    folder: Path,
    report: Reporter = unheard,
    asked: Callable[[], Request | None] = unasked,
) -> Outcome:
    """Train a model as `config` says and leave it in `folder`.

    A checkpoint in the folder is taken up: the run goes on where it stood, to the bit on a CPU.

    Parameters
    ----------
    config : RunConfig
        `data.images` and `data.labels` are paths of existing files.
    folder : Path
        The run folder; gets best_model.pth, config.json (with the model card), results.json, checkpoints/ and
        previews/.
    report : Reporter
        Told of every epoch and of progress in between.
    asked : callable
        Asked before every step what somebody wants. PAUSE: everything is saved, the same call goes on later.
        STOP: the best model so far and complete results are left. DISCARD: it ends at once.

    Returns
    -------
    Outcome
        What ended it, if somebody did, and the metrics of the best epoch.

    Raises
    ------
    DataError, ConfigError
        Something the person has to change; nothing was trained.
    ModelError
        The model or run to begin from does not fit, or the network gives no numbers, whatever is tried.
    JobError
        Memory or disk space ran out.
    """
    with assembled(config, folder) as team:
        return train_in(team, config, folder, report, asked)


def train_in(
    team: Team, config: RunConfig, folder: Path, report: Reporter, asked: Callable[[], Request | None]
) -> Outcome:
    """Train as one of the processes of a team; only its leader writes and speaks. See `train`."""
    report = report if team.leads else unheard
    began = time.monotonic()
    report(StageEvent(text=f"reading {Path(config.data.images or '').name}"))
    data = load_training_data(
        config.data, lambda done, total: report(_reading(done, total)), config.model.learns_objects
    )
    for note in (parts_text(data.split) + ".", *data.notes):
        report(NoteEvent(text=note))
    if team.leads:
        save_split(folder, data.collection, data.split)
    try:
        run = build_run(config, folder, data, report, team, asked)
    except Interrupted as interrupted:
        if interrupted.request is not Request.PAUSE:
            shutil.rmtree(folder / ANSWERS, ignore_errors=True)  # nobody will go on
        return Outcome(request=interrupted.request, metrics={})
    run.began = began
    report(StageEvent(text=f"training on {team.describe(run.hardware)}"))
    run.validator.warm_up()
    ended = fit(run, asked)
    request = next((request for request, name in ENDED.items() if name == ended), None)
    results = summarize(run, ended)
    if team.leads and request in (None, Request.STOP):
        _write_results(folder, results)
        if run.lesson and results["best_epoch"]:
            _write_results(folder, results | {"teaching": compared(run, run.lesson, data)})
        if run.lesson:
            run.lesson.forget()
    return Outcome(request=request, metrics=results["metrics"])


def build_run(
    config: RunConfig,
    folder: Path,
    data: TrainingData,
    report: Reporter,
    team: Team | None = None,
    asked: Callable[[], Request | None] = unasked,
) -> Run:
    """Build what the loop needs, write the model card, and take up a checkpoint if there is one.

    A teacher is asked first, which may take long: `Interrupted` if somebody wants something meanwhile.
    """
    team = team or Team()
    hardware = team.hardware(choose(config.hardware))
    prepare_process(hardware)
    lesson = teach(config, folder, data, hardware, report, asked)
    network, card = _empty_network(config, data)
    weights = first_weights(config, card, report)
    # What is taken up brings all weights: those of elsewhere need not be at hand any more.
    going_on = bool(config.training.continue_from) or team.lead((folder / "checkpoints" / LAST).is_file)
    first = any_weights(config, card) if going_on else weights(config.training.seed)
    state = _first_state(config, network, first, hardware)
    checkpoints = Checkpoints(folder, state, report, config.training.checkpoint_minutes, team)
    _take_up(checkpoints, config, card)
    if team.leads:
        write_config(folder / "config.json", _as_asked(config, folder), card)
    predictor = Predictor(network, card, hardware)
    of_classes = loss_weights(config, data, report)
    task = build_task(config, weights=of_classes, head=predictor.head)
    feedback = Feedback(folder, data, predictor, config.training.feedback_region, report)
    return Run(
        config=config,
        folder=folder,
        hardware=hardware,
        pool=_pool(config, data, lesson, hardware),
        validator=Validator(predictor, task, data.validation, data.class_values, team),
        weights=of_classes,
        head=predictor.head,
        state=state,
        report=report,
        class_values=data.class_values,
        checkpoints=checkpoints,
        autopilot=_autopilot(config, data, state) if config.training.autopilot else None,
        first_weights=weights,
        preview=feedback.save if team.leads else _unseen,
        team=team,
        lesson=lesson,
    )


def _empty_network(config: RunConfig, data: TrainingData) -> tuple[Segmenter, ModelCard]:
    """Return the network, whose weights come later, and what will travel with them."""
    voxel = data.pixel_size
    strides = plan_strides(config, (voxel.z, voxel.y, voxel.x))
    card = model_card(data, 0, strides, head_for(config.model, data))
    network = empty_model(config.model, card)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return network, card.model_copy(update={"parameters": parameters})


def _take_up(checkpoints: Checkpoints, config: RunConfig, card: ModelCard) -> None:
    """Go on where this run stood, or where the one that it continues ended; else it begins anew."""
    state, report = checkpoints.state, checkpoints.report
    if checkpoints.take_up():
        report(ResumeEvent(epoch=state.epoch, step=state.step))
        report(StageEvent(text=f"going on after epoch {state.epoch}"))
    elif config.training.continue_from:
        folder = checkpoints.folder.parent if checkpoints.team.leads else None
        continue_run(state, config, card, folder, report)
    elif _freezes_noise(config):
        report(NoteEvent(level="warning", text=_FROZEN_NOISE, remedy=_START_FROM))


def _pool(config: RunConfig, data: TrainingData, lesson: Lesson | None, hardware: Hardware) -> Patches:
    """Return what patches are cut from: what is annotated, or what a teacher has made of it."""
    source = lesson or data
    volumes = lesson.volumes if lesson else data.train
    kind = PatchPool if _fits(volumes, source.on_disk, hardware) else DiskPool
    return kind(volumes, source.normalization, hardware.device, PatchPlan.of(config.data))


def _write_results(folder: Path, results: dict[str, Any]) -> None:
    write_atomic(folder / "results.json", json.dumps(results, indent=2) + "\n")


def _fits(volumes: Sequence[Volume], on_disk: bool, hardware: Hardware) -> bool:
    """Say whether all images that train may lie on the device; windows of them are sent there otherwise."""
    if on_disk or hardware.device.type == "cpu":
        return not on_disk
    channels, dtype = volumes[0].image_ZCYX.shape[1], volumes[0].image_ZCYX.dtype
    width = dtype.itemsize if dtype in (np.uint8, np.uint16) else 4
    label = volumes[0].label_ZYX.dtype.itemsize
    pixels = sum(math.prod(volume.label_ZYX.shape) for volume in volumes)
    return pixels * (channels * width + label) <= DEVICE_SHARE * hardware.free_memory()


def _autopilot(config: RunConfig, data: TrainingData, state: TrainState) -> Autopilot:
    """Return what judges the run. A head has its own loss: another one must not be advised.

    Networks that answer whole objects are certain of none for thousands of steps, and yet learn: of them only
    numbers that are not finite say that something is wrong.
    """
    training = config.training
    if config.model.learns_objects or config.model.kind.own_loss:
        training = training.model_copy(update={"loss": "dice+ce"})
    shares = {} if config.model.kind.own_loss else class_shares(data)
    return Autopilot(training, shares, state.treatment)


def _as_asked(config: RunConfig, folder: Path) -> RunConfig:
    """Return the options with the name of a registered model instead of the folder it was fetched to."""
    with suppress(ConfigError):
        asked, names = read_config(folder / "config.json")[0].training, ("start_from", "teacher")
        given = {name: getattr(asked, name) for name in names if getattr(config.training, name)}
        named = {name: model for name, model in given.items() if model and model.startswith("models:/")}
        return config.model_copy(update={"training": config.training.model_copy(update=named)})
    return config


def _freezes_noise(config: RunConfig) -> bool:
    """Say whether stages are frozen that begin with random weights."""
    model = config.model
    given = config.training.start_from or (model.pretrained and "pretrained" in model.kind.options)
    return bool((model.freeze_encoder or model.freeze) and not given)


_FROZEN_NOISE = "What is frozen has random weights: it will never learn to see anything."
_START_FROM = "Start from a trained model (training.start_from) or pretrained weights, or do not freeze."


def _first_state(
    config: RunConfig, network: Segmenter, weights: dict[str, Tensor], hardware: Hardware
) -> TrainState:
    """Return the state of a run before its first step."""
    training = config.training
    network.load_state_dict(weights, assign=True)
    network = place(network, hardware)
    freeze(network, config.model)
    return TrainState(
        network=network,
        optimizer=build_optimizer(network, training, hardware.device),
        scaler=build_scaler(hardware),
        generator=seed_everything(training.seed),
        average=None if training.averaging == "none" else WeightAverage(network, training.averaging),
        adversary=build_adversary(training, network, hardware),
        micro_batch=training.micro_batch,
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
        "interventions": [event.model_dump(exclude={"kind"}) for event in run.state.interventions],
        "seconds": run.seconds,
        "patches_per_second": median(event.patches_per_second for event in history) if history else 0.0,
        "parameters": sum(parameter.numel() for parameter in run.state.network.parameters()),
        "seconds_per_megapixel": run.validator.seconds_per_megapixel,
        "device": run.team.describe(run.hardware),
    }


def _metrics(event: EpochEvent) -> dict[str, Any]:
    scores = ("val_dice", "val_dice_per_class", "val_iou_per_class", "val_loss", "train_dice", "train_loss")
    more = ("val_precision_per_class", "val_recall_per_class", "val_accuracy")
    objects = () if event.val_f1 is None else ("val_ap50", "val_f1", "val_pq")
    return event.model_dump(include={*scores, *more, *objects})


def _unseen(epoch: int) -> None:
    """Save no picture: the leader does."""


def _reading(done: int, total: int) -> Progress:
    return Progress(stage="reading images", done=done, total=total, unit="slice")
