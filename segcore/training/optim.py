"""Optimizers and the learning rate over a run."""

from __future__ import annotations

import math

import torch
from torch import nn

from segcore.config import TrainingConfig

WARM_UP = 0.03
"""Share of the run in which the learning rate rises from zero."""
WEIGHT_DECAY = 1e-2


def build_optimizer(
    network: nn.Module, training: TrainingConfig, device: torch.device
) -> torch.optim.Optimizer:
    """Build the chosen optimizer; weight decay spares biases and normalisation."""
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1]
    spared = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": spared, "weight_decay": 0.0}]
    rate = training.learning_rate
    # One kernel for all weights; MPS has none for every optimizer.
    fused = device.type in ("cpu", "cuda")
    if training.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=rate, fused=fused)
    plain = [{"params": group["params"]} for group in groups]
    if training.optimizer == "adam":
        return torch.optim.Adam(plain, lr=rate, fused=fused)
    return torch.optim.SGD(plain, lr=rate, momentum=0.9, nesterov=True, fused=fused)


def rate_factor(schedule: str, progress: float) -> float:
    """Return the factor on the learning rate when `progress` (0 … 1) of the run is done.

    Cosine: linear warm-up over the first 3 %, then half a cosine down to zero (Loshchilov & Hutter 2017,
    SGDR, arXiv 1608.03983, without restarts).
    """
    if schedule == "constant":
        return 1.0
    if progress < WARM_UP:
        return max(progress / WARM_UP, 0.01)
    rest = min(1.0, (progress - WARM_UP) / (1 - WARM_UP))
    return 0.5 * (1 + math.cos(math.pi * rest))
