"""The grey values of an image that is segmented beside those of the training images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from segcore.card import Histogram, ModelCard, Normalization
from segcore.data.histograms import DIFFERENT, difference, histogram_of, mixed, rescaled
from segcore.data.planes import strips_of
from segcore.events import NoteEvent

STRIPS = 32
"""Strips that are looked at, evenly spread: enough for a histogram, and quick in a stack of thousands."""


class Readable(Protocol):
    """Planes of one image, see `segcore.data.planes.Planes`, or of several."""

    @property
    def count(self) -> int:
        """Planes in all."""

    @property
    def channels(self) -> int:
        """Channels of a plane."""

    def size(self, index: int) -> tuple[int, int]:
        """Return rows and columns of a plane."""

    def window(self, index: int, rows: slice, columns: slice) -> np.ndarray:
        """Return part of a plane as `(C, Y, X)`."""


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
        The image; some of it is read.
    card : ModelCard
        Knows the histograms of the training images.
    own : Normalization, optional
        The image's own normalisation, where every image has one.
    """
    if len(card.histograms) != images.channels:
        return None
    new, trained = histogram_of(_some(images)), card.histograms
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


def _some(images: Readable) -> Iterator[np.ndarray]:
    """Yield evenly spread strips of an image; of small planes, whole ones."""
    planes = _spread(images.count, STRIPS)
    for index in planes:
        rows = strips_of(*images.size(index), images.channels)
        for number in _spread(len(rows), max(1, STRIPS // len(planes))):
            yield images.window(index, rows[number], slice(None))


def _spread(count: int, most: int) -> list[int]:
    """Return at most so many numbers below `count`, evenly spread."""
    chosen: list[int] = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist()
    return chosen


def _normalised(histograms: tuple[Histogram, ...], normalization: Normalization) -> tuple[Histogram, ...]:
    maps = zip(histograms, normalization.offset, normalization.scale, strict=True)
    return tuple(rescaled(histogram, offset, scale) for histogram, offset, scale in maps)
