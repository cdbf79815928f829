"""Optimizers, the rate of every stage, and the parts of a network that are not trained."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from segcore.config import ModelConfig, TrainingConfig
from segcore.errors import ConfigError
from segcore.models.segmenter import Segmenter

WEIGHT_DECAY = 1e-2
SCALE = "scale"
"""Key of the groups of an optimizer under which the factor of their stage stands."""
ENCODER = ("encoder", "bottom")
"""First words of the names of the stages (`Segmenter.stages`) on the way down."""


def build_optimizer(
    network: Segmenter, training: TrainingConfig, device: torch.device
) -> torch.optim.Optimizer:
    """Build the chosen optimizer for all weights that are not frozen.

    AdamW (Loshchilov & Hutter 2019), RAdam (Liu et al. 2020) and LAMB (You et al. 2020) decay the weights,
    but spare biases and normalisation; Adam (Kingma & Ba 2015), SGD and gradient descent do not. With
    `training.layer_decay` every stage learns at a rate of its own, see `set_rate`; the first group of the
    optimizer always has the full one.

    Raises
    ------
    ConfigError
        The optimizer needs a package that is not installed, or all stages are frozen.
    """
    groups = _groups(network, training.layer_decay)
    plain = [{name: value for name, value in group.items() if name != "weight_decay"} for group in groups]
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


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its learning rate: `rate`, times the factor of its stage where stages differ."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get(SCALE, 1.0)


def _groups(network: Segmenter, decay: float) -> list[dict[str, Any]]:
    """Return the weights that learn, those that decay apart from those that do not; with their rates.

    Rates that fall from stage to stage are those of Howard & Ruder 2018 ("Universal language model
    fine-tuning") and Clark et al. 2020 (ELECTRA).
    """
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not trained:
        raise ConfigError(
            "Nothing of the network learns: all its stages are frozen.",
            "Leave at least the head out of model.freeze.",
        )
    if decay == 1:
        return _spared(trained)
    # What belongs to no stage lies at the image, as embeddings do.
    stages = list(reversed(network.stages()))
    depth = {id(weight): number for number, (_, part) in enumerate(stages) for weight in part.parameters()}
    by_depth: dict[int, list[nn.Parameter]] = {}
    for parameter in trained:
        by_depth.setdefault(depth.get(id(parameter), len(stages)), []).append(parameter)
    first = min(by_depth)
    return [
        {**group, SCALE: decay ** (number - first)}
        for number in sorted(by_depth)
        for group in _spared(by_depth[number])
        if group["params"]
    ]


def _spared(trained: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
    """Return two groups: matrices and kernels, which decay, and biases and normalisation, which do not."""
    decayed = [parameter for parameter in trained if parameter.ndim > 1]
    spared = [parameter for parameter in trained if parameter.ndim <= 1]
    return [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": spared, "weight_decay": 0.0}]


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
    """Return the parts of the network that stay as they are.

    With `freeze_encoder` the descending half; besides, the stages that `freeze` names, each by its name or by
    the first word of it.

    Raises
    ------
    ConfigError
        The network has no stage of such a name.
    """
    if not (model.freeze_encoder or model.freeze):
        return []
    stages = network.stages()
    named = {" ".join(name.split()) for name in model.freeze}
    known = {name for name, _ in stages} | {name.split()[0] for name, _ in stages}
    if unknown := sorted(named - known):
        near = get_close_matches(unknown[0], known, 1)
        raise ConfigError(
            f"model.freeze names {unknown[0]!r}, which is no stage of this network: it has "
            f"{', '.join(name for name, _ in stages)}.",
            f"Did you mean {near[0]!r}?" if near else "Name stages, or the first word of their names.",
        )
    if model.freeze_encoder:
        named |= set(ENCODER)
    return [part for name, part in stages if name in named or name.split()[0] in named]


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
