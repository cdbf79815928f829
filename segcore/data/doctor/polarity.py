"""Images whose brightness is turned around: what is bright in the others is dark in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segcore.data.doctor.exposure import LISTED
from segcore.data.doctor.proposal import Proposal
from segcore.data.doctor.survey import Survey, evenly
from segcore.data.manifest import ONE_CLASS
from segcore.data.report import Finding
from segcore.data.scan import FEW_VALUES

CLEAR = 0.35
"""Classes must differ in brightness by so many standard deviations of the image for their order to count."""
MINORITY = 0.34
"""At most this share of the images is called turned around: of two halves nobody knows which is right."""
CANDIDATES = 24


@dataclass(frozen=True)
class Brightness:
    """Mean grey value of every class of an image, in standard deviations over the classes' pixels.

    Parameters
    ----------
    means : mapping
        From the label value to the mean, of mean 0 over all pixels.
    pixels : mapping
        Pixels of every class.
    """

    means: Mapping[float, float]
    pixels: Mapping[float, int]


def turned_around(images: Sequence[Brightness]) -> list[tuple[int, float]]:
    """Return which images have their classes in the opposite order of brightness, and how surely (0 to 1).

    Images are compared with each other by the covariance of their class means; the majority is right.
    """
    usable = [at for at, image in enumerate(images) if _spread(image) >= CLEAR]
    if len(usable) < 3:
        return []
    candidates = [usable[at] for at in evenly(len(usable), CANDIDATES, pairs=False)]
    signs = np.array(
        [[np.sign(_agreement(images[one], images[two])) for two in usable] for one in candidates]
    )
    # The candidate that agrees with most others, in either sense, is the measure of all.
    measure = int(np.abs(signs.sum(1)).argmax())
    sign = signs[measure] * (np.sign(signs[measure].sum()) or 1)
    turned = [at for at, mark in zip(usable, sign, strict=True) if mark < 0]
    if not turned or len(turned) > MINORITY * len(usable):
        return []
    return [(at, min(1.0, _spread(images[at]) / (3 * CLEAR))) for at in turned]


def judge_polarity(survey: Survey) -> list[Proposal]:
    """Propose to invert images whose objects are dark where they are bright in the others, or reversed."""
    labels_as_objects = survey.data.labels_as in ONE_CLASS
    proposals = []
    for channels in sorted({subject.channels for subject in survey.subjects}):
        numbers = [
            at for at, subject in enumerate(survey.subjects) if subject.channels == channels and survey.of(at)
        ]
        images = [_brightness(survey, at, labels_as_objects) for at in numbers]
        found = turned_around(images)
        if found:
            proposals.append(_propose(survey, [(numbers[at], sure) for at, sure in found], len(numbers)))
    return proposals


def _propose(survey: Survey, found: Sequence[tuple[int, float]], among: int) -> Proposal:
    names = [survey.subjects[at].name for at, _ in found]
    verb = "is" if len(names) == 1 else "are"
    what = f"{len(names)} of {among} images {verb} turned around: what is bright in the others is dark there."
    where = ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")
    finding = Finding(level="warning", what=what, where=where, remedy="Invert these images on reading.")
    lines = tuple(f"[{name}] images.invert" for name in names)
    # Two kinds of microscopy in one set are no mistake, and a network can learn both.
    return Proposal(
        "inverted", finding, lines, optional=True, confidence=float(np.mean([sure for _, sure in found]))
    )


def _brightness(survey: Survey, subject: int, objects: bool) -> Brightness:
    sums: dict[float, float] = {}
    pixels: dict[float, int] = {}
    variance = 0.0
    scans = [seen for seen in survey.of(subject) if seen.labels is not None and seen.labels.values]
    for seen in scans:
        variance += seen.image.deviation**2 / len(scans)
        assert seen.labels is not None
        for value, known in seen.labels.values.items():
            if value == survey.data.unlabelled_value:
                continue
            name = float(value > 0) if objects or len(seen.labels.values) > FEW_VALUES else value
            sums[name] = sums.get(name, 0.0) + known.grey * known.pixels
            pixels[name] = pixels.get(name, 0) + known.pixels
    total = sum(pixels.values())
    if not total or variance <= 0:
        return Brightness({}, {})
    mean = sum(sums.values()) / total
    return Brightness({name: (sums[name] / pixels[name] - mean) / variance**0.5 for name in sums}, pixels)


def _spread(image: Brightness) -> float:
    """Return how far the classes lie apart in brightness."""
    return max(image.means.values()) - min(image.means.values()) if len(image.means) > 1 else 0.0


def _agreement(one: Brightness, two: Brightness) -> float:
    common = sorted(one.means.keys() & two.means.keys())
    if len(common) < 2:
        return 0.0
    first = np.array([one.means[name] for name in common])
    second = np.array([two.means[name] for name in common])
    return float(((first - first.mean()) * (second - second.mean())).sum())
