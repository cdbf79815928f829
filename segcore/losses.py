"""Losses of pixel classification: from logits, in float32, blind to pixels nobody annotated."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from segcore.registry import Registry
from segcore.tiling import IGNORE

Loss = Callable[[Tensor, Tensor], Tensor]
"""From logits `B K Y X` and class indices `B Y X` (IGNORE where nobody annotated) to a scalar."""

FOCUS = 2.0
"""The exponent of the focal loss that its authors found best."""


def build_loss(name: str) -> Loss:
    """Return the loss called `name`: `dice+ce`, `dice`, `ce` or `focal`.

    Raises
    ------
    ConfigError
        There is no such loss; the message lists those there are.
    """
    return LOSSES[name]


def cross_entropy(logits_BKYX: Tensor, target_BYX: Tensor) -> Tensor:
    """Return the mean cross-entropy over the annotated pixels, 0 if there are none."""
    log_p_BKYX = functional.log_softmax(logits_BKYX.float(), dim=1)
    return _cross_entropy(log_p_BKYX, target_BYX.long())


def dice(logits_BKYX: Tensor, target_BYX: Tensor) -> Tensor:
    """Return 1 − soft Dice, averaged over the classes that occur among the annotated pixels of the batch.

    Soft Dice as in V-Net (Milletari et al. 2016) with plain sums in the denominator and counted over the
    whole batch as in nnU-Net (Isensee et al. 2021): a patch without a class then does not make its Dice jump.
    A class that does not occur is left out; predicting it wrongly still costs, because it lowers the Dice of
    the classes that do.
    """
    p_BKYX = functional.softmax(logits_BKYX.float(), dim=1)
    return _dice(p_BKYX, target_BYX.long())


def dice_cross_entropy(logits_BKYX: Tensor, target_BYX: Tensor) -> Tensor:
    """Return the sum of Dice loss and cross-entropy."""
    log_p_BKYX = functional.log_softmax(logits_BKYX.float(), dim=1)
    target_BYX = target_BYX.long()
    return _dice(log_p_BKYX.exp(), target_BYX) + _cross_entropy(log_p_BKYX, target_BYX)


def focal(logits_BKYX: Tensor, target_BYX: Tensor) -> Tensor:
    """Return the focal loss (Lin et al. 2017) over the annotated pixels: confident pixels count little."""
    log_p_BKYX = functional.log_softmax(logits_BKYX.float(), dim=1)
    target_BYX = target_BYX.long()
    annotated = target_BYX != IGNORE
    log_p_BYX = log_p_BKYX.gather(1, target_BYX.clamp(min=0).unsqueeze(1)).squeeze(1)
    loss_BYX = -((1 - log_p_BYX.exp()) ** FOCUS) * log_p_BYX
    return (loss_BYX * annotated).sum() / annotated.sum().clamp(min=1)


def _cross_entropy(log_p_BKYX: Tensor, target_BYX: Tensor) -> Tensor:
    total = functional.nll_loss(log_p_BKYX, target_BYX, ignore_index=IGNORE, reduction="sum")
    return total / (target_BYX != IGNORE).sum().clamp(min=1)


def _dice(p_BKYX: Tensor, target_BYX: Tensor) -> Tensor:
    classes = p_BKYX.shape[1]
    truth_BKYX = torch.stack([target_BYX == index for index in range(classes)], dim=1).to(p_BKYX.dtype)
    annotated_BYX = (target_BYX != IGNORE).to(p_BKYX.dtype)
    overlap_K = torch.einsum("bkyx,bkyx->k", p_BKYX, truth_BKYX)
    predicted_K = torch.einsum("bkyx,byx->k", p_BKYX, annotated_BYX)
    true_K = truth_BKYX.sum(dim=(0, 2, 3))
    # At least one pixel of a class that counts makes the denominator at least 1; the clamp is for the others.
    dice_K = 2 * overlap_K / (predicted_K + true_K).clamp(min=1e-6)
    present_K = (true_K > 0).to(dice_K.dtype)
    return ((1 - dice_K) * present_K).sum() / present_K.sum().clamp(min=1)


LOSSES: Registry[Loss] = Registry(
    "loss", {"dice+ce": dice_cross_entropy, "dice": dice, "ce": cross_entropy, "focal": focal}
)
