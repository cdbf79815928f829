"""The one loop: patches → step → epoch → validation → events. Everything it needs is in a Run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

import torch
from torch import Tensor

from segcore.config import RunConfig
from segcore.data.augment import AugmentOptions, change_grey, draw, sampling_offsets
from segcore.data.patches import PatchPool, batches, epoch_regions
from segcore.devices import Hardware
from segcore.events import EpochEvent, Progress, Reporter
from segcore.metrics.overlap import Confusion
from segcore.models.saved import save_weights
from segcore.tasks import Task
from segcore.training.optim import rate_factor
from segcore.training.state import TrainState
from segcore.training.validation import Validator

SHORT_VALIDATION = 20.0
"""Seconds a validation may take when a run is stopped in its first epoch, to have a model to keep."""


@dataclass
class Run:
    """A training run: what changes is in `state`, the rest is fixed."""

    config: RunConfig
    folder: Path
    hardware: Hardware
    task: Task
    pool: PatchPool
    validator: Validator
    state: TrainState
    report: Reporter
    class_values: tuple[int, ...]
    began: float = field(default_factory=time.monotonic)
    """When this process took up the run."""

    def __post_init__(self) -> None:
        data = self.config.data
        self.patch_count = len(self.pool) * data.patches_per_image
        self.steps_per_epoch = -(-self.patch_count // self.config.training.batch_size)
        self.options = AugmentOptions() if data.augmentation else AugmentOptions.off()
        self._earlier = self.state.seconds

    @property
    def seconds(self) -> float:
        """Wall time spent on the run, earlier processes included."""
        return self._earlier + time.monotonic() - self.began

    @property
    def budget(self) -> float:
        """Seconds the run may take in all."""
        minutes = self.config.training.max_minutes
        return float("inf") if minutes is None else 60 * minutes

    @property
    def training_left(self) -> float:
        """Seconds of the budget left for training, the closing validation kept aside."""
        return self.budget - self.seconds - self.validator.expected_seconds

    @property
    def progress(self) -> float:
        """Share of the run that is done: by steps or by time, whichever is further."""
        total = self.steps_per_epoch * self.config.training.epochs
        return max(self.state.step / total, self.seconds / self.budget)


@dataclass(frozen=True)
class EpochResult:
    """What one pass over the patches gave."""

    loss: float
    dice: float
    patches: int
    seconds: float
    complete: bool


def fit(run: Run, should_stop: Callable[[], bool]) -> str:
    """Train until all epochs are done, the budget is spent or somebody stops it.

    Returns
    -------
    str
        "finished", "time budget" or "stopped".
    """
    last_save = time.monotonic()

    def give_up() -> bool:
        # Without a model to keep, a short validation is worth waiting for.
        return should_stop() and (
            run.state.best_epoch > 0 or run.validator.expected_seconds > SHORT_VALIDATION
        )

    while run.state.epoch < run.config.training.epochs:
        result = train_epoch(run, should_stop)
        stopped = not result.complete and should_stop()
        if result.patches and not close_epoch(run, result, give_up):
            return "stopped"  # the best model so far is on disk already
        if not result.complete:
            return "stopped" if stopped else "time budget"
        if time.monotonic() - last_save > 60 * run.config.training.checkpoint_minutes:
            save_checkpoint(run)
            last_save = time.monotonic()
    save_checkpoint(run)
    return "finished"


def train_epoch(run: Run, should_stop: Callable[[], bool]) -> EpochResult:
    """Show the network every patch of an epoch once; ends early on a stop or at the end of the budget."""
    state, began = run.state, time.monotonic()
    state.network.train()
    device = run.hardware.device
    loss_sum = torch.zeros((), device=device)
    counts = Confusion(len(run.class_values), device)
    region_N = epoch_regions(len(run.pool), run.config.data.patches_per_image, state.generator)
    done = 0
    for region_B in batches(region_N, run.config.training.batch_size):
        # Even a budget too small for anything gives one step, so that there is a model to look at.
        if should_stop() or (state.step and run.training_left <= 0):
            break
        loss, prediction_BYX, label_BYX = train_step(run, region_B)
        # Summed on the device: reading a value here would make the host wait for it in every step.
        loss_sum += loss
        counts.update(prediction_BYX, label_BYX)
        done += 1
        state.step += 1
        _report_progress(run, done, time.monotonic() - began)
    patches = done * run.config.training.batch_size
    mean_loss = float(loss_sum) / max(done, 1)
    seconds = time.monotonic() - began
    dice = counts.scores(run.class_values).mean_dice
    return EpochResult(mean_loss, dice, patches, seconds, complete=done == run.steps_per_epoch)


def train_step(run: Run, region_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Cut a batch, vary it, and take one optimizer step. Returns loss, predicted and true class indices."""
    state, training = run.state, run.config.training
    rate = training.learning_rate * rate_factor(training.schedule, run.progress)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    image_BCYX, label_BYX = make_batch(run, region_B)
    with run.hardware.autocast():
        loss, prediction_BYX = run.task.step(state.network, image_BCYX, label_BYX)
    state.scaler.scale(loss).backward()
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    return loss.detach(), prediction_BYX, label_BYX


