"""Optimizers, and the parts of a network that are not trained."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from segcore.config import ModelConfig, TrainingConfig
from segcore.errors import ConfigError
from segcore.models.segmenter import Segmenter

WEIGHT_DECAY = 1e-2
ENCODER = ("encoder", "bottom")
"""First words of the names of the stages (`Segmenter.stages`) on the way down."""


def build_optimizer(
    network: nn.Module, training: TrainingConfig, device: torch.device
) -> torch.optim.Optimizer:
    """Build the chosen optimizer for all weights that are not frozen.

    AdamW (Loshchilov & Hutter 2019), RAdam (Liu et al. 2020) and LAMB (You et al. 2020) decay the weights,
    but spare biases and normalisation; Adam (Kingma & Ba 2015), SGD and gradient descent do not.

    Raises
    ------
    ConfigError
        The optimizer needs a package that is not installed.
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trained if parameter.ndim > 1]
    spared = [parameter for parameter in trained if parameter.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": spared, "weight_decay": 0.0}]
    plain = [{"params": group["params"]} for group in groups]
    rate = training.learning_rate
    # One kernel for all weights; MPS has none for every optimizer, and RAdam has none.
    fused = device.type in ("cpu", "cuda")
    match training.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=rate, fused=fused)
        case "adam":
            return torch.optim.Adam(plain, lr=rate, fused=fused)
        case "radam":
            return torch.optim.RAdam(groups, lr=rate, decoupled_weight_decay=True)
        case "lamb":
            return _lamb(groups, rate)
        case "sgd":
            return torch.optim.SGD(plain, lr=rate, momentum=0.9, nesterov=True, fused=fused)
    return torch.optim.SGD(plain, lr=rate, fused=fused)


def _lamb(groups: list[dict[str, Any]], rate: float) -> torch.optim.Optimizer:
    try:
        from timm.optim import Lamb
    except ImportError as error:
        raise ConfigError(
            "training.optimizer is lamb, which needs the package timm.",
            'Install it with pip install "segcore-studio[models]", or use adamw.',
        ) from error
    # Gradients are clipped where the options say so, not here.
    optimizer: torch.optim.Optimizer = Lamb(groups, lr=rate, max_grad_norm=None)
    return optimizer


def frozen_parts(network: Segmenter, model: ModelConfig) -> list[nn.Module]:
    """Return the parts of the network that stay as they are: with `freeze_encoder`, the descending half."""
    if not model.freeze_encoder:
        return []
    return [part for name, part in network.stages() if name.split()[0] in ENCODER]


def freeze(network: Segmenter, model: ModelConfig) -> None:
    """Exclude the frozen parts from training; to be called before the optimizer is built."""
    for part in frozen_parts(network, model):
        part.requires_grad_(False)


def set_training_mode(network: Segmenter, model: ModelConfig) -> None:
    """Put the network into training mode, the frozen parts into evaluation mode.

    Their batch normalisation would otherwise go on adapting its statistics.
    """
    network.train()
    for part in frozen_parts(network, model):
        part.eval()
