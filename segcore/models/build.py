"""From the options of a model to the network."""

from __future__ import annotations

from collections.abc import Callable

from segcore.config import ModelConfig
from segcore.models.unet import UNet
from segcore.registry import Registry
from segcore.strides import Strides


def _unet(config: ModelConfig, channels: int, classes: int, strides: Strides) -> UNet:
    return UNet(channels, classes, config.features, config.layers, strides)


FAMILIES: Registry[Callable[[ModelConfig, int, int, Strides], UNet]] = Registry(
    "model family", {"unet": _unet}
)


def build_model(config: ModelConfig, channels: int, classes: int, strides: Strides = ()) -> UNet:
    """Build the network, randomly initialised from torch's global generator.

    Parameters
    ----------
    config : ModelConfig
        Family and size.
    channels : int
        Channels of the network's input (`ModelCard.inputs`).
    classes : int
        Classes of the labels, background included.
    strides : tuple, optional
        Those of a 3d network (`ModelCard.strides`, planned by `segcore.strides.plan_strides`).

    Raises
    ------
    ConfigError
        There is no such family; the message lists those there are.
    """
    return FAMILIES[config.family](config, channels, classes, strides)
