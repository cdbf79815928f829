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
    assert value.dtype is torch.float32
    assert value.item() == pytest.approx(expected[name], rel=1e-5)


def test_an_unknown_loss_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"hinge.*ce, dice, dice\+ce, focal"):
        build_loss("hinge")
