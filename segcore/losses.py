"""Losses of pixel classification: from logits, in float32, blind to pixels nobody annotated.

Shapes: logits `(B, K, …)`, class indices `(B, …)` with any number of axes behind; in the names of tensors, N
are the pixels of an image in a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from segcore.borders import border_weights
from segcore.registry import Registry
from segcore.tiling import IGNORE

Loss = Callable[[Tensor, Tensor], Tensor]
"""From logits `(B, K, …)` and class indices `(B, …)` (IGNORE where nobody annotated) to a scalar."""

FOCUS = 2.0
"""The exponent of the focal loss that its authors found best."""
FALSE_ALARM, MISS = 0.3, 0.7
"""What a pixel too many and a pixel too few cost in the Tversky loss, as its authors found best."""

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


def build_loss(name: str, weights: Sequence[float] | None = None, total: Total = alone) -> Loss:
    """Return the loss called `name`.

    Parameters
    ----------
    name : str
        `dice+ce`, `dice`, `ce`, `focal`, `tversky`, `generalised-dice` or `ce+border`.
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
    function = LOSSES[name]
    if weights is None:
        return lambda logits, target: function(logits, target, None, total)
    weight_K = torch.tensor(list(weights), dtype=torch.float32)
    return lambda logits, target: function(logits, target, weight_K.to(logits.device), total)


def cross_entropy(
    logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone
) -> Tensor:
    """Return the mean cross-entropy over the annotated pixels, 0 if there are none.

    With class weights it is the sum of the weighted terms over the number of pixels, not over the sum of
    weights: a patch without the rare class is not pushed up to count as much as one that shows it.
    """
    return _cross_entropy(functional.log_softmax(logits.float(), dim=1), target.long(), weight_K, total)


def dice(logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone) -> Tensor:
    """Return 1 − soft Dice, averaged over the classes that occur among the annotated pixels of the batch.

    Soft Dice as in V-Net (Milletari et al. 2016) with plain sums in the denominator and counted over the
    whole batch as in nnU-Net (Isensee et al. 2021): a patch without a class then does not make its Dice jump.
    A class that does not occur is left out; predicting it wrongly still costs, because it lowers the Dice of
    the classes that do.
    """
    return _dice(functional.softmax(logits.float(), dim=1), target, weight_K, total)


def dice_cross_entropy(
    logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone
) -> Tensor:
    """Return the sum of Dice loss and cross-entropy."""
    log_p = functional.log_softmax(logits.float(), dim=1)
    overlap = _dice(log_p.exp(), target, weight_K, total)
    return overlap + _cross_entropy(log_p, target.long(), weight_K, total)


def focal(logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone) -> Tensor:
    """Return the focal loss (Lin et al. 2017) over the annotated pixels: confident pixels count little."""
    log_p = functional.log_softmax(logits.float(), dim=1)
    annotated, known = target != IGNORE, target.long().clamp(min=0)
    log_p = log_p.gather(1, known.unsqueeze(1)).squeeze(1)
    loss = -((1 - log_p.exp()) ** FOCUS) * log_p
    if weight_K is not None:
        loss = loss * weight_K[known]
    return total((loss * annotated).sum()) / total(annotated.sum()).clamp(min=1)


def tversky(logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone) -> Tensor:
    """Return 1 − Tversky index (Salehi et al. 2017): Dice that minds a missed pixel more than one too many.

    The index of a class is `hits / (hits + 0.3 · too many + 0.7 · missed)`; with 0.5 twice it would be Dice.
    Counted over the batch, and over the classes that occur, as `dice`.
    """
    overlap_K, predicted_K, true_K = _totals(functional.softmax(logits.float(), dim=1), target, total)
    wrong_K = FALSE_ALARM * (predicted_K - overlap_K) + MISS * (true_K - overlap_K)
    index_K = overlap_K / (overlap_K + wrong_K).clamp(min=1e-6)
    return _mean_loss(1 - index_K, true_K, weight_K)


