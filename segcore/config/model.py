"""Options of the network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from segcore.config.option import ENCODER_PATTERN, Section, option
from segcore.families import ENCODERS, FAMILIES, Family

if TYPE_CHECKING:
    FamilyName = str
else:
    # One truth: the names are those of the registry, which a type checker cannot read.
    FamilyName = Literal[tuple(FAMILIES)]


class ModelConfig(Section):
    """The network."""

    family: FamilyName = option("unet", "The kind of network.", label="Family")
    head: Literal["semantic", "boundary", "stars", "flows", "masks", "panoptic"] = option(
        "semantic",
        "semantic: a class for every pixel. The others learn objects one by one, also where they touch. "
        "boundary: their edges and depth. stars: StarDist, for round ones. flows: Cellpose, for any shape. "
        "masks, panoptic: the network answers whole objects itself, in panoptic with the background.",
        label="What is learned",
        form="more",
    )
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
    freeze: list[str] = option(
        [],
        "Stages of the network that stay as they are, by name: encoder, bottom, decoder, head, or one "
        "of them such as encoder 2; what is not named learns.",
        label="Frozen stages",
        form="more",
    )
    encoder: str = option(
        "resnet34",
        "The network that looks at the image on the way down; for families that take any.",
        label="Encoder",
        choices=tuple(ENCODERS),
        pattern=ENCODER_PATTERN,
    )
    objects: int = option(
        100,
        "The most objects that are answered for one image, or one part of a large image.",
        label="Most objects",
        form=[50, 100, 200, 300],
        ge=1,
        le=1000,
    )
    pretrained: str = option(
        "",
        "Weights the network begins with: a name on the Hugging Face hub or a file; nothing: random weights.",
        label="Pretrained weights",
    )

    @property
    def kind(self) -> Family:
        """What is known of the family."""
        return FAMILIES[self.family]

    @property
    def learns_objects(self) -> bool:
        """Whether objects are told apart, not only classes."""
        return self.head != "semantic"

    @property
    def like(self) -> tuple[int, int]:
        """Features and layers of the U-Net that it is, or whose memory it takes about."""
        return self.kind.like or (self.features, self.kind.halvings or self.layers)

    @property
    def shape(self) -> dict[str, str | int]:
        """Family and the options that decide its weights' sizes, by name."""
        options = [name for name in self.kind.options if name not in self.kind.unsized]
        return {"family": self.family, **{name: getattr(self, name) for name in options}}

    @property
    def size_text(self) -> str:
        """What decides its size, beside the family: "64 features and 4 layers"."""
        return " and ".join(
            f"{value} {name}" if isinstance(value, int) else f"{name} {value}"
            for name, value in self.shape.items()
            if name != "family"
        )

    @property
    def text(self) -> str:
        """The network in a few words: "64 features and 4 layers", "FPN, encoder resnet34"."""
        named = "" if self.family == "unet" else self.kind.title
        return ", ".join(filter(None, (named, self.size_text)))
