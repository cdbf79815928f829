"""What a student misses of its teacher: the divergence of their probabilities, blind where he has no say."""

from __future__ import annotations

import torch
from torch import Tensor

KNOWN = 0.5
"""Sum of the teacher's shares from which a pixel counts; beside pixels without his say it falls to 0."""


def divergence(logits: Tensor, share: Tensor, temperature: float) -> Tensor:
    """Return T² times the mean Kullback-Leibler divergence of the student from the teacher (Hinton 2015).

    "Distilling the knowledge in a neural network", arXiv 1503.02531: gradients of levelled probabilities
    shrink with T², which is made good. 0 where the teacher has no say at all.

    Parameters
    ----------
    logits : Tensor
        Of the student, `(B, K, …)`.
    share : Tensor
        The teacher's probabilities at the same temperature, `(B, K, …)`; 0 for all classes where he has no
        say. They need not add up to 1 exactly, as they were rounded and interpolated.
    temperature : float
        T, at least 1.
    """
    total = share.sum(1)
    known = total > KNOWN
    target = share / total.clamp(min=KNOWN).unsqueeze(1)
    own = torch.log_softmax(logits / temperature, 1)
    missed = (torch.xlogy(target, target) - target * own).sum(1)
    # Pixels without a say are taken out by choice, not by a factor: their targets are no probabilities.
    mean = torch.where(known, missed, torch.zeros_like(missed)).sum() / known.sum().clamp(min=1)
    return temperature**2 * mean
