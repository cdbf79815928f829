"""The grey values of an image that is segmented beside those of the training images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from segcore.card import Histogram, ModelCard, Normalization
from segcore.data.histograms import DIFFERENT, difference, histogram_of, mixed, rescaled
from segcore.events import NoteEvent

PLANES = 32
"""Planes that are looked at, evenly spread: enough for a histogram, and quick in a stack of thousands."""


class Readable(Protocol):
    """Planes of one image, see `segcore.data.planes.Planes`, or of several."""

    @property
    def count(self) -> int:
        """Planes in all."""

    @property
    def channels(self) -> int:
        """Channels of a plane."""

    def read(self, index: int) -> np.ndarray:
        """Return a plane `(C, Y, X)`."""


@dataclass(frozen=True)
class Comparison:
    """Histograms of the channels of an image and of the training images, and how far apart they are.

    With a normalisation per image, both are of normalised values: another exposure is no difference then.
    """

    new: tuple[Histogram, ...]
    trained: tuple[Histogram, ...]
    differences: tuple[float, ...]
    names: tuple[str, ...]

    def warning(self) -> NoteEvent | None:
        """Return what to tell the person, if some channel differs much."""
        far = [
            f"{name} {apart:.1f}".strip()
            for name, apart in zip(self.names, self.differences, strict=True)
            if apart > DIFFERENT
        ]
        if not far:
            return None
        return NoteEvent(
            level="warning",
            text="The grey values are not those of the training images: on average they lie "
            f"{', '.join(far)} standard deviations away (up to {DIFFERENT:g} is usual).",
            remedy="Check exposure, bit depth, channel and polarity, or train with statistics of every image "
            "(data.normalize_per).",
        )

    def describe(self) -> dict[str, Any]:
        """Return what is written into metadata.json."""
        return {
            "new": [histogram.model_dump() for histogram in self.new],
            "trained": [histogram.model_dump() for histogram in self.trained],
            "differences": list(self.differences),
        }


def compare_grey_values(
    images: Readable, card: ModelCard, own: Normalization | None = None
) -> Comparison | None:
    """Compare an image with the training images; None where the model knows no histograms.

    Parameters
    ----------
    images : Readable
        The image; some of its planes are read.
    card : ModelCard
        Knows the histograms of the training images.
    own : Normalization, optional
        The image's own normalisation, where every image has one.
    """
    if len(card.histograms) != images.channels:
        return None
    chosen = np.unique(np.linspace(0, images.count - 1, min(PLANES, images.count)).round().astype(int))
    new, trained = histogram_of(images.read(int(index)) for index in chosen), card.histograms
    if own is not None:
        new, trained = _normalised(new, own), _normalised(trained, card.normalization)
    differences = tuple(difference(one, other) for one, other in zip(new, trained, strict=True))
    names = card.channel_names
    if len(names) != len(new):
        names = tuple(f"channel {number}:" for number in range(len(new))) if len(new) > 1 else ("",)
    return Comparison(new, trained, differences, names)


def pooled(comparisons: Sequence[Comparison]) -> Comparison:
    """Return the comparison of several images together, at least one."""
    first = comparisons[0]
    channels = zip(*(comparison.new for comparison in comparisons), strict=True)
    new = first.new if len(comparisons) == 1 else tuple(mixed(found) for found in channels)
    differences = tuple(difference(one, other) for one, other in zip(new, first.trained, strict=True))
    return Comparison(new, first.trained, differences, first.names)


def _normalised(histograms: tuple[Histogram, ...], normalization: Normalization) -> tuple[Histogram, ...]:
    maps = zip(histograms, normalization.offset, normalization.scale, strict=True)
    return tuple(rescaled(histogram, offset, scale) for histogram, offset, scale in maps)
