"""Whether an image suits a model: channels, type of the grey values, size of the pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segcore.axes import COLOUR_NOTE
from segcore.card import ModelCard, PixelSize
from segcore.config import DataConfig
from segcore.data.planes import Planes
from segcore.data.recipe import parse_recipe
from segcore.errors import ModelError

SIZE_TOLERANCE = 0.05
"""Relative difference of the pixel size from that of the training images that is worth a warning."""


def check_image(images: Planes, card: ModelCard, rescale: bool = False) -> list[str]:
    """Return warnings about an image that differs from what the model was trained on.

    Parameters
    ----------
    images : Planes
        The image.
    card : ModelCard
        Describes the model.
    rescale : bool
        Whether the image is going to be resampled to the model's pixel size (`inference.rescale`).

    Raises
    ------
    ModelError
        The model cannot be applied to the image.
    """
    _check_channels(images, card)
    warnings = []
    if card.dtype and str(images.dtype) != card.dtype and images.dtype != np.dtype(bool):
        warnings.append(
            f"The model was trained on {card.dtype} images, this one is {images.dtype}: "
            "if its grey values have another range, the result will be poor."
        )
    if card.mode != "2d" and images.depth == 1:
        seen = "slices above and below" if card.mode == "2.5d" else "blocks of slices"
        warnings.append(
            f"The model looks at {seen}, but this image is a single slice ({images.shape_text}): the result "
            "will be poor."
        )
    differing = [
        f"{axis} {here:.4g} instead of {trained:.4g} µm"
        for axis, here, trained in pixel_sizes(images.source.pixel_size, card)
        if abs(here / trained - 1) > SIZE_TOLERANCE
    ]
    if differing and not rescale:
        warnings.append(
            f"The pixels have another size than in training ({', '.join(differing)}): "
            "let the image be resampled (inference.rescale) if the result is poor."
        )
    if rescale and not pixel_sizes(images.source.pixel_size, card):
        whose = "the model's training images" if images.source.pixel_size.x else "this image"
        warnings.append(
            f"The pixel size cannot be adapted: that of {whose} is unknown. Give it with data.pixel_size."
        )
    return warnings


def remarks_on(images: Planes, card: ModelCard, rescale: bool = False) -> list[str]:
    """Return what is to be said of an image before it is segmented: what was assumed, and `check_image`.

    That its colours are read as channels is no news to a model that was trained on colours.

    Raises
    ------
    ModelError
        See `check_image`.
    """
    warnings = check_image(images, card, rescale)
    known = "C" in card.axes and card.channels == images.channels
    notes = [note for note in images.source.notes if not (known and note.endswith(COLOUR_NOTE))]
    return notes + warnings


def pixel_sizes(there: PixelSize, card: ModelCard) -> list[tuple[str, float, float]]:
    """Return (axis, size here, size in training) for the axes of the network whose size both know."""
    trained = card.pixel_size
    axes = [("Y", there.y, trained.y), ("X", there.x, trained.x)]
    if card.mode == "3d":
        axes.insert(0, ("Z", there.z, trained.z))
    return [(axis, here, then) for axis, here, then in axes if here and then]


def size_notes(sizes: Sequence[PixelSize]) -> list[str]:
    """Return what is to be said of the pixel sizes of a set of images: that they differ, if they do."""
    ranges = []
    for axis in ("z", "y", "x"):
        known = [size for size in (getattr(each, axis) for each in sizes) if size]
        if known and max(known) / min(known) - 1 > SIZE_TOLERANCE:
            ranges.append(f"{axis.upper()} {min(known):.4g} to {max(known):.4g} µm")
    if not ranges:
        return []
    return [
        f"The images differ in pixel size ({', '.join(ranges)}): they are read as they are, and a model "
        "trained on them keeps that of the first."
    ]


def as_trained(data: DataConfig, trained: DataConfig) -> DataConfig:
    """Return the options with the channels of those of the training, where nobody chose others.

    Likewise the repairs that were made to all images of the training: the network knows images only so. They
    go before repairs of labels that somebody chose, not beside others of images.
    """
    names = ("channels", "channel_suffixes")
    given = data.model_fields_set
    taken = {name: getattr(trained, name) for name in names if name not in given or not getattr(data, name)}
    if not any(step.verb.startswith("images.") for step in parse_recipe(data.recipe)):
        steps = parse_recipe(trained.recipe)
        repairs = [step.text for step in steps if step.verb.startswith("images.") and not step.item]
        taken["recipe"] = repairs + list(data.recipe)
    return data.model_copy(update={name: value for name, value in taken.items() if value})


def _check_channels(images: Planes, card: ModelCard) -> None:
    if images.channels == card.channels:
        return
    example = images.source.axes.replace("C", "Z") if card.channels == 1 and images.count == 1 else "CYX"
    names = f" ({', '.join(card.channel_names)})" if card.channel_names else ""
    raise ModelError(
        f"The model was trained on {_count(card.channels, 'channel')}{names}, the image has "
        f"{images.channels} ({images.shape_text}).",
        f"Choose an image with the same channels, or some of its channels (data.channels); if its axes are "
        f"misread, give them, as in {example}.",
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
