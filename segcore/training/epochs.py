"""One epoch: every patch once, then validation, the best model, and word to the world."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import cast

import torch
from torch import Tensor

from segcore.data.sampling import batches, epoch_units
from segcore.events import EpochEvent, Progress, Request
from segcore.metrics.overlap import Confusion
from segcore.models.segmenter import Segmenter
from segcore.training.context import Run
from segcore.training.optim import frozen_parts, set_training_mode
from segcore.training.state import EpochPart
from segcore.training.steps import statistics_images, take_step
from segcore.training.treatment import Diagnosis
from segcore.training.validation import Verdict

SHORT_VALIDATION = 20.0
"""Seconds a validation may take when a run is stopped in its first epoch, to have a model to keep."""
LOOK_EVERY = 2.0
"""Seconds between two looks at the loss: reading it makes the host wait for the device."""


@dataclass(frozen=True)
class Passage:
    """How a pass over the patches ended: whole, by a request, a diagnosis or the end of the time budget."""

    complete: bool
    request: Request | None = None
    diagnosis: Diagnosis | None = None


def train_epoch(run: Run, asked: Callable[[], Request | None]) -> Passage:
    """Show the network every patch of an epoch once, or the rest of an epoch that was broken off.

    Where it stands is in `run.state.part`, also when it ends early.

    Raises
    ------
    JobError
        Memory is nearly used up.
    """
    state = run.state
    set_training_mode(cast(Segmenter, run.view), run.config.model)
    part = state.part = state.part or _new_epoch(run)
    run.usage.restart()
    clock, looked = time.monotonic(), run.seconds
    ended = Passage(complete=True)
    units = list(islice(batches(part.region_N, run.config.training.batch_size), part.done, None))
    for unit_B, following in zip_longest(units, units[1:]):
        if request := asked():
            ended = Passage(complete=False, request=request)
            break
        # Even a budget too small for anything gives one step, so that there is a model to look at.
        if state.step and run.training_left <= 0:
            ended = Passage(complete=False)
            break
        loss, prediction, label = take_step(run, unit_B, following)
        # Summed on the device: reading a value here would make the host wait for it in every step.
        part.loss_sum += loss
        if state.adversary and part.contest_sum is not None:
            part.contest_sum += state.adversary.told
        _count(run, part, prediction, label)
        part.done += 1
        state.step += 1
        now = time.monotonic()
        part.seconds, clock = part.seconds + now - clock, now
        _report_progress(run, part)
        run.guard.check()
        if run.autopilot and run.seconds - looked >= LOOK_EVERY:
            looked = run.seconds
            if diagnosis := run.autopilot.check_step(float(loss)):
                ended = Passage(complete=False, diagnosis=diagnosis)
                break
        if run.checkpoints.due:
            run.save()
            clock = time.monotonic()
    run.usage.close()
    return ended


def close_epoch(run: Run, asked: Callable[[], Request | None]) -> Request | None:
    """Validate, keep the model if it is the best so far, tell the world.

    Returns
    -------
    Request or None
        What somebody asked for in the middle of the validation, which then has no result: the epoch stays
        open and can be closed again.
    """
    state, part = run.state, run.state.part
    assert part is not None
    heard: Request | None = None

    def give_up() -> bool:
        nonlocal heard
        heard = asked()
        if heard is Request.STOP and not state.best_epoch:
            # Without a model to keep, a short validation is worth waiting for.
            return run.validator.expected_seconds > SHORT_VALIDATION
        return bool(heard)

    run.validator.predictor.network = _network_to_keep(run)
    verdict = run.validator(give_up)
    if verdict is None:
        return heard
    state.epoch += 1
    state.part = None
    best = _keep_score(run, verdict)
    # The autopilot judges by it: durations are those of the leader.
    event = run.team.lead(lambda: _describe(run, part, verdict, best))
    state.history.append(event)
    run.preview(state.epoch)
    # Told before it is saved: an epoch in a checkpoint that nobody was told of would be a gap in the curves.
    run.report(event)
    every = run.config.training.keep_every
    if every and state.epoch % every == 0:
        run.checkpoints.keep(state.kept_network.state_dict(), state.epoch)
    run.state.seconds = run.seconds
    run.checkpoints.after_epoch()
    return None


def _new_epoch(run: Run) -> EpochPart:
    data, device = run.config.data, run.hardware.device
    return EpochPart(
        region_N=epoch_units(len(run.pool), data.patches_per_image, run.state.generator),
        loss_sum=torch.zeros((), device=device),
        counts=Confusion(len(run.class_values), device),
        contest_sum=torch.zeros(2, device=device) if run.state.adversary else None,
    )


def _count(run: Run, part: EpochPart, prediction: Tensor, label: Tensor) -> None:
    """Count the pixels of a step, in all processes those of the whole batch."""
    if run.team.size == 1:
        part.counts.update(prediction, label)
        return
    fresh = Confusion(len(run.class_values), run.hardware.device)
    fresh.update(prediction, label)
    run.team.add(fresh.counts_KK)
    part.counts += fresh


def _network_to_keep(run: Run) -> Segmenter:
    """Return the network to validate; the average of the weights gets batch statistics of its own."""
    average = run.state.average
    if average and average.kind == "swa" and average.count:
        view = cast(Segmenter, run.team.view(average.network, run.hardware.device))
        frozen = frozen_parts(view, run.config.model)
        average.recount(statistics_images(run), run.hardware, frozen, view)
    return run.state.kept_network


def _keep_score(run: Run, verdict: Verdict) -> bool:
    """Note the best epoch and the last gain; return whether this epoch is the best so far."""
    state, score = run.state, verdict.score
    if not math.isfinite(verdict.loss) or math.isnan(score):
        return False  # a network that gives no numbers may still hit the most frequent class
    # Objects are first found after many epochs: until then the latest network has learned the most.
    waits = verdict.objects is not None and score == 0 and state.best_dice <= 0
    if score > state.gain_dice + run.config.training.min_gain or waits:
        state.gain_dice, state.gain_epoch = score, state.epoch
    best = score > state.best_dice or waits
    if best:
        state.best_dice, state.best_epoch = score, state.epoch
    return best


def _describe(run: Run, part: EpochPart, verdict: Verdict, best: bool) -> EpochEvent:
    state, scores = run.state, verdict.scores
    patches = part.done * run.config.training.batch_size
    contest = [None, None] if part.contest_sum is None else (part.contest_sum / part.done).tolist()
    return EpochEvent(
        epoch=state.epoch,
        epochs=run.planned_epochs,
        train_loss=float(part.loss_sum) / part.done,
        train_dice=part.counts.scores(run.class_values).mean_dice,
        val_loss=verdict.loss,
        val_dice=scores.mean_dice,
        val_dice_per_class=scores.dice,
        val_iou_per_class=scores.iou,
        learning_rate=state.optimizer.param_groups[0]["lr"],
        seconds=part.seconds + run.validator.seconds,
        patches_per_second=patches / max(part.seconds, 1e-9),
        best=best,
        val_predicted_share=verdict.predicted_share,
        loader_wait=run.usage.loader_wait,
        memory=run.usage.memory,
        device_use=run.usage.device_use,
        without_gain=state.epoch - state.gain_epoch,
        val_precision_per_class=scores.precision,
        val_recall_per_class=scores.recall,
        val_accuracy=scores.accuracy,
        val_ap50=verdict.ap50,
        val_f1=verdict.f1,
        val_pq=verdict.pq,
        train_adversarial=contest[0],
        train_discriminator=contest[1],
    )


def _report_progress(run: Run, part: EpochPart) -> None:
    state = run.state
    per_step = part.seconds / part.done
    epochs_left = run.last_epoch - state.epoch
    steps_left = epochs_left * run.steps_per_epoch - part.done
    left = steps_left * per_step + epochs_left * run.validator.expected_seconds
    planned = state.history[-1].epochs if state.epoch > state.first_epoch else run.last_epoch
    run.report(
        Progress(
            stage="training",
            done=part.done,
            total=run.steps_per_epoch,
            unit="batch",
            epoch=state.epoch + 1,
            epochs=max(planned, state.epoch + 1),
            seconds_left=max(0.0, min(left, run.budget - run.seconds)),
        )
    )
