"""What is known of a family of networks, and when it cannot work. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

PLANES = ("2d", "2.5d")
SOLID = ("3d",)
ALL = (*PLANES, *SOLID)
HEADS = ("semantic", "boundary", "stars", "flows")
"""What can be learned (`model.head`) by any network that answers maps."""
LEAST_PIXELS = 2
"""Pixels that every axis of a patch keeps at the deepest level."""
NAMED = 4
"""Kinds of encoders that are named where a family tells which it cannot use."""


def kind_of(head: str) -> str:
    """Return the task that a head (`model.head`) is for, as in `Family.kinds`."""
    return head if head in ("semantic", "panoptic") else "instance"


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
    features : int
        Feature maps of the first level.
    head : str
        What is learned (`model.head`); "" where nobody has said it yet.
    """

    mode: str = "2d"
    patch: int = 64
    layers: int = 4
    slices: int = 1
    encoder: str = "resnet34"
    features: int = 64
    head: str = ""


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
        Tasks it can do: classes of pixels, by `model.head` objects one by one, or both at once.
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
    kinds: tuple[str, ...] = ("semantic", "instance")
    options: tuple[str, ...] = ("features", "layers")
    like: tuple[int, int] | None = None
    step: int = 0
    refused: tuple[str, ...] = ()
    """Beginnings of the names of encoders that it cannot use."""
    encoders: tuple[str, ...] = ()
    """The only encoders that it can use; none are named where it takes any but those refused."""
    heads: tuple[str, ...] = HEADS
    """What it can learn, see `model.head`."""
    own_loss: bool = False
    """Whether it brings a loss of its own, so that nothing else has a say in what it learns."""
    unsized: tuple[str, ...] = ("pretrained",)
    """Those of `options` that change no array of weights."""
    groups: int = 1
    """What features must be a multiple of: it normalises that many together, or has that many heads."""
    package: str = ""
    """What must be installed for it beside this program: the name of the module."""
    halvings: int = 0
    """How many times it halves every axis, whatever the voxels; 0: as planned for them."""
    slice_by_slice: bool = False
    """Whether each slice that is seen goes through it as an image of its own; all are kept until the last."""
    is_unet: bool = False
    """Whether it is the plain U-Net: predicted by the fast path, and its cost known exactly."""

    def obstacles(self, facts: Facts) -> tuple[Obstacle, ...]:
        """Return why the family cannot work with these options and data; empty if it can."""
        rules = (_mode, _head, _patch, _encoder, _features)
        return tuple(found for rule in rules if (found := rule(self, facts)) is not None)

    @property
    def needs(self) -> tuple[str, ...]:
        """What it needs, in words."""
        least = f"{LEAST_PIXELS * self.step} px" if self.step else ""
        step = f"{self.step} px, at least {least}" if self.step else "2 to the power of model.layers px"
        found = [f"data.mode {' or '.join(self.modes)}", f"data.patch_size a multiple of {step}"]
        if self.heads != HEADS:
            found.append(f"model.head {' or '.join(self.heads)}")
        if self.encoders:
            found.append(f"model.encoder {', '.join(self.encoders[:-1])} or {self.encoders[-1]}")
        if self.refused:
            named = ", ".join(f"{name}…" for name in self.refused[:NAMED])
            others = " and some others" if len(self.refused) > NAMED else ""
            found.append(f"model.encoder none of {named}{others}")
        if self.groups > 1:
            found.append(f"model.features a multiple of {self.groups}")
        return (*found, *([f"the package {self.package}"] if self.package else []))


def _mode(family: Family, facts: Facts) -> Obstacle | None:
    """Refuse dimensions that the family is not for."""
    if facts.mode in family.modes:
        return None
    return Obstacle(
        "model.family",
        f"model.family {family.name} is not for data.mode {facts.mode}: "
        f"it works in {' and '.join(family.modes)}.",
        f"Choose {family.modes[0]}, or another family, for example unet.",
    )


def _head(family: Family, facts: Facts) -> Obstacle | None:
    """Refuse to learn what the family cannot: whole objects are answered by some only, and by them alone."""
    if not facts.head or facts.head in family.heads:
        return None
    other = "unet" if facts.head in HEADS else "mask2former"
    return Obstacle(
        "model.head",
        f"model.family {family.name} cannot learn model.head {facts.head}: "
        f"it learns {' or '.join(family.heads)}.",
        f"Choose the head {family.heads[0]}, or another family, for example {other}.",
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
    if family.encoders and facts.encoder and facts.encoder not in family.encoders:
        return Obstacle(
            "model.encoder",
            f"model.encoder {facts.encoder} does not go with model.family {family.name}.",
            f"Choose one of {', '.join(family.encoders)}.",
        )
    if not facts.encoder.startswith(family.refused or ("\n",)):
        return None
    return Obstacle(
        "model.encoder",
        f"model.encoder {facts.encoder} does not go with model.family {family.name}.",
        "Choose another encoder, for example resnet34.",
    )


def _features(family: Family, facts: Facts) -> Obstacle | None:
    """Refuse numbers of features that the family cannot divide."""
    if "features" not in family.options or facts.features % family.groups == 0:
        return None
    fitting = max(family.groups, facts.features // family.groups * family.groups)
    return Obstacle(
        "model.features",
        f"model.features {facts.features} does not fit model.family {family.name}: "
        f"it needs a multiple of {family.groups}.",
        f"Use {fitting}.",
    )
