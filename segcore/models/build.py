"""From the options of a model to the network. A family is imported when it is built."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch

from segcore.card import ModelCard
from segcore.config import ModelConfig
from segcore.errors import ConfigError
from segcore.models.segmenter import Segmenter
from segcore.registry import Registry
from segcore.strides import Strides

INSTALL = "pip install 'segcore-studio[models]'"
Builder = Callable[[ModelConfig, int, int, Strides], Segmenter]


def _unet(config: ModelConfig, channels: int, classes: int, strides: Strides) -> Segmenter:
    from segcore.models.unet import UNet

    return UNet(channels, classes, *config.like, strides)


def _attention(config: ModelConfig, channels: int, classes: int, strides: Strides) -> Segmenter:
    from segcore.models.attention_unet import build_attention_unet

    return build_attention_unet(channels, classes, *config.like, strides)


def _residual(config: ModelConfig, channels: int, classes: int, strides: Strides) -> Segmenter:
    from segcore.models.residual_unet import build_residual_unet

    return build_residual_unet(channels, classes, *config.like, strides)


def _smp(architecture: str) -> Builder:
    def build(config: ModelConfig, channels: int, classes: int, strides: Strides) -> Segmenter:
        from segcore.models.smp_nets import build_smp

        return build_smp(channels, classes, architecture, config.encoder, pretrained=config.pretrained)

    return build


FAMILIES: Registry[Builder] = Registry(
    "model family",
    {
        "unet": _unet,
        "unet-small": _unet,
        "unet-attention": _attention,
        "unet-residual": _residual,
        "unet-encoder": _smp("unet"),
        "unetplusplus": _smp("unetplusplus"),
        "manet": _smp("manet"),
        "fpn": _smp("fpn"),
        "pspnet": _smp("pspnet"),
        "deeplabv3plus": _smp("deeplabv3plus"),
        "upernet": _smp("upernet"),
        "segformer": _smp("segformer"),
    },
)
"""What builds every family of `segcore.families`."""


def build_model(config: ModelConfig, channels: int, classes: int, strides: Strides = ()) -> Segmenter:
    """Build the network, randomly initialised from torch's global generator.

    Parameters
    ----------
    config : ModelConfig
        Family, size, and the weights it begins with.
    channels : int
        Channels of the network's input (`ModelCard.inputs`).
    classes : int
        Classes of the labels, background included.
    strides : tuple, optional
        Those of a 3d network (`ModelCard.strides`, planned by `segcore.strides.plan_strides`).

    Raises
    ------
    ConfigError
        There is no such family; the message lists those there are. Or the package it comes from is missing.
    ModelError
        The weights it is to begin with cannot be had, or do not fit.
    """
    build, package = FAMILIES[config.family], config.kind.package
    if package and find_spec(package) is None:
        raise ConfigError(
            f"model.family is {config.family}, but {package} is not installed.",
            f"Install it ({INSTALL}), or choose unet.",
        )
    return build(config, channels, classes, strides)


def random_model(config: ModelConfig, card: ModelCard) -> Segmenter:
    """Build the network of a card with its first weights, see `build_model`."""
    return build_model(config, card.inputs, len(card.class_values), card.strides)


def empty_model(config: ModelConfig, card: ModelCard) -> Segmenter:
    """Build the network of a card for weights that come next: without any, and without memory if it can be.

    Raises
    ------
    ConfigError
        The package it comes from is missing.
    """
    bare = config.model_copy(update={"pretrained": ""})
    with torch.device("meta"):
        return random_model(bare, card)
