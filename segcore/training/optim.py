"""Optimizers, the learning rate over a run, and the parts of a network that are not trained."""

from __future__ import annotations

import math

import torch
from torch import nn

from segcore.config import ModelConfig, TrainingConfig
from segcore.models.unet import UNet

WEIGHT_DECAY = 1e-2


def build_optimizer(
    network: nn.Module, training: TrainingConfig, device: torch.device
) -> torch.optim.Optimizer:
    """Build the chosen optimizer for all weights that are not frozen.

    Weight decay spares biases and normalisation.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trained if parameter.ndim > 1]
    spared = [parameter for parameter in trained if parameter.ndim <= 1]
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


def rate_factor(schedule: str, progress: float, warm_up: float = 0.0) -> float:
    """Return the factor on the learning rate when `progress` (0 … 1) of the run is done.

    A linear rise over the first part `warm_up` (0 … 0.5) of the run; then constant, or half a cosine down to
    zero (Loshchilov & Hutter 2017, SGDR, arXiv 1608.03983, without restarts).
    """
    if progress < warm_up:
        return max(progress / warm_up, 0.01)
    if schedule == "constant":
        return 1.0
    rest = min(1.0, (progress - warm_up) / (1 - warm_up))
    return 0.5 * (1 + math.cos(math.pi * rest))


def frozen_parts(network: UNet, model: ModelConfig) -> list[nn.Module]:
    """Return the parts of the network that stay as they are: with `freeze_encoder`, the descending half."""
    return [network.encoder, network.bottom] if model.freeze_encoder else []


def freeze(network: UNet, model: ModelConfig) -> None:
    """Exclude the frozen parts from training; to be called before the optimizer is built."""
    for part in frozen_parts(network, model):
        part.requires_grad_(False)


def set_training_mode(network: UNet, model: ModelConfig) -> None:
    """Put the network into training mode, the frozen parts into evaluation mode.

    Their batch normalisation would otherwise go on adapting its statistics.
    """
    network.train()
    for part in frozen_parts(network, model):
        part.eval()
