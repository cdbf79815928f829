"""One step: cut a batch of patches, vary it, change the weights; in smaller pieces where memory runs out."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice

import torch
from torch import Tensor, nn

from segcore.data.augment import change_grey, draw, sampling_offsets
from segcore.data.patches import DiskPool
from segcore.data.sampling import batches, epoch_units
from segcore.errors import JobError
from segcore.events import InterventionEvent
from segcore.memory import is_out_of_memory
from segcore.training.averaging import STATISTICS_BATCHES
from segcore.training.context import Run
from segcore.training.optim import set_rate
from segcore.training.state import build_scaler

_STATISTICS_SEED = 1_000_003
"""Keeps the patches for the statistics apart from those of the training."""


def take_step(run: Run, unit_B: Tensor, following: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Take one optimizer step; where memory runs out, the same step again with smaller pieces.

    Parameters
    ----------
    run : Run
        The run.
    unit_B : Tensor
        Unit of every patch of the batch: a slice, in 3d a block of slices.
    following : Tensor, optional
        The units of the next step, if it is known; its patches may be read from disk meanwhile.

    Returns
    -------
    loss : Tensor
        Scalar on the device.
    prediction, label : Tensor
        Predicted and true class indices.

    Raises
    ------
    JobError
        Not even one patch fits into memory.
    """
    generator = run.state.generator
    before = generator.get_state()
    while True:
        try:
            return _step(run, unit_B, following)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Out of the handler, so that the error no longer holds the tensors of the attempt.
        generator.set_state(before)
        _halve_micro_batch(run, len(unit_B))


def make_batch(run: Run, unit_B: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return an augmented batch on the device.

    Returns
    -------
    image : Tensor
        `(B, C, Y, X)`, in 3d `(B, C, Z, Y, X)`, float32; then the shares of a teacher, if any.
    target : Tensor
        What the loss compares with, see `Task.target`: class indices `(B, Y, X)`, in 3d `(B, Z, Y, X)`; where
        objects are learned, the maps of their head.
    """
    shape, stacked = (len(unit_B), *run.patch_shape), run.config.data.mode != "2d"
    spot = run.pool.draw(unit_B, generator)
    variation = draw(run.options, shape, generator, stacked)
    spot, variation = run.team.own(spot, shape[0]), run.team.own(variation, shape[0])
    offsets = sampling_offsets(variation, shape[-1], run.hardware.device)
    image, label = run.pool.cut(spot.turned(variation.reversed_B), offsets)
    if run.lesson and run.lesson.shares:
        image, share = run.lesson.parted(image)
        image = torch.cat([change_grey(variation, image.contiguous()), share], 1)
    else:
        image = change_grey(variation, image)
    return image.contiguous(memory_format=run.hardware.layout(image.ndim - 2)), run.task.target(label)


def statistics_images(run: Run) -> Iterator[Tensor]:
    """Yield batches of images from which batch statistics are counted; the same for the same epoch."""
    training = run.config.training
    generator = torch.Generator().manual_seed(training.seed + _STATISTICS_SEED * (run.state.epoch + 1))
    unit_N = epoch_units(len(run.pool), run.config.data.patches_per_image, generator)
    for unit_B in islice(batches(unit_N, training.batch_size), STATISTICS_BATCHES):
        image = make_batch(run, unit_B, generator)[0][:, : run.patch_shape[0]]
        yield from image.split(run.state.micro_batch or training.batch_size)


def _step(run: Run, unit_B: Tensor, following: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    state = run.state
    set_rate(state.optimizer, run.rate)
    began = time.perf_counter()
    make = partial(make_batch, run)
    image, target = run.ahead.take(make, unit_B, state.generator)
    if following is not None and (isinstance(run.pool, DiskPool) or run.task.encodes):
        run.ahead.begin(make, following, state.generator)
    run.usage.waited += time.perf_counter() - began
    loss, prediction = _add_gradients(run, image, target)
    if state.adversary:
        state.adversary.step(state.scaler, run.team)
    if run.clipping:
        state.scaler.unscale_(state.optimizer)
        nn.utils.clip_grad_norm_(state.network.parameters(), run.clipping)
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    if state.average and state.average.begins(run.progress):
        state.average.update()
    return loss, prediction, run.task.classes(target)


def _add_gradients(run: Run, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the gradients of a batch, whole or in micro-batches; return its loss and prediction.

    A micro-batch counts by its annotated pixels: means over pixels are then those of the whole batch. Dice,
    which is no mean over pixels, and batch normalisation see the micro-batch only.
    """
    size = run.state.micro_batch or len(image)
    if size >= len(image):
        return _backward(run, image, target, None)
    annotated = run.team.add(_annotated(run, target)).clamp(min=1)
    total = torch.zeros((), device=image.device)
    predictions = []
    pieces = list(zip(image.split(size), target.split(size), strict=True))
    for number, (image_b, target_b) in enumerate(pieces, start=1):
        weight = run.team.add(_annotated(run, target_b)) / annotated
        with run.team.exchanging(run.network, number == len(pieces)):
            loss, prediction_b = _backward(run, image_b, target_b, weight)
        total += loss
        predictions.append(prediction_b)
    return total, torch.cat(predictions)


def _annotated(run: Run, target: Tensor) -> Tensor:
    """Return how many pixels are annotated."""
    return (run.task.classes(target) >= 0).sum()


def _backward(run: Run, image: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    with run.hardware.autocast():
        loss, prediction = run.task.step(run.network, image, target)
    adversary = run.state.adversary
    due = loss + adversary.settle(weight) if adversary else loss
    if weight is not None:
        loss, due = loss * weight, due * weight
    run.state.scaler.scale(due).backward()
    return loss.detach(), prediction


def _halve_micro_batch(run: Run, batch: int) -> None:
    """Free what the failed attempt left, and compute fewer patches at once from now on."""
    state = run.state
    state.optimizer.zero_grad(set_to_none=True)
    if state.adversary:
        state.adversary.forget()
    scale = state.scaler.state_dict()
    # The scaler refuses a second look at the same step, which the attempt may already have taken.
    state.scaler = build_scaler(run.hardware)
    state.scaler.load_state_dict(scale)
    gc.collect()
    if run.hardware.device.type == "cuda":
        torch.cuda.empty_cache()
    before = min(state.micro_batch or batch, batch)
    if run.team.size > 1:
        share = batch // run.team.size
        raise JobError(
            f"Memory ran out on one of {run.team.size} devices, with {min(before, share)} patches at once.",
            "Set training.micro_batch to fewer patches, or use a smaller patch size or fewer features.",
        )
    if before == 1:
        raise JobError(
            "Memory ran out, even with one patch at a time.",
            "Use a smaller patch size or fewer features, or close other programs.",
        )
    state.micro_batch = before // 2
    event = InterventionEvent(
        epoch=state.epoch,
        number=len(state.interventions) + 1,
        what="memory",
        text=f"Memory ran out with {before} patches at once.",
        cause="Network, patch size and batch size together need more memory than there is.",
        action=f"{state.micro_batch} at once from now on; gradients are added up over the batch of {batch}, "
        "so the training stays the same.",
    )
    state.interventions.append(event)
    run.report(event)
