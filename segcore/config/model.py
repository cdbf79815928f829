"""Options of the network."""

from __future__ import annotations

from typing import Literal

from segcore.config.option import Section, option


class ModelConfig(Section):
    """The network."""

    family: Literal["unet"] = option("unet", "Model family.", label="Family", form="hidden")
    features: int = option(
        64,
        "Feature maps of the first level; every level below doubles them.",
        label="Features",
        form=[16, 32, 48, 64, 96, 128],
        ge=1,
        le=512,
    )
    layers: int = option(
        4,
        "How many times the network halves the image before it builds the mask.",
        label="Layers",
        form={"min": 2, "max": 6, "step": 1},
        ge=2,
        le=6,
    )
    freeze_encoder: bool = option(
        False,
        "Leave the descending half of the network as it is and train only the rest; for a model that is "
        "trained further on similar images.",
        label="Freeze encoder",
        form="more",
    )
