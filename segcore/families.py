"""The model families: what each is good for, costs and needs. Torch-free; `segcore.models.build` builds them.

A family is a network with its own options; all of them are trained, applied and compared in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from segcore.registry import Registry

PLANES = ("2d", "2.5d")
SOLID = ("3d",)
ALL = (*PLANES, *SOLID)
ENCODERS = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnext50_32x4d", "se_resnext50_32x4d",
    "densenet121", "densenet161", "mobilenet_v2", "vgg16_bn", "inceptionv4", "xception",
    "efficientnet-b0", "efficientnet-b1", "efficientnet-b3", "efficientnet-b5", "tu-regnety_032",
    "mit_b0", "mit_b1", "mit_b2", "mit_b3", "mit_b4", "mit_b5",
    "tu-convnext_tiny", "tu-convnext_small", "tu-mobilenetv3_large_100", "tu-efficientnetv2_rw_s",
)  # fmt: skip
"""Encoders that the form offers, by their names in segmentation-models-pytorch; of timm with `tu-` before."""
LEAST_PIXELS = 2
"""Pixels that every axis of a patch keeps at the deepest level."""


@dataclass(frozen=True)
class Facts:
    """What decides whether a family can work: the options, and of the data what is known.

    Parameters
    ----------
    mode : {"2d", "2.5d", "3d"}
        Dimensions of the network.
    patch : int
        Rows and columns of a patch, in px.
    layers : int
        How many times a U-Net of these options halves the image.
    slices : int
        Slices that are seen together: more than one in 2.5d only.
    encoder : str
        Name of the encoder, for families that take any.
    """

    mode: str = "2d"
    patch: int = 64
    layers: int = 4
    slices: int = 1
    encoder: str = "resnet34"


class Obstacle(NamedTuple):
    """Why a family cannot work: the option it stands at, what is wrong, and the remedy."""

    option: str
    what: str
    remedy: str

    @property
    def text(self) -> str:
        """The whole as one sentence after the other."""
        return f"{self.what} {self.remedy}"


@dataclass(frozen=True)
class Family:
    """One family of networks.

    Parameters
    ----------
    name, title : str
        In options, and for people.
    good_for, costs : str
        The two lines that explain it: what it is good for; cost, memory and the least data it wants.
    parameters : int
        At its defaults, for images of one channel and two classes.
    modes : tuple of str
        Dimensions it is for.
    kinds : tuple of str
        Tasks it can do.
    options : tuple of str
        Options of `model` that describe it, beside the family.
    like : (int, int) or None
        Features and layers of the U-Net that it is, or whose memory it takes about; None: as the options say.
    step : int
        Px that sides of patches are a multiple of; 0: 2 to the power of the layers.
    """

    name: str
    title: str
    good_for: str
    costs: str
    parameters: int
    modes: tuple[str, ...] = PLANES
    kinds: tuple[str, ...] = ("semantic",)
    options: tuple[str, ...] = ("features", "layers")
    like: tuple[int, int] | None = None
    step: int = 0
    refused: tuple[str, ...] = ()
    """Beginnings of the names of encoders that it cannot use."""
    package: str = ""
    """What must be installed for it beside this program: the name of the module."""
    is_unet: bool = False
    """Whether it is the plain U-Net: predicted by the fast path, and its cost known exactly."""

    def obstacles(self, facts: Facts) -> tuple[Obstacle, ...]:
        """Return why the family cannot work with these options and data; empty if it can."""
        rules = (_mode, _patch, _encoder)
        return tuple(found for rule in rules if (found := rule(self, facts)) is not None)

    @property
    def needs(self) -> tuple[str, ...]:
        """What it needs, in words."""
        least = f"{LEAST_PIXELS * self.step} px" if self.step else ""
        step = f"{self.step} px, at least {least}" if self.step else "2 to the power of model.layers px"
        found = [f"data.mode {' or '.join(self.modes)}", f"data.patch_size a multiple of {step}"]
        if self.refused:
            found.append(f"model.encoder none of {', '.join(f'{name}…' for name in self.refused)}")
        return (*found, *([f"the package {self.package}"] if self.package else []))


def _mode(family: Family, facts: Facts) -> Obstacle | None:
    """Refuse dimensions that the family is not for."""
    if facts.mode in family.modes:
        return None
    others = ", ".join(other.name for other in FAMILIES.values() if facts.mode in other.modes)
    return Obstacle(
        "model.family",
        f"model.family {family.name} is not for data.mode {facts.mode}: "
        f"it works in {' and '.join(family.modes)}.",
        f"Choose {family.modes[0]}, or one of {others}.",
    )


def _patch(family: Family, facts: Facts) -> Obstacle | None:
    """Refuse patches that the family cannot shrink as often as it does."""
    step, size, solid = family.step or 2**facts.layers, facts.patch, facts.mode == "3d"
    # In 3d every axis keeps four voxels at the deepest level, see segcore.strides.
    least = (4 if solid and not family.step else LEAST_PIXELS) * step
    if size % step == 0 and size >= least:
        return None
    fitting = max(least, 32, -(-size // step) * step)
    where = " in 3d" if solid else ""
    if family.step:
        return Obstacle(
            "data.patch_size",
            f"data.patch_size {size} does not fit model.family {family.name}: "
            f"it needs a multiple of {step} px of at least {least} px{where}.",
            f"Use patch size {fitting}.",
        )
    return Obstacle(
        "data.patch_size",
        f"data.patch_size {size} does not fit model.layers {facts.layers}: "
        f"{facts.layers} layers need a multiple of {step} px of at least {least} px{where}.",
        f"Use patch size {fitting} or fewer layers.",
    )


def _encoder(family: Family, facts: Facts) -> Obstacle | None:
    """Refuse encoders whose levels the family cannot use."""
    if not facts.encoder.startswith(family.refused or ("\n",)):
        return None
    return Obstacle(
        "model.encoder",
        f"model.encoder {facts.encoder} does not go with model.family {family.name}.",
        "Choose another encoder, for example resnet34.",
    )


_UNETS = (
    Family(
        "unet",
        "U-Net",
        "Everything in microscopy; the standard that all others are measured against.",
        "From a few annotated slices on. Fast on every machine; 16 features suffice for a first look.",
        31_036_546,
        ALL,
        is_unet=True,
    ),
    Family(
        "unet-small",
        "U-Net, small",
        "Clear structures, laptops, and as the student of a larger model.",
        "A seventh of the U-Net's arithmetic, a third of its memory; from a few annotated slices on.",
        4_367_666,
        ALL,
        options=(),
        like=(24, 4),
        step=16,
        is_unet=True,
    ),
    Family(
        "unet-attention",
        "U-Net with attention gates",
        "Small targets in large images: gates quiet what lies elsewhere before levels are joined.",
        "Slightly more arithmetic than the U-Net, a third more memory; from a few annotated slices on.",
        31_387_110,
        ALL,
    ),
    Family(
        "unet-residual",
        "Residual U-Net",
        "Deep networks and long runs: every block adds to what it was given, so gradients reach all of it.",
        "Slightly more arithmetic than the U-Net, a third more memory; from a few annotated slices on.",
        32_435_138,
        ALL,
    ),
)

_SMP = "segmentation_models_pytorch"


def _with_encoder(
    name: str, title: str, good_for: str, costs: str, parameters: int, **changes: Any
) -> Family:
    """Return a family of segmentation-models-pytorch: any encoder, and weights it was trained to."""
    usual: dict[str, Any] = {
        "options": ("encoder", "pretrained"),
        "like": (16, 5),
        "step": 32,
        "package": _SMP,
    }
    return Family(name, title, good_for, costs, parameters, **{**usual, **changes})


_ENCODED = (
    _with_encoder(
        "unet-encoder",
        "U-Net on an encoder",
        "Few annotations: its descending half can begin with weights from a million photographs.",
        "A sixth of the U-Net's arithmetic with resnet34; from a few annotated slices on.",
        24_430_242,
        like=(21, 5),
    ),
    _with_encoder(
        "unetplusplus",
        "U-Net++",
        "Objects of very different sizes, thin ones among them: levels are joined step by step.",
        "Twice the arithmetic and memory of the U-Net on an encoder; some dozen annotated slices.",
        26_072_482,
        like=(38, 5),
        refused=("mit_",),
    ),
    _with_encoder(
        "manet",
        "MAnet",
        "Cluttered images where attention between channels and places helps, as in pathology.",
        "About as fast as the U-Net on an encoder, more memory; some dozen annotated slices.",
        31_777_506,
        like=(25, 5),
    ),
    _with_encoder(
        "fpn",
        "FPN",
        "Regions at several scales where borders need not be sharp to the pixel.",
        "Cheap and small; its borders are four times coarser than the image.",
        23_149_250,
    ),
    _with_encoder(
        "pspnet",
        "PSPNet",
        "Large regions that distant context tells apart, such as tissue types.",
        "The cheapest here; thin structures are lost, for the result is eight times coarser.",
        1_499_554,
        like=(7, 3),
        step=8,
    ),
    _with_encoder(
        "deeplabv3plus",
        "DeepLabV3+",
        "Regions of any size with fairly sharp borders; the usual choice for photographs.",
        "About as costly as the U-Net on an encoder; from some dozen annotated slices on.",
        22_430_930,
        like=(18, 5),
        refused=("densenet", "vgg", "inception", "xception"),
    ),
    _with_encoder(
        "upernet",
        "UPerNet",
        "Large images of many classes; goes well with ConvNeXt and transformer encoders.",
        "Twice the arithmetic of the U-Net on an encoder; wants many annotations.",
        29_593_154,
        like=(22, 5),
    ),
    _with_encoder(
        "segformer",
        "SegFormer",
        "Where distant context decides; take an encoder mit_b0 to mit_b5, with pretrained weights.",
        "Cheap decoder, costly encoder; borders four times coarser than the image; many annotations.",
        21_870_530,
    ),
)

FAMILIES: Registry[Family] = Registry(
    "model family", {family.name: family for family in (*_UNETS, *_ENCODED)}
)
"""All families by name, the usual ones first."""
