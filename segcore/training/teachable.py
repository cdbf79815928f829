"""Whether a teacher suits what it is to be asked about, found before it is asked."""

from __future__ import annotations

from collections.abc import Sequence

from segcore.card import ModelCard
from segcore.config import DataConfig, TrainingSet
from segcore.data.planes import Planes
from segcore.data.recipe import parse_recipe
from segcore.data.suitability import SIZE_TOLERANCE, pixel_sizes
from segcore.errors import ConfigError


def check_sets(sets: Sequence[TrainingSet], model: bool, distill: str) -> None:
    """Refuse sets to be taught on of which nothing would be learned.

    Parameters
    ----------
    sets : sequence of TrainingSet
        Those of the use "teach".
    model : bool
        Whether the teacher is a model.
    distill : str
        What is learned from it, see `training.distill`.

    Raises
    ------
    ConfigError
        Nobody answers for a set, its labels would not count, or there is nothing that its mask could bound.
    """
    for one in sets:
        if not one.labels and not model:
            raise ConfigError(
                f"data.sets has images to be taught on ({one.images}), but no model answers for them.",
                "Name one in training.teacher, or give the set labels that were made elsewhere.",
            )
        if not one.labels and one.mask:
            raise ConfigError(
                f"data.sets has a mask ({one.mask}) for images to be taught on that have no labels, "
                f"{one.images}, which would bound nothing: the teacher answers for whole images.",
                "Leave the mask out of the set.",
            )
        if one.labels and model and distill == "soft":
            raise ConfigError(
                f"data.sets has labels of images to be taught on ({one.images}), but training.distill soft "
                "learns from probabilities alone, which labels do not have.",
                "Set training.distill to both or hard, or leave the labels out: then the teacher answers.",
            )


def check_reading(trained: DataConfig, data: DataConfig) -> list[str]:
    """Return warnings where a teacher's images were read otherwise than those it is asked about.

    Parameters
    ----------
    trained, data : DataConfig
        Options of the teacher's training, and of this one.

    Raises
    ------
    ConfigError
        The teacher's images were repaired, these are not.
    """
    theirs = [step.text for step in parse_recipe(trained.recipe) if _of_images(step.verb) and not step.item]
    ours = [step.text for step in parse_recipe(data.recipe) if _of_images(step.verb)]
    if theirs and not ours:
        raise ConfigError(
            f"The teacher was trained on images with the repairs {'; '.join(theirs)}; data.recipe has none.",
            "Repair these images alike (data.recipe), or segment them with the teacher and give the folder "
            "of its masks as training.teacher.",
        )
    found = [("repairs", "; ".join(theirs) or "none", "; ".join(ours) or "none")]
    for name, option in (("channels", "channels"), ("endings of channels", "channel_suffixes")):
        there, here = getattr(trained, option), getattr(data, option)
        if there and here:  # files of one channel have none to choose
            found.append((name, str(there), str(here)))
    return [
        f"The teacher's images were read with other {name} ({there}) than these ({here}): what it says is "
        "poor if it sees something else here."
        for name, there, here in found
        if there != here
    ]


def remarks(images: Planes, card: ModelCard) -> list[str]:
    """Return warnings about an image that differs from those a teacher was trained on."""
    found = []
    if card.dtype and str(images.dtype) != card.dtype and str(images.dtype) != "bool":
        found.append(
            f"The teacher was trained on {card.dtype} images, this one is {images.dtype}: what it says is "
            "poor if its grey values have another range."
        )
    differing = [
        f"{axis} {here:.4g} instead of {trained:.4g} µm"
        for axis, here, trained in pixel_sizes(images.source.pixel_size, card)
        if abs(here / trained - 1) > SIZE_TOLERANCE
    ]
    if differing:
        found.append(
            f"The teacher was trained on pixels of another size ({', '.join(differing)}): what it says may "
            "be poor."
        )
    return found


def _of_images(verb: str) -> bool:
    return verb.startswith("images.")
