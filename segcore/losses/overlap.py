"""Losses that judge the overlap of whole classes, counted over the batch and the classes that occur in it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from segcore.losses.counting import Total, alone, class_totals, mean_over_classes
from segcore.losses.pixelwise import entropy_of
from segcore.tiling import IGNORE

FALSE_ALARM, MISS = 0.3, 0.7
"""What a pixel too many and a pixel too few cost in the Tversky loss, as its authors found best."""
ROOT = 0.75
"""The exponent 1/γ of the focal Tversky loss, with the γ = 4/3 that its authors found best."""


def dice(logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone) -> Tensor:
    """Return 1 − soft Dice, averaged over the classes that occur among the annotated pixels of the batch.

    Soft Dice as in V-Net (Milletari et al. 2016) with plain sums in the denominator and counted over the
    whole batch as in nnU-Net (Isensee et al. 2021): a patch without a class then does not make its Dice jump.
    A class that does not occur is left out; predicting it wrongly still costs, because it lowers the Dice of
    the classes that do.
    """
    return _dice_of(functional.softmax(logits.float(), dim=1), target, weight_K, total)


def dice_cross_entropy(
    logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone
) -> Tensor:
    """Return the sum of Dice loss and cross-entropy, the probabilities computed once."""
    log_p = functional.log_softmax(logits.float(), dim=1)
    return _dice_of(log_p.exp(), target, weight_K, total) + entropy_of(log_p, target, weight_K, total)


def tversky(logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone) -> Tensor:
    """Return 1 − Tversky index (Salehi et al. 2017): Dice that minds a missed pixel more than one too many.

    The index of a class is `hits / (hits + 0.3 · too many + 0.7 · missed)`; with 0.5 twice it would be Dice.
    Counted over the batch, and over the classes that occur, as `dice`.
    """
    index_K, true_K = _tversky_index(logits, target, total)
    return mean_over_classes(1 - index_K, true_K, weight_K)


def focal_tversky(
    logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone
) -> Tensor:
    """Return (1 − Tversky index)^0.75 (Abraham & Khan 2019): classes that are nearly right still count.

    See `tversky`.
    """
    index_K, true_K = _tversky_index(logits, target, total)
    # At 0 the root is infinitely steep: a class without an error has no gradient.
    return mean_over_classes((1 - index_K).clamp(min=1e-8) ** ROOT, true_K, weight_K)


def generalised_dice(
    logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone
) -> Tensor:
    """Return the generalised Dice loss (Sudre et al. 2017): one Dice of all classes together.

    Every class counts by the inverse square of its pixels in the batch, so that small classes are not
    drowned; those that do not occur are left out.
    """
    overlap_K, predicted_K, true_K = class_totals(functional.softmax(logits.float(), dim=1), target, total)
    present_K = true_K > 0
    # Relative to the smallest class that occurs: the squares of large images would leave float32.
    smallest = torch.where(present_K, true_K, torch.inf).amin().clamp(max=torch.finfo(torch.float32).max)
    share_K = torch.where(present_K, (smallest / true_K.clamp(min=1)) ** 2, 0.0)
    if weight_K is not None:
        share_K = share_K * weight_K
    whole = (share_K * (predicted_K + true_K)).sum()
    # Without annotation nothing is left of the sums: 0 then, by a product that has no gradient.
    return (1 - 2 * (share_K * overlap_K).sum() / whole.clamp(min=1e-12)) * (share_K.sum() > 0)


def lovasz(logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone) -> Tensor:
    """Return the Lovász-softmax loss (Berman et al. 2018): the convex extension of 1 − IoU.

    Averaged over the classes that occur among the annotated pixels of the batch. The pixels of a class are
    sorted by their error, which costs more than a sum and needs all of them: `total` is not used, and a batch
    must not be divided among processes.
    """
    p_KN = functional.softmax(logits.float(), dim=1).flatten(2).transpose(0, 1).flatten(1)
    target_N = target.flatten()
    annotated_N = target_N != IGNORE
    true_KN = target_N == torch.arange(len(p_KN), device=p_KN.device)[:, None]
    losses = [_lovasz_of(p_N, true_N, annotated_N) for p_N, true_N in zip(p_KN, true_KN, strict=True)]
    return mean_over_classes(torch.stack(losses), true_KN.sum(1), weight_K)


def _lovasz_of(p_N: Tensor, true_N: Tensor, annotated_N: Tensor) -> Tensor:
    """Return the loss of one class: errors in descending order, each times what it takes from the IoU."""
    error_N = torch.where(annotated_N, (true_N.to(p_N.dtype) - p_N).abs(), 0.0)
    # Pixels without annotation come last, where they change nothing before them.
    order_N = torch.where(annotated_N, error_N.detach(), -1.0).argsort(descending=True)
    true_N = true_N[order_N]
    missed_N, alarmed_N = true_N.cumsum(0), (~true_N).cumsum(0)
    # Intersection and union once the pixels before this one are wrong. The difference of two IoUs in closed
    # form: subtracted, those of a large image would lose all their digits.
    both_N = (missed_N[-1] - missed_N + true_N.long()).to(p_N.dtype)
    either_N = (missed_N[-1] + alarmed_N - (~true_N).long()).to(p_N.dtype).clamp(min=1)
    drop_N = torch.where(true_N, 1 / either_N, both_N / either_N / (either_N + 1))
    return (error_N[order_N] * drop_N).sum()


def _dice_of(p: Tensor, target: Tensor, weight_K: Tensor | None, total: Total) -> Tensor:
    overlap_K, predicted_K, true_K = class_totals(p, target, total)
    # At least one pixel of a class that counts makes the denominator at least 1; the clamp is for the others.
    dice_K = 2 * overlap_K / (predicted_K + true_K).clamp(min=1e-6)
    return mean_over_classes(1 - dice_K, true_K, weight_K)


def _tversky_index(logits: Tensor, target: Tensor, total: Total) -> tuple[Tensor, Tensor]:
    """Return the Tversky index and the pixels of every class."""
    overlap_K, predicted_K, true_K = class_totals(functional.softmax(logits.float(), dim=1), target, total)
    wrong_K = FALSE_ALARM * (predicted_K - overlap_K) + MISS * (true_K - overlap_K)
    return overlap_K / (overlap_K + wrong_K).clamp(min=1e-6), true_K
