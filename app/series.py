"""Series: the numbers of all epochs by kind, as curves draw and tables list them; and where gain ended."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from app.views import class_colour
from segcore.events import EpochEvent

TRAIN = "#0072B2"
VALIDATION = "#E69F00"
QUALITY = "#009E73"
DIGITS = 5
"""Significant digits that reach the page: more than a chart or a table can show."""
Values = list[float | None]


@dataclass(frozen=True)
class Kind:
    """What can be chosen to be drawn.

    Parameters
    ----------
    title : str
        What stands above the chart, with the unit.
    share : bool
        Values go from 0 to 1, and so does the axis.
    log : bool
        A logarithmic axis shows more of it.
    """

    title: str
    share: bool = False
    log: bool = False


KINDS: Mapping[str, Kind] = {
    "loss": Kind("Loss", log=True),
    "dice": Kind("Dice", share=True),
    "objects": Kind("Objects", share=True),
    "class_dice": Kind("Dice per class", share=True),
    "class_iou": Kind("IoU per class", share=True),
    "class_share": Kind("Predicted share per class", share=True),
    "contest": Kind("Adversary", log=True),
    "learning_rate": Kind("Learning rate", log=True),
    "speed": Kind("Patches per second"),
    "seconds": Kind("Seconds per epoch"),
    "loader_wait": Kind("Waiting for patches", share=True),
    "device_use": Kind("Device busy", share=True),
    "memory": Kind("Peak memory, GB"),
}
USUAL = ("loss", "dice", "objects")
"""Drawn unless somebody chooses; objects where they are learned only."""
ALWAYS = ("loss", "dice", "learning_rate", "speed", "seconds")
"""What every epoch reports; a run of which none is a number has learned nothing, and shows it."""


@dataclass(frozen=True)
class Series:
    """One number over the epochs.

    Parameters
    ----------
    kind : str
        A key of `KINDS`.
    key : str
        The column's name in a CSV file.
    name : str
        What a legend calls it.
    colour : str
        `#rrggbb`; a class has the same everywhere.
    values : list of float or None
        One per epoch; None where it was not reported or is no finite number.
    """

    kind: str
    key: str
    name: str
    colour: str
    values: Values

    @property
    def short(self) -> Values:
        """The values with the digits that reach the page."""
        return [rounded(value) for value in self.values]


Read = Callable[[EpochEvent], float | None]


def _loader_wait(event: EpochEvent) -> float | None:
    # Nobody who has not said it has waited for 0 s.
    return event.loader_wait if "loader_wait" in event.model_fields_set else None


_PLAIN: tuple[tuple[str, str, str, str, Read], ...] = (
    ("loss", "train_loss", "training", TRAIN, lambda event: event.train_loss),
    ("loss", "val_loss", "validation", VALIDATION, lambda event: event.val_loss),
    ("dice", "train_dice", "training", TRAIN, lambda event: event.train_dice),
    ("dice", "val_dice", "validation", VALIDATION, lambda event: event.val_dice),
    ("objects", "val_f1", "F1", VALIDATION, lambda event: event.val_f1),
    ("objects", "val_ap50", "average precision", TRAIN, lambda event: event.val_ap50),
    ("objects", "val_pq", "panoptic quality", QUALITY, lambda event: event.val_pq),
    ("contest", "train_adversarial", "predictions", TRAIN, lambda event: event.train_adversarial),
    ("contest", "train_discriminator", "adversary", VALIDATION, lambda event: event.train_discriminator),
    ("learning_rate", "learning_rate", "learning rate", TRAIN, lambda event: event.learning_rate),
    ("speed", "patches_per_second", "patches per second", TRAIN, lambda event: event.patches_per_second),
    ("seconds", "seconds", "seconds per epoch", TRAIN, lambda event: event.seconds),
    ("loader_wait", "loader_wait", "waiting for patches", TRAIN, _loader_wait),
    ("device_use", "device_use", "device busy", TRAIN, lambda event: event.device_use),
    ("memory", "memory_gb", "peak memory", TRAIN, lambda event: event.memory / 1e9 if event.memory else None),
)
_CLASSES = (
    ("class_dice", "dice", "val_dice_per_class"),
    ("class_iou", "iou", "val_iou_per_class"),
    ("class_share", "predicted_share", "val_predicted_share"),
)


def all_series(history: Sequence[EpochEvent], names: Mapping[str, str] | None = None) -> list[Series]:
    """Return every number that epochs report, in the order of `KINDS`; newer ones only if any did.

    Parameters
    ----------
    history : sequence of EpochEvent
        The epochs so far, ascending; those of earlier versions lack what is newer.
    names : mapping of str to str, optional
        What the label values are called.
    """
    found = [
        Series(kind, key, name, colour, [_finite(read(event)) for event in history])
        for kind, key, name, colour, read in _PLAIN
    ]
    order = {value: index for index, value in enumerate(class_values(history))}
    for kind, short, attribute in _CLASSES:
        tables: list[Mapping[str, float]] = [getattr(event, attribute) for event in history]
        for value, index in order.items():
            values = [_finite(table.get(value)) for table in tables]
            found.append(
                Series(kind, f"{short}_{value}", class_name(value, names), class_colour(index), values)
            )
    place = {kind: index for index, kind in enumerate(KINDS)}
    told = [one for one in found if one.kind in ALWAYS or any(value is not None for value in one.values)]
    return sorted(told, key=lambda series: place[series.kind])


def class_values(history: Sequence[EpochEvent]) -> list[str]:
    """Return the label values that any epoch scored, ascending, as their events write them."""
    seen = {value for event in history for value in event.val_dice_per_class}
    seen |= {value for event in history for value in event.val_predicted_share}
    return sorted(seen, key=lambda value: (len(value), value))


def class_name(value: str, names: Mapping[str, str] | None = None) -> str:
    """Return what a legend calls a class.

    Examples
    --------
    >>> class_name("255", {"255": "cell"}), class_name("255")
    ('255 cell', 'class 255')
    """
    name = (names or {}).get(value, value)
    return f"class {value}" if name == value else f"{value} {name}"


def smooth(values: Values, strength: float) -> Values:
    """Return the exponential running mean, free of the pull towards zero at the start.

    Parameters
    ----------
    values : list of float or None
        None leaves a gap and does not count.
    strength : float
        What is left of the weight of an epoch at the next one, 0 to < 1; 0 changes nothing.
    """
    if strength <= 0:
        return values
    total = weight = 0.0
    result: Values = []
    for value in values:
        if value is None:
            result.append(None)
            continue
        total = strength * total + (1 - strength) * value
        weight = strength * weight + (1 - strength)
        result.append(total / weight)
    return result


def last_gain(history: Sequence[EpochEvent], min_gain: float) -> int | None:
    """Return the epoch of the last gain in validation Dice; after it the run stands on a plateau.

    What the run says of itself counts; epochs of earlier versions do not say it, and are compared here.
    """
    if not history:
        return None
    last = history[-1]
    if "without_gain" in last.model_fields_set:
        return last.epoch - last.without_gain
    gained, reached = history[0].epoch, -math.inf
    for event in history:
        if math.isfinite(event.val_score) and event.val_score > reached + (min_gain if reached >= 0 else 0):
            gained, reached = event.epoch, event.val_score
    return gained


def rounded(value: float | None) -> float | None:
    """Return the value with `DIGITS` digits."""
    return None if value is None else float(f"{value:.{DIGITS}g}")


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