def make_batch(run: Run, region_B: Tensor) -> tuple[Tensor, Tensor]:
    """Return an augmented batch on the device: image `(B, C, Y, X)` float32, class indices `(B, Y, X)`."""
    size = run.config.data.patch_size
    spot = run.pool.draw(region_B, size, run.state.generator)
    variation = draw(run.options, (len(region_B), run.pool.channels, size), run.state.generator)
    offsets = sampling_offsets(variation, size, run.hardware.device)
    image_BCYX, label_BYX = run.pool.cut(spot, offsets)
    image_BCYX = change_grey(variation, image_BCYX)
    return image_BCYX.contiguous(memory_format=run.hardware.memory_format), label_BYX


def close_epoch(run: Run, result: EpochResult, give_up: Callable[[], bool] = lambda: False) -> bool:
    """Validate, keep the model if it is the best so far, tell the world; False if the validation gave up."""
    state = run.state
    validated = run.validator(give_up)
    if validated is None:
        return False
    loss, scores = validated
    state.epoch += 1
    best = scores.mean_dice > state.best_dice
    if best:
        state.best_dice, state.best_epoch = scores.mean_dice, state.epoch
        save_weights(state.network, run.folder / "best_model.pth")
    event = EpochEvent(
        epoch=state.epoch,
        epochs=_planned_epochs(run),
        train_loss=result.loss,
        train_dice=result.dice,
        val_loss=loss,
        val_dice=scores.mean_dice,
        val_dice_per_class=scores.dice,
        val_iou_per_class=scores.iou,
        learning_rate=state.optimizer.param_groups[0]["lr"],
        seconds=result.seconds + run.validator.seconds,
        patches_per_second=result.patches / result.seconds,
        best=best,
    )
    state.history.append(event)
    run.report(event)
    return True


def save_checkpoint(run: Run) -> None:
    """Save the state of the run."""
    run.state.seconds = run.seconds
    run.state.save(run.folder / "checkpoints" / "last.pt")


def _planned_epochs(run: Run) -> int:
    """Return how many epochs the run will have: fewer than asked for where the time budget ends first."""
    done = run.state.epoch
    if run.training_left <= 0:
        return done
    seconds_each = run.seconds / done
    in_budget = done + ceil(min(run.training_left / seconds_each, run.config.training.epochs))
    return min(run.config.training.epochs, max(done + 1, in_budget))


def _report_progress(run: Run, done: int, seconds: float) -> None:
    training, state = run.config.training, run.state
    per_step = seconds / done
    epochs_left = training.epochs - state.epoch
    steps_left = epochs_left * run.steps_per_epoch - done
    left = steps_left * per_step + epochs_left * run.validator.expected_seconds
    epochs = state.history[-1].epochs if state.history else training.epochs
    run.report(
        Progress(
            stage="training",
            done=done,
            total=run.steps_per_epoch,
            unit="batch",
            epoch=state.epoch + 1,
            epochs=max(epochs, state.epoch + 1),
            seconds_left=max(0.0, min(left, run.budget - run.seconds)),
        )
    )
