"""Class weights: how much a pixel of every class counts in the loss, from how many pixels the class has."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from segcore.errors import ConfigError

KINDS = ("none", "inverse", "square-root", "median-frequency", "by-hand")
_OPTION = "training.class_weight_values"


def class_weights(
    pixels: Mapping[int, int],
    kind: str,
    by_hand: Sequence[float] = (),
    beside: Mapping[int, int] | None = None,
) -> dict[int, float]:
    """Return the weight of every class.

    Apart from those by hand, weights are scaled so that their mean over all pixels is 1: the loss keeps its
    size, and a learning rate that suits one kind suits the others. A class without a pixel gets 1.

    Parameters
    ----------
    pixels : mapping
        Pixels of every class, ascending by label value; what is not annotated is not among them.
    kind : str
        inverse: `1 / share`. square-root: the square root of that. median-frequency: the median of the
        frequencies over the class's own, where a frequency is the share in the images that show the class
        (Eigen & Fergus 2015). by-hand: `by_hand` as it is. none: 1.
    by_hand : sequence of float
        One weight per class.
    beside : mapping, optional
        Pixels in all of the images that show a class, see `pixels_beside`; by default every image shows
        every class, and median-frequency is the same as inverse.

    Raises
    ------
    ConfigError
        `kind` is unknown, or the weights by hand do not fit the classes.

    Examples
    --------
    >>> class_weights({0: 900, 1: 100}, "inverse")
    {0: 0.5555555555555556, 1: 5.0}
    """
    if kind not in KINDS:
        raise ConfigError(f"training.class_weights {kind!r} is unknown.", f"Use one of {', '.join(KINDS)}.")
    if kind == "by-hand":
        return _by_hand(list(pixels), by_hand)
    present = {value: count for value, count in pixels.items() if count > 0}
    if kind == "none" or not present:
        return dict.fromkeys(pixels, 1.0)
    total = sum(present.values())
    if kind == "median-frequency":
        frequency = {value: count / (beside or {}).get(value, total) for value, count in present.items()}
        middle = median(frequency.values())
        raw = {value: middle / share for value, share in frequency.items()}
    else:
        power = 1.0 if kind == "inverse" else 0.5
        raw = {value: (total / count) ** power for value, count in present.items()}
    mean = sum(raw[value] * count for value, count in present.items()) / total
    return {value: raw[value] / mean if value in raw else 1.0 for value in pixels}


def pixels_beside(rows: Sequence[Mapping[int, int]]) -> dict[int, int]:
    """Return for every class how many pixels there are in all of the images (or slices) that show it.

    Parameters
    ----------
    rows : sequence of mapping
        Pixels of every class, image by image.
    """
    result: dict[int, int] = {}
    for row in rows:
        size = sum(row.values())
        for value, count in row.items():
            if count > 0:
                result[value] = result.get(value, 0) + size
    return dict(sorted(result.items()))


def _by_hand(values: list[int], weights: Sequence[float]) -> dict[int, float]:
    listed = ", ".join(map(str, values))
    if len(weights) != len(values):
        raise ConfigError(
            f"{_OPTION} has {len(weights)} weights, but there are {len(values)} classes: {listed}.",
            "Give one weight per label value, in ascending order.",
        )
    wrong = [weight for weight in weights if not (math.isfinite(weight) and weight >= 0)]
    if wrong or not any(weights):
        raise ConfigError(
            f"{_OPTION} is {', '.join(map(str, weights))}: weights must not be negative, and not all 0.",
            "Use 1 for a class that counts as usual, and more for one that is missed.",
        )
    return {value: float(weight) for value, weight in zip(values, weights, strict=True)}
