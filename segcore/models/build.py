"""From the options of a model to the network. A family is imported when it is built."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import torch

from segcore.addresses import IMAGENET
from segcore.card import ModelCard
from segcore.config import ModelConfig
from segcore.errors import ConfigError
from segcore.models.segmenter import Segmenter
from segcore.models.whole_objects import WholeObjects
from segcore.registry import Registry
from segcore.strides import Strides

INSTALL = "pip install 'segcore-studio[models]'"
ALSO_NEEDED = {"swin-unetr": "einops", "mask2former": "timm", "detr": "timm"}
"""What the package of a family asks for only when the network is built."""
SWIN_SIZES = {
    "tu-swin_tiny_patch4_window7_224": "tiny",
    "tu-swin_small_patch4_window7_224": "small",
    "tu-swin_base_patch4_window12_384": "base",
    "tu-swin_large_patch4_window12_384": "large",
}
"""Encoders that transformers has itself, by their names in timm."""


class Sizes(NamedTuple):
    """What the data decide; `channels` are those of all `slices` that are seen together."""

    channels: int
    classes: int
    strides: Strides = ()
    slices: int = 1


Builder = Callable[[ModelConfig, Sizes], Segmenter]


def _unet(config: ModelConfig, of: Sizes) -> Segmenter:
    from segcore.models.unet import UNet

    return UNet(of.channels, of.classes, *config.like, of.strides)


def _attention(config: ModelConfig, of: Sizes) -> Segmenter:
    from segcore.models.attention_unet import AttentionUNet

    return AttentionUNet(of.channels, of.classes, *config.like, of.strides)


def _residual(config: ModelConfig, of: Sizes) -> Segmenter:
    from segcore.models.residual_unet import ResidualUNet

    return ResidualUNet(of.channels, of.classes, *config.like, of.strides)


def _smp(architecture: str) -> Builder:
    def build(config: ModelConfig, of: Sizes) -> Segmenter:
        from segcore.models.smp_nets import build_smp

        return build_smp(of.channels, of.classes, architecture, config.encoder, pretrained=config.pretrained)

    return build


def _segformer(config: ModelConfig, of: Sizes) -> Segmenter:
    from segcore.models.segformer import build_segformer

    size = config.family[-2:]
    pretrained = f"nvidia/mit-{size}" if config.pretrained == IMAGENET else config.pretrained
    return build_segformer(of.channels, of.classes, size, pretrained)


def _dense(config: ModelConfig, of: Sizes) -> Segmenter:
    from segcore.models.fc_densenet import build_fc_densenet

    return build_fc_densenet(of.channels, of.classes, config.family.removeprefix("fc-densenet-"))


def _dynunet(config: ModelConfig, of: Sizes) -> Segmenter:
    from segcore.models.monai_nets import build_dynunet

    return build_dynunet(of.channels, of.classes, *config.like, of.strides)


def _segresnet(config: ModelConfig, of: Sizes) -> Segmenter:
    from segcore.models.monai_nets import build_segresnet

    return build_segresnet(of.channels, of.classes, config.features, of.strides)


def _swin_unetr(config: ModelConfig, of: Sizes) -> Segmenter:
    from segcore.models.monai_nets import build_swin_unetr

    return build_swin_unetr(of.channels, of.classes, strides=of.strides)


def _sensor3d(config: ModelConfig, of: Sizes) -> Segmenter:
    from segcore.models.sensor3d import build_sensor3d

    return build_sensor3d(of.channels, of.classes, of.slices, *config.like)


def _mask_rcnn(config: ModelConfig, of: Sizes) -> Segmenter:
    from segcore.models.mask_rcnn import WIDER, MaskRCNNOptions, build_mask_rcnn

    options = MaskRCNNOptions(
        version=2 if config.family.endswith("v2") else 1,
        backbone=config.encoder,
        features=WIDER * config.features,
        hidden=16 * config.features,
        most=config.objects,
    )
    network = build_mask_rcnn(of.channels, _classes(config, of), options, config.pretrained)
    return WholeObjects(network) if config.learns_objects else network


def _set_prediction(config: ModelConfig, of: Sizes) -> Segmenter:
    from segcore.models.set_networks import SetOptions, width_options
    from segcore.models.set_prediction import build_set_prediction

    step = config.kind.groups
    if config.features % step:
        raise ConfigError(
            f"model.features is {config.features}, but {config.kind.title} needs a multiple of {step}.",
            f"Use {max(step, config.features // step * step)}.",
        )
    options = SetOptions(
        architecture=config.family,
        task={"masks": "instance", "panoptic": "panoptic"}.get(config.head, "semantic"),
        size=SWIN_SIZES.get(config.encoder, config.encoder),
        queries=config.objects,
        head=width_options(config.family, 4 * config.features),
    )
    network = build_set_prediction(of.channels, _classes(config, of), options, config.pretrained)
    return WholeObjects(network) if config.learns_objects else network


def _classes(config: ModelConfig, of: Sizes) -> int:
    """Return the classes of a network that answers whole objects: two where it learns objects."""
    return 2 if config.learns_objects else of.classes


BUILDERS: Registry[Builder] = Registry(
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
        **{f"segformer-b{number}": _segformer for number in range(6)},
        **{f"fc-densenet-{size}": _dense for size in ("56", "67", "103")},
        "dynunet": _dynunet,
        "segresnet": _segresnet,
        "swin-unetr": _swin_unetr,
        "sensor3d": _sensor3d,
        "mask-rcnn": _mask_rcnn,
        "mask-rcnn-v2": _mask_rcnn,
        "mask2former": _set_prediction,
        "detr": _set_prediction,
    },
)
"""What builds every family of `segcore.families`."""


def build_model(
    config: ModelConfig, channels: int, classes: int, strides: Strides = (), slices: int = 1
) -> Segmenter:
    """Build the network, randomly initialised from torch's global generator.

    Parameters
    ----------
    config : ModelConfig
        Family, size, and the weights it begins with.
    channels : int
        Channels of the network's input (`ModelCard.inputs`).
    classes : int
        Maps of the output: classes of the labels, background included, or what objects are made of.
    strides : tuple, optional
        Those of a 3d network (`ModelCard.strides`, planned by `segcore.strides.plan_strides`).
    slices : int
        Slices that are seen together (`ModelCard.context_slices`).

    Raises
    ------
    ConfigError
        There is no such family; the message lists those there are. Or the package it comes from is missing.
    ModelError
        The weights it is to begin with cannot be had, or do not fit.
    """
    build, needed = BUILDERS[config.family], (config.kind.package, ALSO_NEEDED.get(config.family, ""))
    package = next((name for name in needed if name and find_spec(name) is None), "")
    if package:
        raise ConfigError(
            f"model.family is {config.family}, but {package} is not installed.",
            f"Install it ({INSTALL}), or choose unet.",
        )
    return build(config, Sizes(channels, classes, strides, slices))


def random_model(config: ModelConfig, card: ModelCard) -> Segmenter:
    """Build the network of a card with its first weights, see `build_model`."""
    return build_model(config, card.inputs, card.outputs, card.strides, card.context_slices)


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
