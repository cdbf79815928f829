"""What the losses share: sums over the pixels of a batch, and means over the classes that occur.

Shapes: logits `(B, K, …)`, class indices `(B, …)` with any number of axes behind; in the names of tensors, N
are the pixels of an image in a row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from segcore.tiling import IGNORE

Total = Callable[[Tensor], Tensor]
"""From a sum over the patches of this process to that over the whole batch, of which others have a share."""


def alone(part: Tensor) -> Tensor:
    """Return a sum as it is: this process has the whole batch."""
    return part


class WeightedLoss(Protocol):
    """A loss that may weigh the classes, and whose batch may be divided among processes."""

    def __call__(
        self, logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone
    ) -> Tensor:
        """Return the loss of the whole batch; `weight_K` says how much every class counts."""


def class_totals(p: Tensor, target: Tensor, total: Total) -> tuple[Tensor, Tensor, Tensor]:
    """Return overlap, predicted and true pixels of every class among the annotated ones of the batch."""
    p_BKN, target_BN = p.flatten(2), target.flatten(1)
    truth_BKN = one_hot(target_BN, p_BKN.shape[1]).to(p.dtype)
    annotated_B1N = (target_BN != IGNORE).to(p.dtype).unsqueeze(1)
    # Products and sums: as an einsum they become matrix products of one row, many times slower on a CPU.
    overlap_K = (p_BKN * truth_BKN).sum((0, 2))
    predicted_K = (p_BKN * annotated_B1N).sum((0, 2))
    sums_3K = total(torch.stack([overlap_K, predicted_K, truth_BKN.sum((0, 2))]))
    return sums_3K[0], sums_3K[1], sums_3K[2]


def one_hot(target_BN: Tensor, classes: int) -> Tensor:
    """Return for every class whether it is that of a pixel, `(B, K, N)`."""
    return target_BN.unsqueeze(1) == torch.arange(classes, device=target_BN.device)[:, None]


def mean_over_classes(loss_K: Tensor, true_K: Tensor, weight_K: Tensor | None) -> Tensor:
    """Return the mean over the classes that occur."""
    share_K = (true_K > 0).to(loss_K.dtype)
    if weight_K is not None:
        share_K = share_K * weight_K
    total = share_K.sum()
    return (loss_K * share_K).sum() / torch.where(total > 0, total, 1.0)


def mean_over_pixels(loss: Tensor, target: Tensor, weight_K: Tensor | None, total: Total) -> Tensor:
    """Return the mean of a loss per pixel `(B, …)` over the annotated pixels, 0 if there are none.

    With class weights it is the sum of the weighted terms over the number of pixels, not over the sum of
    weights: a patch without the rare class is not pushed up to count as much as one that shows it.
    """
    annotated = target != IGNORE
    if weight_K is not None:
        loss = loss * weight_K[target.long().clamp(min=0)]
    # `where` and not a product: what is infinite at a pixel that nobody annotated must not become NaN.
    return total(torch.where(annotated, loss, 0.0).sum()) / total(annotated.sum()).clamp(min=1)
