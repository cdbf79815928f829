"""Losses: against their definitions, and blind to pixels without annotation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from segcore.errors import ConfigError
from segcore.losses import LOSSES, build_loss
from segcore.tiling import IGNORE

NAMES = sorted(LOSSES)


def _batch(classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, 9, 7, generator=generator)
    target = torch.randint(0, classes, (2, 9, 7), generator=generator)
    return logits, target


def _value_and_gradient(name: str, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    logits = logits.clone().requires_grad_()
    value = build_loss(name)(logits, target)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


def test_cross_entropy_is_that_of_torch() -> None:
    logits, target = _batch()
    torch.testing.assert_close(build_loss("ce")(logits, target), functional.cross_entropy(logits, target))


def test_dice_is_its_definition_over_the_batch() -> None:
    logits, target = _batch()
    p = logits.softmax(1)
    dice = []
    for index in range(3):
        true = (target == index).float()
        dice.append(2 * (p[:, index] * true).sum() / (p[:, index].sum() + true.sum()))
    torch.testing.assert_close(build_loss("dice")(logits, target), 1 - sum(dice) / 3)


def test_dice_counts_the_classes_that_occur() -> None:
    logits, target = _batch()
    target = target.clamp(max=1)
    p = logits.softmax(1)
    dice = []
    for index in range(2):
        true = (target == index).float()
        dice.append(2 * (p[:, index] * true).sum() / (p[:, index].sum() + true.sum()))
    torch.testing.assert_close(build_loss("dice")(logits, target), 1 - sum(dice) / 2)


def test_focal_is_its_definition() -> None:
    logits, target = _batch()
    p = logits.softmax(1).gather(1, target[:, None])
    torch.testing.assert_close(build_loss("focal")(logits, target), (-((1 - p) ** 2) * p.log()).mean())


def test_the_sum_is_the_sum() -> None:
    logits, target = _batch()
    both = build_loss("dice+ce")(logits, target)
    torch.testing.assert_close(both, build_loss("dice")(logits, target) + build_loss("ce")(logits, target))


@pytest.mark.parametrize("name", NAMES)
def test_a_pixel_without_annotation_changes_neither_value_nor_gradient(name: str) -> None:
    logits, target = _batch()
    target[0, :, 3:] = IGNORE
    target[1, 4] = IGNORE
    without = target == IGNORE
    value, gradient = _value_and_gradient(name, logits, target)
    wild = torch.where(without[:, None], 50 * torch.randn_like(logits), logits)
    other_value, other_gradient = _value_and_gradient(name, wild, target)
    known = ~without[:, None].expand_as(logits)
    torch.testing.assert_close(value, other_value)
    torch.testing.assert_close(gradient[known], other_gradient[known])
    assert not gradient[~known].any()
    assert not other_gradient[~known].any()


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_without_annotation_teaches_nothing(name: str) -> None:
    logits, target = _batch()
    value, gradient = _value_and_gradient(name, logits, torch.full_like(target, IGNORE))
    assert value == 0
    assert not gradient.any()


@pytest.mark.parametrize("name", NAMES)
def test_the_right_answer_costs_nothing_and_the_wrong_one_more(name: str) -> None:
    _, target = _batch()
    right = 40 * functional.one_hot(target, 3).permute(0, 3, 1, 2).float()
    assert build_loss(name)(right, target) < 1e-5
    assert build_loss(name)(-right, target) > 0.3


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_are_summed_in_float32(name: str, dtype: torch.dtype) -> None:
    logits = torch.zeros(1, 2, 300, 300, dtype=dtype)  # more pixels than a half-precision number can count
    target = torch.zeros(1, 300, 300, dtype=torch.int16)
    target[:, :150] = 1
    value = build_loss(name)(logits, target)
    expected = {"dice": 0.5, "ce": math.log(2), "dice+ce": 0.5 + math.log(2), "focal": math.log(2) / 4}
    expected |= {"tversky": 0.5, "generalised-dice": 0.5, "ce+border": math.log(2)}
    expected |= {"focal-tversky": 0.5**0.75, "mse": 0.25, "mae": 0.5, "border": 0.0, "boundary": 75.5 / 2}
    # With all errors 1/2, the sum of what they take from the IoU is the whole of it, times 1/2.
    expected |= {"lovasz": 0.5}
    assert value.dtype is torch.float32
    assert value.item() == pytest.approx(expected[name], rel=1e-5)


def test_an_unknown_loss_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"hinge.*Known: border, boundary, ce, dice, focal"):
        build_loss("hinge")


def test_tversky_is_its_definition_and_minds_misses_more() -> None:
    logits, target = _batch()
    p = logits.softmax(1)
    index = []
    for k in range(3):
        true = (target == k).float()
        hits, alarms, misses = (
            (p[:, k] * true).sum(), (p[:, k] * (1 - true)).sum(), ((1 - p[:, k]) * true).sum(),
        )  # fmt: skip
        index.append(hits / (hits + 0.3 * alarms + 0.7 * misses))
    torch.testing.assert_close(build_loss("tversky")(logits, target), 1 - sum(index) / 3)
    rare = torch.zeros(1, 10, 10, dtype=torch.long)
    rare[0, :2, :5] = 1
    missed, alarmed = rare.clone(), rare.clone()
    missed[0, 0] = 0
    alarmed[0, 2, :5] = 1
    losses = [build_loss("tversky")(40 * _one_hot(said), rare) for said in (missed, alarmed)]
    assert losses[0] > losses[1]


def test_generalised_dice_is_its_definition() -> None:
    logits, target = _batch()
    p, truth = logits.softmax(1), _one_hot(target, 3)
    weight = 1 / truth.sum((0, 2, 3)) ** 2
    both = (weight * (p * truth).sum((0, 2, 3))).sum(), (weight * (p + truth).sum((0, 2, 3))).sum()
    torch.testing.assert_close(build_loss("generalised-dice")(logits, target), 1 - 2 * both[0] / both[1])


@pytest.mark.parametrize("name", NAMES)
def test_equal_weights_change_nothing_and_a_weight_of_zero_takes_a_class_out(name: str) -> None:
    logits, target = _batch()
    torch.testing.assert_close(
        build_loss(name, [1.0, 1.0, 1.0])(logits, target), build_loss(name)(logits, target)
    )
    heavy, light = (build_loss(name, [1.0, 1.0, last]) for last in (9.0, 0.0))
    wrong_there = 40 * _one_hot(torch.where(target == 2, 0, target), 3)
    wrong_elsewhere = 40 * _one_hot(torch.where(target == 1, 0, target), 3)
    assert heavy(wrong_there, target) > heavy(wrong_elsewhere, target)
    assert light(wrong_there, target) < light(wrong_elsewhere, target)


@pytest.mark.parametrize("name", NAMES)
def test_a_block_of_slices_has_the_loss_of_its_slices_as_a_batch(name: str) -> None:
    logits, target = _batch()
    block, marked = logits.transpose(0, 1)[None], target[None]
    for weights in (None, [0.5, 1.0, 3.0]):
        one = build_loss(name, weights)(block, marked)
        torch.testing.assert_close(one, build_loss(name, weights)(logits, target))


def test_weighted_cross_entropy_is_a_mean_over_pixels() -> None:
    logits, target = _batch()
    weights = torch.tensor([0.2, 1.0, 4.0])
    each = functional.cross_entropy(logits, target, reduction="none") * weights[target]
    torch.testing.assert_close(build_loss("ce", weights.tolist())(logits, target), each.mean())


def _one_hot(target: Tensor, classes: int = 2) -> Tensor:
    return functional.one_hot(target, classes).movedim(-1, 1).float()
