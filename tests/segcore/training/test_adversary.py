"""An adversary: both networks learn what they should, and a run with one is as sound as one without."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from teams import in_team, trained
from test_steps import fail_above
from torch import Tensor
from torch.nn import functional
from trainings import assert_same_state, config_for, run_in

from segcore.config import RunConfig, build_config
from segcore.devices import Hardware
from segcore.errors import ConfigError
from segcore.events import Request, unasked
from segcore.models.patch_gan import PatchGan
from segcore.postprocess.heads import build_head
from segcore.tasks import InstanceTask
from segcore.tiling import IGNORE
from segcore.tracking.record import epoch_metrics
from segcore.training import recovery, steps
from segcore.training.adversary import CERTAINTY, Adversary, annotation, contested
from segcore.training.distributed import Team
from segcore.training.loop import fit
from segcore.training.state import TrainState, build_scaler

CPU = Hardware(torch.device("cpu"), torch.float32, channels_last=True)


def adversary_of(weight: float = 0.5, classes: int = 2, dimensions: int = 2) -> Adversary:
    """Return an adversary of images of one channel."""
    return Adversary(1, classes, dimensions, weight, 3, CPU)


def learn(adversary: Adversary, batch: tuple[Tensor, ...]) -> Tensor:
    """Take a step on a batch, and return what it told."""
    image, logits, target = batch
    adversary.face(image, logits, target)
    adversary.settle(None).backward()
    adversary.step(build_scaler(CPU), Team())
    return adversary.told


def opinionated(adversary: Adversary) -> Adversary:
    """Let the last layer say something: it begins with nothing."""
    with torch.no_grad():
        list(adversary.network.parameters())[-2].normal_(0, 0.02, generator=torch.Generator().manual_seed(8))
    return adversary


def batch_of(seed: int = 0, classes: int = 2, shape: tuple[int, ...] = (40, 40)) -> tuple[Tensor, ...]:
    """Return images, logits that know nothing, and annotations: bars of every class."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(4, 1, *shape, generator=generator)
    logits = torch.randn(4, classes, *shape, generator=generator)
    width = 4 + torch.arange(4)
    bars = torch.arange(shape[-1]) // width[:, None] % classes
    target = bars.view(4, *[1] * (len(shape) - 1), shape[-1]).expand(4, *shape)
    return image, logits, target.contiguous()


def own_gradients(adversary: Adversary) -> Tensor:
    """Return all gradients of the second network."""
    return torch.cat([weight.grad.flatten() for weight in adversary.network.parameters()])  # type: ignore[union-attr]


def weights_of(adversary: Adversary | None) -> Tensor:
    """Return all weights of the second network."""
    assert adversary is not None
    return torch.cat([weight.detach().flatten() for weight in adversary.network.parameters()])


def assert_same_adversary(one: TrainState, two: TrainState) -> None:
    """Compare weights and moments to the bit."""
    assert one.adversary is not None
    assert two.adversary is not None
    assert torch.equal(weights_of(one.adversary), weights_of(two.adversary))
    moments = [state.adversary.optimizer.state_dict()["state"] for state in (one, two)]  # type: ignore[union-attr]
    assert len(moments[0]) == len(list(one.adversary.network.parameters()))
    for number, values in moments[0].items():
        assert all(torch.equal(value, moments[1][number][name]) for name, value in values.items())


def test_both_learn_by_the_least_squares_of_their_papers() -> None:
    adversary, (image, logits, target) = opinionated(adversary_of(0.25)), batch_of()
    logits.requires_grad_()
    adversary.face(image, logits, target)
    due = adversary.settle(None)
    due.backward()

    leaf = logits.detach().clone().requires_grad_()
    network, p = adversary.network, leaf.softmax(1)
    deceived = ((network(image, p) - 1) ** 2).mean()
    shown = annotation(p.detach(), target)
    right = ((network(image, shown) - 1) ** 2).mean()
    discerned = (right + (network(image, p.detach()) ** 2).mean()) / 2
    torch.testing.assert_close(due, 0.25 * deceived + discerned, rtol=0, atol=1e-5)
    (expected,) = torch.autograd.grad(0.25 * deceived, leaf)
    torch.testing.assert_close(logits.grad, expected, rtol=1e-4, atol=1e-9)
    own = torch.autograd.grad(discerned, list(network.parameters()))
    torch.testing.assert_close(
        own_gradients(adversary), torch.cat([part.flatten() for part in own]), rtol=1e-3, atol=1e-5
    )
    adversary.step(build_scaler(CPU), Team())
    torch.testing.assert_close(adversary.told, torch.stack([deceived, discerned]).detach())


