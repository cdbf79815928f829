"""Losses against those of MONAI and torchvision, in planes and volumes, to 1e-5; values and gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from segcore.config.loss import LOSS_TERMS
from segcore.losses import build_loss
from segcore.tiling import IGNORE

pytest.importorskip("monai")
torchvision = pytest.importorskip("torchvision")

EXACT: dict[str, Any] = {
    "to_onehot_y": True,
    "softmax": True,
    "batch": True,
    "smooth_nr": 0,
    "smooth_dr": 1e-12,
}
"""MONAI's options for sums over the whole batch without anything added to them."""
SHAPES = ((9, 7), (5, 6, 7))


def monai_dice() -> Callable[[Tensor, Tensor], Tensor]:
    """Return the Dice loss of MONAI."""
    from monai.losses import DiceLoss

    loss: Callable[[Tensor, Tensor], Tensor] = DiceLoss(**EXACT)
    return loss


def monai_dice_entropy() -> Callable[[Tensor, Tensor], Tensor]:
    """Return the sum of Dice and cross-entropy of MONAI."""
    from monai.losses import DiceCELoss

    loss: Callable[[Tensor, Tensor], Tensor] = DiceCELoss(**EXACT)
    return loss


def monai_tversky() -> Callable[[Tensor, Tensor], Tensor]:
    """Return the Tversky loss of MONAI; its alpha is for what is too much, its beta for what is missed."""
    from monai.losses import TverskyLoss

    loss: Callable[[Tensor, Tensor], Tensor] = TverskyLoss(alpha=0.3, beta=0.7, **EXACT)
    return loss


def monai_generalised() -> Callable[[Tensor, Tensor], Tensor]:
    """Return the generalised Dice loss of MONAI."""
    from monai.losses import GeneralizedDiceLoss

    loss: Callable[[Tensor, Tensor], Tensor] = GeneralizedDiceLoss(**EXACT)
    return loss


def monai_focal() -> Callable[[Tensor, Tensor], Tensor]:
    """Return the focal loss of MONAI, which has a value for every class: only the true one is not 0."""
    from monai.losses import FocalLoss

    each = FocalLoss(to_onehot_y=True, use_softmax=True, gamma=2.0, reduction="none")
    return lambda logits, target: each(logits, target).sum(1).mean()


REFERENCES: dict[str, Callable[[], Callable[[Tensor, Tensor], Tensor]]] = {
    "dice": monai_dice,
    "dice+ce": monai_dice_entropy,
    "tversky": monai_tversky,
    "generalised-dice": monai_generalised,
    "focal": monai_focal,
    "ce": lambda: lambda logits, target: functional.cross_entropy(logits, target[:, 0]),
}
BY_DEFINITION = {"focal-tversky", "lovasz", "border", "boundary", "mse", "mae"}
"""Those that no library here has; `test_loss_sums.py` and below have their formulas."""


def batch_of(shape: tuple[int, ...], classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return logits and class indices; the first pixels are one of every class."""
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(2, classes, *shape, generator=generator)
    target = torch.randint(0, classes, (2, *shape), generator=generator)
    target[:, ..., :classes] = torch.arange(classes)
    return logits, target


def test_every_loss_of_the_menu_has_a_reference() -> None:
    assert set(LOSS_TERMS) | {"dice+ce"} == set(REFERENCES) | BY_DEFINITION


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", REFERENCES)
def test_it_is_that_of_the_library(name: str, shape: tuple[int, ...]) -> None:
    reference = REFERENCES[name]()
    for classes, seed in ((2, 0), (3, 1), (5, 2)):
        logits, target = batch_of(shape, classes, seed)
        ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
        value, expected = build_loss(name)(ours, target), reference(theirs, target[:, None])
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-5)
        (gradient,), (slope,) = torch.autograd.grad(value, ours), torch.autograd.grad(expected, theirs)
        torch.testing.assert_close(gradient, slope, rtol=1e-3, atol=1e-6)


def test_the_focal_loss_of_two_classes_is_that_of_torchvision() -> None:
    logits, target = batch_of((9, 7), 2, 4)
    margin = logits[:, 1] - logits[:, 0]
    expected = torchvision.ops.sigmoid_focal_loss(margin, target.float(), alpha=-1, gamma=2, reduction="mean")
    torch.testing.assert_close(build_loss("focal")(logits, target), expected, rtol=0, atol=1e-5)


def test_classes_without_a_pixel_are_left_out_as_if_they_were_not_asked_for() -> None:
    logits, target = batch_of((9, 7), 3, 5)
    target = target.clamp(max=1)
    from monai.losses import DiceLoss

    each = DiceLoss(**EXACT, reduction="none")(logits, target[:, None]).flatten()
    torch.testing.assert_close(build_loss("dice")(logits, target), each[:2].mean(), rtol=0, atol=1e-5)


def enclosing(target: Tensor, row: int, column: int) -> float:
    """Return the width of the strip that a pixel lies in, by walking from it."""
    height, width = target.shape
    least = math.inf
    for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
        across = 0.0
        for sign in (1, -1):
            at, steps = (row + sign * down, column + sign * right), 1
            while 0 <= at[0] < height and 0 <= at[1] < width and target[at] == target[row, column]:
                at, steps = (at[0] + sign * down, at[1] + sign * right), steps + 1
            ends = 0 <= at[0] < height and 0 <= at[1] < width and target[at] != IGNORE and steps <= 16
            across += steps if ends else math.inf
        least = min(least, across * math.hypot(down, right))
    return least


@pytest.mark.parametrize("seed", range(3))
def test_the_border_loss_is_the_entropy_times_the_weights_of_the_u_net(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    target = torch.zeros(1, 14, 17, dtype=torch.long)
    target[0, 2:6, 3:9], target[0, 8:13, 2:10], target[0, 4:12, 11:16] = 1, 1, 2
    target[0, :2] = IGNORE
    logits = torch.randn(1, 3, 14, 17, generator=generator)
    total, count, plain = 0.0, 0, 0.0
    for row in range(14):
        for column in range(17):
            index = int(target[0, row, column])
            if index == IGNORE:
                continue
            entropy = -float(logits[0, :, row, column].log_softmax(0)[index])
            weight = 1 + 10 * math.exp(-(enclosing(target[0], row, column) ** 2) / 50)
            total, plain, count = total + weight * entropy, plain + entropy, count + 1
    assert build_loss("ce+border")(logits, target).item() == pytest.approx(total / count, abs=1e-5)
    assert build_loss("border")(logits, target).item() == pytest.approx((total - plain) / count, abs=1e-5)