def generalised_dice(
    logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone
) -> Tensor:
    """Return the generalised Dice loss (Sudre et al. 2017): one Dice of all classes together.

    Every class counts by the inverse square of its pixels in the batch, so that small classes are not
    drowned; those that do not occur are left out.
    """
    overlap_K, predicted_K, true_K = _totals(functional.softmax(logits.float(), dim=1), target, total)
    present_K = true_K > 0
    # Relative to the smallest class that occurs: the squares of large images would leave float32.
    smallest = torch.where(present_K, true_K, torch.inf).amin().clamp(max=torch.finfo(torch.float32).max)
    share_K = torch.where(present_K, (smallest / true_K.clamp(min=1)) ** 2, 0.0)
    if weight_K is not None:
        share_K = share_K * weight_K
    whole = (share_K * (predicted_K + true_K)).sum()
    # Without annotation nothing is left of the sums: 0 then, by a product that has no gradient.
    return (1 - 2 * (share_K * overlap_K).sum() / whole.clamp(min=1e-12)) * (share_K.sum() > 0)


def border_cross_entropy(
    logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone
) -> Tensor:
    """Return the cross-entropy of the U-Net (Ronneberger et al. 2015), in which narrow gaps count more.

    See `segcore.borders.border_weights`.
    """
    log_p = functional.log_softmax(logits.float(), dim=1)
    loss = functional.nll_loss(log_p, target.long(), weight_K, ignore_index=IGNORE, reduction="none")
    return total((loss * border_weights(target)).sum()) / total((target != IGNORE).sum()).clamp(min=1)


def _cross_entropy(log_p: Tensor, target: Tensor, weight_K: Tensor | None, total: Total) -> Tensor:
    loss = functional.nll_loss(log_p, target, weight_K, ignore_index=IGNORE, reduction="sum")
    return total(loss) / total((target != IGNORE).sum()).clamp(min=1)


def _dice(p: Tensor, target: Tensor, weight_K: Tensor | None, total: Total) -> Tensor:
    overlap_K, predicted_K, true_K = _totals(p, target, total)
    # At least one pixel of a class that counts makes the denominator at least 1; the clamp is for the others.
    dice_K = 2 * overlap_K / (predicted_K + true_K).clamp(min=1e-6)
    return _mean_loss(1 - dice_K, true_K, weight_K)


def _totals(p: Tensor, target: Tensor, total: Total) -> tuple[Tensor, Tensor, Tensor]:
    """Return overlap, predicted and true pixels of every class among the annotated ones of the batch."""
    p_BKN, target_BN = p.flatten(2), target.flatten(1)
    truth_BKN = _one_hot(target_BN, p_BKN.shape[1]).to(p.dtype)
    annotated_B1N = (target_BN != IGNORE).to(p.dtype).unsqueeze(1)
    # Products and sums: as an einsum they become matrix products of one row, many times slower on a CPU.
    overlap_K = (p_BKN * truth_BKN).sum((0, 2))
    predicted_K = (p_BKN * annotated_B1N).sum((0, 2))
    sums_3K = total(torch.stack([overlap_K, predicted_K, truth_BKN.sum((0, 2))]))
    return sums_3K[0], sums_3K[1], sums_3K[2]


def _one_hot(target_BN: Tensor, classes: int) -> Tensor:
    """Return for every class whether it is that of a pixel, `(B, K, N)`."""
    return target_BN.unsqueeze(1) == torch.arange(classes, device=target_BN.device)[:, None]


def _mean_loss(loss_K: Tensor, true_K: Tensor, weight_K: Tensor | None) -> Tensor:
    """Return the mean over the classes that occur."""
    share_K = (true_K > 0).to(loss_K.dtype)
    if weight_K is not None:
        share_K = share_K * weight_K
    total = share_K.sum()
    return (loss_K * share_K).sum() / torch.where(total > 0, total, 1.0)


LOSSES: Registry[WeightedLoss] = Registry(
    "loss",
    {
        "dice+ce": dice_cross_entropy,
        "dice": dice,
        "ce": cross_entropy,
        "focal": focal,
        "tversky": tversky,
        "generalised-dice": generalised_dice,
        "ce+border": border_cross_entropy,
    },
)
