"""From the text of `training.loss` to a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from segcore.config.loss import parse_loss
from segcore.losses.boundary import boundary
from segcore.losses.counting import Total, WeightedLoss, alone
from segcore.losses.overlap import dice, dice_cross_entropy, focal_tversky, generalised_dice, lovasz, tversky
from segcore.losses.pixelwise import absolute, border, border_cross_entropy, cross_entropy, focal, squared
from segcore.registry import Registry

Loss = Callable[[Tensor, Tensor], Tensor]
"""From logits `(B, K, …)` and class indices `(B, …)` (IGNORE where nobody annotated) to a scalar."""


def build_loss(text: str, weights: Sequence[float] | None = None, total: Total = alone) -> Loss:
    """Return a loss or a sum of losses.

    Parameters
    ----------
    text : str
        A name of `LOSSES`, or a sum with weights: `0.7*dice+0.3*focal`.
    weights : sequence of float, optional
        How much a pixel of every class counts, where the loss is a sum over pixels; how much the class's
        overlap counts, where it is one over classes.
    total : callable
        Adds up what the processes that share a batch have counted, so that the loss is that of the batch.

    Raises
    ------
    ConfigError
        There is no such loss; the message lists those there are.
    """
    function = _function(text)
    if weights is None:
        return lambda logits, target: function(logits, target, None, total)
    weight_K = torch.tensor(list(weights), dtype=torch.float32)
    return lambda logits, target: function(logits, target, weight_K.to(logits.device), total)


def _function(text: str) -> WeightedLoss:
    name = "".join(text.split())
    if name in LOSSES:
        return LOSSES[name]
    parts = [(LOSSES[term.name], term.weight) for term in parse_loss(text)]

    def weighted_sum(
        logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone
    ) -> Tensor:
        values = [weight * part(logits, target, weight_K, total) for part, weight in parts]
        return torch.stack(values).sum()

    return weighted_sum


LOSSES: Registry[WeightedLoss] = Registry(
    "loss",
    {
        "dice+ce": dice_cross_entropy,
        "dice": dice,
        "ce": cross_entropy,
        "focal": focal,
        "tversky": tversky,
        "focal-tversky": focal_tversky,
        "generalised-dice": generalised_dice,
        "lovasz": lovasz,
        "ce+border": border_cross_entropy,
        "border": border,
        "boundary": boundary,
        "mse": squared,
        "mae": absolute,
    },
)
"""The losses by name; the two sums are here because together they cost less than one by one."""
