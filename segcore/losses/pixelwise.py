"""Losses that judge every pixel by itself: means over the annotated pixels of the batch."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from segcore.borders import border_weights
from segcore.losses.counting import Total, alone, mean_over_pixels, one_hot
from segcore.tiling import IGNORE

FOCUS = 2.0
"""The exponent of the focal loss that its authors found best."""


def cross_entropy(
    logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone
) -> Tensor:
    """Return the mean cross-entropy over the annotated pixels, 0 if there are none.

    See `mean_over_pixels` for the class weights.
    """
    return entropy_of(functional.log_softmax(logits.float(), dim=1), target, weight_K, total)


def entropy_of(log_p: Tensor, target: Tensor, weight_K: Tensor | None, total: Total) -> Tensor:
    """Return the mean cross-entropy for the logarithm of the probabilities."""
    loss = functional.nll_loss(log_p, target.long(), weight_K, ignore_index=IGNORE, reduction="sum")
    return total(loss) / total((target != IGNORE).sum()).clamp(min=1)


def focal(logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone) -> Tensor:
    """Return the focal loss (Lin et al. 2017) over the annotated pixels: confident pixels count little."""
    known = target.long().clamp(min=0).unsqueeze(1)
    log_p = functional.log_softmax(logits.float(), dim=1).gather(1, known).squeeze(1)
    return mean_over_pixels(-((1 - log_p.exp()) ** FOCUS) * log_p, target, weight_K, total)


def border_cross_entropy(
    logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone
) -> Tensor:
    """Return the cross-entropy of the U-Net (Ronneberger et al. 2015), in which narrow gaps count more.

    See `segcore.borders.border_weights`.
    """
    return _weighted_entropy(logits, target, weight_K, total, border_weights(target))


def border(logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone) -> Tensor:
    """Return what the border weights of the U-Net add to the cross-entropy: nothing away from narrow gaps."""
    return _weighted_entropy(logits, target, weight_K, total, border_weights(target) - 1)


def squared(logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone) -> Tensor:
    """Return the mean squared error of the probabilities (Brier 1950), averaged over the classes."""
    difference = _difference(logits, target)
    return mean_over_pixels((difference**2).mean(1), target, weight_K, total)


def absolute(logits: Tensor, target: Tensor, weight_K: Tensor | None = None, total: Total = alone) -> Tensor:
    """Return the mean absolute error of the probabilities, averaged over the classes.

    Less disturbed by wrong labels than the cross-entropy, and slower to learn (Ghosh et al. 2017).
    """
    return mean_over_pixels(_difference(logits, target).abs().mean(1), target, weight_K, total)


def _difference(logits: Tensor, target: Tensor) -> Tensor:
    truth_BKN = one_hot(target.flatten(1), logits.shape[1])
    p = functional.softmax(logits.float(), dim=1)
    return p - truth_BKN.view_as(p).to(p.dtype)


def _weighted_entropy(
    logits: Tensor, target: Tensor, weight_K: Tensor | None, total: Total, weight: Tensor
) -> Tensor:
    log_p = functional.log_softmax(logits.float(), dim=1)
    loss = functional.nll_loss(log_p, target.long(), weight_K, ignore_index=IGNORE, reduction="none")
    return total((loss * weight).sum()) / total((target != IGNORE).sum()).clamp(min=1)
