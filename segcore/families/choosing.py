"""Choosing a family: one that is proposed for what is known, and some that are worth trying beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import NamedTuple

from segcore.families.family import Facts, Family
from segcore.families.known import FAMILIES

TRIED = 4
"""Families that are tried beside each other unless somebody names them: more share the same time."""
USUAL, SMALL = "unet", "unet-small"
LARGER = 1.5
"""From so many times the arithmetic of the small U-Net on, the usual one gives way to it."""


@dataclass(frozen=True)
class Material:
    """What is known of images and machine, beside what the options say.

    Parameters
    ----------
    graphics : bool
        Whether a graphics card computes.
    annotated : int
        Annotated slices; 0 where nobody knows.
    kind : str
        The task: "semantic", "instance" …
    """

    graphics: bool = False
    annotated: int = 0
    kind: str = "semantic"


class Proposal(NamedTuple):
    """A family, and why it and no other; one or two sentences."""

    name: str
    why: str


def propose(facts: Facts, material: Material) -> Proposal:
    """Return the family to begin with, for these options, images and machine.

    It is a rule of thumb: convolutional U-Nets hold their own against all that came after them where training
    is sound (Isensee et al. 2024, "nnU-Net revisited"), so what decides is what the machine can do in time.
    Trying several on the images themselves says more.
    """
    for proposal in _ranked(facts, material):
        family = FAMILIES[proposal.name]
        if material.kind in family.kinds and fits(family, facts):
            return proposal
    for family in FAMILIES.values():
        if material.kind in family.kinds and fits(family, facts):
            return Proposal(
                family.name, f"The first family that can work with these options. {family.good_for}"
            )
    return Proposal(USUAL, "No family can work with these options; this is the one with the fewest demands.")


def candidates(facts: Facts, material: Material, most: int = TRIED) -> tuple[str, ...]:
    """Return names of families worth trying beside each other, the proposed one first.

    Only those that can work with the options are among them; fewer than `most` where there are no more.
    """
    first = propose(facts, material).name
    mode = "volumes" if facts.mode == "3d" else "planes"
    names = dict.fromkeys((first, *_CANDIDATES[mode, material.graphics], *FAMILIES))
    chosen = [
        name
        for name in names
        if name in FAMILIES and material.kind in FAMILIES[name].kinds and fits(FAMILIES[name], facts)
    ]
    return tuple(chosen[:most])


def fits(family: Family, facts: Facts) -> bool:
    """Say whether a family is installed and can work with the options, of which it looks at its own only."""
    return is_installed(family) and not family.obstacles(own_facts(family, facts))


def own_facts(family: Family, facts: Facts) -> Facts:
    """Return the facts as they are for a family: with its own layers, and an encoder only if it takes one."""
    layers = family.like[1] if family.like else facts.layers
    return replace(facts, layers=layers, encoder=facts.encoder if "encoder" in family.options else "")


def is_installed(family: Family) -> bool:
    """Say whether the package a family comes from is there; it is not imported."""
    return not family.package or find_spec(family.package) is not None


def _ranked(facts: Facts, material: Material) -> Iterator[Proposal]:
    """Yield what would be best, then what would do if that cannot be had."""
    few = " It is content with a few annotated slices." if 0 < material.annotated < FEW else ""
    small = FAMILIES[SMALL].like
    times = (facts.features / small[0]) ** 2 if small else 1.0
    if not material.graphics and times >= LARGER:
        yield Proposal(
            SMALL,
            f"Without a graphics card it sees about {times:.0f} times as many patches in the same time as a "
            f"U-Net of {facts.features} features." + few,
        )
    if facts.mode == "3d" and material.graphics:
        yield Proposal(
            "dynunet",
            "Volumes and a graphics card: the network of nnU-Net, which is made for just that." + few,
        )
    yield Proposal(USUAL, "The standard that all others are measured against; this machine can do it." + few)


FEW = 20
"""Fewer annotated slices are few."""
_CANDIDATES: dict[tuple[str, bool], tuple[str, ...]] = {
    ("planes", False): ("unet-small", "unet", "unet-encoder", "deeplabv3plus"),
    ("planes", True): ("unet", "unet-encoder", "deeplabv3plus", "segformer-b0"),
    ("volumes", False): ("unet-small", "unet", "segresnet", "dynunet"),
    ("volumes", True): ("dynunet", "unet", "segresnet", "swin-unetr"),
}
"""What is worth trying for planes and volumes, without and with a graphics card: of different kinds each."""