def test_an_annotation_is_as_soft_as_a_good_prediction() -> None:
    _, logits, target = batch_of(classes=3)
    target[0, :10] = IGNORE
    logits[1] += 9 * functional.one_hot(target[1], 3).movedim(-1, 0)  # nearly certain, and right
    p = logits.softmax(1)
    shown, known = annotation(p, target), target != IGNORE
    torch.testing.assert_close(shown.sum(1), known.float())
    index = target.clamp(min=0)[:, None]
    given, certain = p.gather(1, index)[:, 0], shown.gather(1, index)[:, 0]
    torch.testing.assert_close(certain[known], given.clamp(min=CERTAINTY)[known])
    torch.testing.assert_close(shown[1], p[1])
    others = (torch.arange(3)[:, None, None] != index) & known[:, None]
    rest, before = ((part * others) / (part * others).sum(1, keepdim=True) for part in (shown, p))
    torch.testing.assert_close(rest[others], before[others])


def test_scaled_losses_take_the_same_step_and_one_too_large_takes_none() -> None:
    image, logits, target = batch_of()
    plain, scaled = (opinionated(adversary_of()) for _ in range(2))
    first = weights_of(scaled)
    learn(plain, (image, logits, target))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    for factor, expected in ((torch.inf, first), (1.0, weights_of(plain))):
        scaled.face(image, logits, target)
        (scaler.scale(scaled.settle(None)) * factor).backward()
        scaled.step(scaler, Team())
        scaler.update()
        torch.testing.assert_close(weights_of(scaled), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_it_learns_to_tell_noise_from_annotations(dimensions: int) -> None:
    adversary = adversary_of(dimensions=dimensions)
    shape, steps = ((32, 32), 40) if dimensions == 2 else ((4, 32, 32), 10)
    seeds = range(steps) if dimensions == 2 else [0] * steps
    values = [learn(adversary, batch_of(seed, shape=shape))[1] for seed in seeds]
    assert values[0] == 0.5
    assert max(values[-3:]) < 0.1
    # What looks like an annotation deceives it, noise does not.
    image, logits, target = batch_of(seeds[-1], shape=shape)
    like_one = 3 * functional.one_hot(target, 2).movedim(-1, 1).float()
    noise, drawn = (learn(deepcopy(adversary), (image, said, target))[0] for said in (logits, like_one))
    assert noise > 0.5 > drawn


@pytest.mark.parametrize("classes", [2, 4])
def test_pixels_nobody_annotated_change_nothing_and_learn_nothing(classes: int) -> None:
    image, logits, target = batch_of(classes=classes)
    target[0, :20], target[2, :, 7:], target[3] = IGNORE, IGNORE, IGNORE
    unknown = (target == IGNORE)[:, None].expand_as(logits)
    found = []
    for wild in (0.0, 50.0, torch.inf):
        leaf = torch.where(unknown, wild, logits).requires_grad_()
        adversary = opinionated(adversary_of(classes=classes))
        adversary.face(image, leaf, target)
        due = adversary.settle(None)
        due.backward()
        assert leaf.grad is not None
        assert not leaf.grad[unknown].any()
        assert leaf.grad[~unknown].any()
        found.append((due.detach(), leaf.grad[~unknown], own_gradients(adversary)))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert torch.equal(one, two)
    adversary.forget()
    adversary.face(image, logits, torch.full_like(target, IGNORE))
    due = adversary.settle(None)
    due.backward()
    assert due == 0
    assert not own_gradients(adversary).any()


@pytest.mark.parametrize("micro_batch", [1, 2, 3])
def test_gradients_of_micro_batches_add_up_to_those_of_the_batch(
    stack: Path, tmp_path: Path, micro_batch: int
) -> None:
    run = run_in(tmp_path / "run", config_for(stack, loss="ce", adversarial=0.5))
    run.hardware = CPU
    run.state.network.eval()  # batch statistics are the one thing that a micro-batch cannot share
    assert run.state.adversary is not None
    adversary = opinionated(run.state.adversary)
    image, label = steps.make_batch(run, torch.arange(4), run.state.generator)
    label[0, :20], label[3] = IGNORE, IGNORE
    found = []
    for size in (None, micro_batch):
        run.state.micro_batch = size
        run.state.optimizer.zero_grad()
        adversary.optimizer.zero_grad()
        loss, _ = steps._add_gradients(run, image, label)
        own = torch.cat([weight.grad.flatten() for weight in run.state.network.parameters()])  # type: ignore[union-attr]
        gradients = own_gradients(adversary)
        found.append((loss, own, gradients, adversary._noted))
        adversary.forget()
    for whole, parts in zip(*found, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-4, atol=2e-6)


def test_one_of_next_to_no_weight_changes_no_bit_of_the_network(stack: Path, tmp_path: Path) -> None:
    without, beside = (
        run_in(tmp_path / name, config_for(stack, epochs=2, adversarial=weight, averaging="ema"))
        for name, weight in (("without", 0.0), ("beside", 1e-30))
    )
    for run in (without, beside):
        assert fit(run, unasked) == "finished"
    models = [(tmp_path / name / "best_model.pth").read_bytes() for name in ("without", "beside")]
    assert models[0] == models[1]
    assert torch.equal(without.state.generator.get_state(), beside.state.generator.get_state())
    assert "adversary" not in without.state.content()
    for mine, other in zip(without.state.history, beside.state.history, strict=True):
        assert mine.train_loss == other.train_loss
        assert mine.train_adversarial is mine.train_discriminator is None
        assert other.train_adversarial is not None
        told = epoch_metrics(other).keys() - epoch_metrics(mine).keys()
        assert told == {"train_adversarial", "train_discriminator"}


@pytest.mark.parametrize(
    ("pause", "options"),
    [
        (1, {"micro_batch": 2, "averaging": "ema"}),
        (6, {"optimizer": "sgd", "gradient_clipping": 1.0, "precision": "bf16"}),
    ],
)
def test_a_pause_at_any_step_loses_nothing(
    stack: Path, tmp_path: Path, pause: int, options: dict[str, Any]
) -> None:
    training = {name: value for name, value in options.items() if name != "precision"}
    config = config_for(stack, epochs=2, adversarial=0.1, **training)
    config = with_precision(config, options.get("precision", "fp32"))
    whole = run_in(tmp_path / "whole", config)
    assert fit(whole, unasked) == "finished"
    part = run_in(tmp_path / "part", config)
    assert fit(part, lambda: Request.PAUSE if part.state.step >= pause else None) == "paused"
    resumed = run_in(tmp_path / "part", config)
    assert_same_adversary(part.state, resumed.state)
    assert fit(resumed, unasked) == "finished"
    assert_same_state(whole.state, resumed.state)
    assert_same_adversary(whole.state, resumed.state)
    models = [(tmp_path / name / "best_model.pth").read_bytes() for name in ("whole", "part")]
    assert models[0] == models[1]


def with_precision(config: RunConfig, precision: str) -> RunConfig:
    """Return options with another number format."""
    return config.model_copy(update={"hardware": config.hardware.model_copy(update={"precision": precision})})


def test_what_failed_for_want_of_memory_leaves_no_trace(stack: Path, tmp_path: Path) -> None:
    config = with_precision(config_for(stack, epochs=1, adversarial=0.1, micro_batch=4), "fp32")
    scarce = run_in(tmp_path / "scarce", config)
    failures: list[int] = []
    fail_above(scarce, 2, failures)
    plenty = run_in(tmp_path / "plenty", config.model_copy(deep=True))
    plenty.state.micro_batch = 2
    for run in (scarce, plenty):
        fit(run, unasked)
    assert failures == [4]
    assert_same_adversary(scarce.state, plenty.state)
    told = [(event.train_adversarial, event.train_discriminator) for event in scarce.state.history]
    assert told == [(event.train_adversarial, event.train_discriminator) for event in plenty.state.history]


def test_two_processes_train_both_networks_as_one_would(stack: Path, tmp_path: Path) -> None:
    config = with_precision(config_for(stack, epochs=2, adversarial=0.1), "fp32")
    trained(Team(), config, tmp_path / "one")
    in_team(trained, config, tmp_path / "two")
    alone, shared = (
        torch.load(tmp_path / name / "checkpoints" / "last.pt", weights_only=True) for name in ("one", "two")
    )
    for mine, theirs in ((alone, shared), (alone["adversary"], shared["adversary"])):
        for name, weight in mine["network"].items():
            torch.testing.assert_close(theirs["network"][name], weight, rtol=0, atol=1e-4)
    for mine, theirs in zip(alone["history"], shared["history"], strict=True):
        for name in ("train_loss", "train_adversarial", "train_discriminator"):
            assert theirs[name] == pytest.approx(mine[name], abs=1e-3), name


def test_going_back_takes_the_adversary_along_and_a_new_start_draws_another(
    stack: Path, tmp_path: Path
) -> None:
    run = run_in(tmp_path / "run", config_for(stack, epochs=2, adversarial=0.1))
    assert run.autopilot is not None
    first = weights_of(run.state.adversary)
    fit(run, unasked)
    at_best = run.state.content()["adversary"]["network"]
    best = run.checkpoints.best_content()
    assert best is not None
    steps.take_step(run, torch.arange(4))
    run.state.restore_weights(best)
    if run.state.best_epoch == run.state.epoch:
        assert all(torch.equal(best["adversary"]["network"][name], at_best[name]) for name in at_best)
    assert run.state.adversary is not None
    for name, weight in run.state.adversary.network.state_dict().items():
        assert torch.equal(weight, best["adversary"]["network"][name])
    recovery._go_back(run, run.autopilot, 2, fresh=True)
    again = PatchGan(1, 2, 2)
    again.draw(run.config.training.seed + 2)
    expected = torch.cat([weight.detach().flatten() for weight in again.parameters()])
    assert torch.equal(weights_of(run.state.adversary), expected)
    assert not run.state.adversary.optimizer.state
    # A run that goes on from one without an adversary begins with its first weights.
    del best["adversary"]
    other = run_in(tmp_path / "other", run.config)
    steps.take_step(other, torch.arange(4))
    other.state.restore_weights(best)
    assert torch.equal(weights_of(other.state.adversary), first)


@pytest.mark.parametrize("mode", ["2.5d", "3d"])
def test_slices_seen_together_and_volumes_face_one_too(stack: Path, tmp_path: Path, mode: str) -> None:
    config = config_for(stack, epochs=1, adversarial=0.1)
    data = config.data.model_copy(update={"mode": mode, "patch_depth": 4, "patches_per_image": 2})
    run = run_in(tmp_path / "run", config.model_copy(update={"data": data}))
    before = weights_of(run.state.adversary)
    fit(run, unasked)
    assert not torch.equal(weights_of(run.state.adversary), before)
    (event,) = run.state.history
    assert 0 < event.train_discriminator < 1  # type: ignore[operator]


def test_a_training_with_it_reaches_a_good_dice(stack: Path, tmp_path: Path) -> None:
    run = run_in(tmp_path / "run", config_for(stack, epochs=12, adversarial=0.1, learning_rate=5e-3))
    fit(run, unasked)
    assert max(event.val_dice for event in run.state.history) > 0.9


def test_what_has_no_class_for_every_pixel_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"training\.adversarial is 0\.1, but model\.head stars"):
        build_config(
            {
                "model": {"head": "stars"},
                "data": {"labels_as": "objects"},
                "training": {"adversarial": 0.1},
            }
        )
    with pytest.raises(ConfigError, match=r"training\.adversarial is 0\.1, but a network that learns from"):
        build_config({"training": {"adversarial": 0.1, "teacher": "elsewhere"}})
    with pytest.raises(ConfigError, match="learns something else"):
        contested(InstanceTask(build_head("stars")), adversary_of(), lambda part: part)
