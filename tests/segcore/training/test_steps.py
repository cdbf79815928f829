"""One step: micro-batches leave the batch what it is, want of memory loses no patch, gradients stay short."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from trainings import comparable, config_for, run_in

from segcore.errors import JobError
from segcore.events import InterventionEvent, unasked
from segcore.tasks import ClassLabels
from segcore.training import steps
from segcore.training.context import Run
from segcore.training.loop import fit


def gradients(
    run: Run, image_BCYX: Tensor, label_BYX: Tensor, micro_batch: int | None
) -> tuple[Tensor, Tensor]:
    """Return loss and all gradients of one batch."""
    run.state.micro_batch = micro_batch
    run.state.optimizer.zero_grad()
    loss, _ = steps._add_gradients(run, image_BCYX, label_BYX)
    return loss, torch.cat([parameter.grad.flatten() for parameter in run.state.network.parameters()])


def batch_of(run: Run) -> tuple[Tensor, Tensor]:
    """Return a batch of four patches in which some pixels are not annotated."""
    image_BCYX, label_BYX = steps.make_batch(run, torch.arange(4), run.state.generator)
    label_BYX[0, :20] = -1
    label_BYX[3] = -1
    return image_BCYX, label_BYX


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_gradients_of_micro_batches_add_up_to_those_of_the_batch(
    stack: Path, tmp_path: Path, micro_batch: int
) -> None:
    run = run_in(tmp_path / "run", config_for(stack, loss="ce"))
    run.hardware = run.hardware.__class__(run.hardware.device, torch.float32, False)
    run.state.network.eval()  # batch statistics are the one thing that a micro-batch cannot share
    batch = batch_of(run)
    whole_loss, whole = gradients(run, *batch, None)
    loss, parts = gradients(run, *batch, micro_batch)
    assert loss.item() == pytest.approx(whole_loss.item(), rel=1e-5)
    assert torch.allclose(parts, whole, rtol=1e-4, atol=1e-6)


def test_the_micro_batch_changes_neither_patches_nor_number_of_steps(stack: Path, tmp_path: Path) -> None:
    whole = run_in(tmp_path / "whole", config_for(stack, epochs=1))
    small = run_in(tmp_path / "small", config_for(stack, epochs=1, micro_batch=2))
    for run in (whole, small):
        fit(run, unasked)
    assert whole.state.step == small.state.step
    assert torch.equal(whole.state.generator.get_state(), small.state.generator.get_state())


def fail_above(run: Run, limit: int, failures: list[int]) -> None:
    """Let the network run out of memory with more than `limit` patches at once."""
    step = run.task.step

    class Scarce(ClassLabels):
        """The task of the run on a device with little memory."""

        def step(self, network: nn.Module, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
            result = step(network, image, label)
            if len(image) > limit:
                failures.append(len(image))
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return result

        judge = run.task.judge

    run.task = Scarce()


def test_when_memory_runs_out_the_same_step_is_taken_in_smaller_pieces(stack: Path, tmp_path: Path) -> None:
    heard: list[Any] = []
    run = run_in(tmp_path / "run", config_for(stack, epochs=2), heard.append)
    failures: list[int] = []
    fail_above(run, 1, failures)
    assert fit(run, unasked) == "finished"
    events = [event for event in heard if isinstance(event, InterventionEvent)]
    assert [event.what for event in events] == ["memory", "memory"]
    assert failures == [4, 2]
    assert run.state.micro_batch == 1
    # No patch was lost or drawn twice.
    undisturbed = run_in(tmp_path / "other", config_for(stack, epochs=2, micro_batch=1))
    fit(undisturbed, unasked)
    assert run.state.step == undisturbed.state.step
    assert torch.equal(run.state.generator.get_state(), undisturbed.state.generator.get_state())
    # A resumed run knows what fits.
    assert run_in(tmp_path / "run", run.config).state.micro_batch == 1


def test_memory_too_small_for_one_patch_is_told_and_leaves_a_state_to_go_on_from(
    stack: Path, tmp_path: Path
) -> None:
    run = run_in(tmp_path / "run", config_for(stack))
    fail_above(run, 0, [])
    with pytest.raises(JobError, match="one patch at a time"):
        fit(run, unasked)
    assert (tmp_path / "run" / "checkpoints" / "last.pt").exists()


def test_other_errors_are_not_taken_for_want_of_memory(stack: Path, tmp_path: Path) -> None:
    run = run_in(tmp_path / "run", config_for(stack))

    def broken(*_: object) -> None:
        raise RuntimeError("shapes do not match")

    run.task = type("Broken", (ClassLabels,), {"step": broken, "judge": run.task.judge})()
    with pytest.raises(RuntimeError, match="shapes do not match"):
        fit(run, unasked)


def test_clipping_bounds_the_step_of_plain_gradient_descent(stack: Path, tmp_path: Path) -> None:
    rate, norm = 1.0, 1e-3
    run = run_in(
        tmp_path / "run",
        config_for(stack, optimizer="sgd", learning_rate=rate, gradient_clipping=norm, warm_up=0),
    )
    before = [parameter.detach().clone() for parameter in run.state.network.parameters()]
    run.state.network.train()
    steps.take_step(run, torch.arange(4))
    moved = torch.cat(
        [(new - old).flatten() for new, old in zip(run.state.network.parameters(), before, strict=True)]
    ).norm()
    # Nesterov momentum makes the first step 1.9 times as long as the gradient.
    assert 0 < moved.item() <= 1.91 * rate * norm


def test_a_frozen_encoder_stays_as_it_is_and_the_rest_learns(stack: Path, tmp_path: Path) -> None:
    config = config_for(stack, epochs=2)
    config = config.model_copy(update={"model": config.model.model_copy(update={"freeze_encoder": True})})
    run = run_in(tmp_path / "run", config)
    before = {name: tensor.clone() for name, tensor in run.state.network.state_dict().items()}
    fit(run, unasked)
    frozen = {name for name in before if name.startswith(("encoder.", "bottom."))}
    changed = {
        name
        for name, tensor in run.state.network.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert not frozen & changed
    assert changed == before.keys() - frozen


def test_memory_that_runs_out_in_validation_does_not_change_its_result(stack: Path, tmp_path: Path) -> None:
    runs = [run_in(tmp_path / name, config_for(stack, epochs=1)) for name in ("plenty", "scarce")]
    for run in runs:
        run.hardware = run.validator.predictor.hardware = run.hardware.__class__(
            run.hardware.device, torch.float32, False
        )
    predictor = runs[1].validator.predictor
    predict = predictor._predict

    def scarce(*given: Any) -> Tensor:
        if predictor.tile_size is None:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
        return predict(*given)

    predictor._predict = scarce  # type: ignore[method-assign]
    for run in runs:
        fit(run, unasked)
    whole, tiled = (comparable(run.state.history)[0] for run in runs)
    assert tiled["val_dice"] == pytest.approx(whole["val_dice"], abs=1e-3)
