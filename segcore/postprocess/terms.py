"""Parts of the losses of instance heads: means over the annotated pixels of the whole batch, in float32."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from segcore.tiling import IGNORE

Total = Callable[[Tensor], Tensor]
"""From a sum over the patches of this process to that over the whole batch, of which others have a share."""


def alone(part: Tensor) -> Tensor:
    """Return a sum as it is: this process has the whole batch."""
    return part


def annotated(target: Tensor) -> Tensor:
    """Return where a target `(B, T, …)` is known, `(B, …)` bool: its first map says IGNORE elsewhere."""
    return target[:, 0] != IGNORE


def weighted_mean(penalty: Tensor, weight: Tensor, total: Total = alone) -> Tensor:
    """Return the mean of `penalty` by `weight`, 0 where all weights are 0.

    Where the weight is 0 the penalty has no gradient either, whatever it is.

    Parameters
    ----------
    penalty, weight : Tensor
        `(B, …)`, of equal shape; the weights are never negative.
    total : callable
        Adds up what the processes that share a batch have counted.
    """
    weight = weight.to(penalty.dtype)
    parts = torch.where(weight > 0, penalty, penalty.new_zeros(())) * weight
    return total(parts.sum()) / total(weight.sum()).clamp(min=1e-6)
