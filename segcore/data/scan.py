"""Facts about images and labels, gathered plane by plane in one pass; `validate` puts them into words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from segcore.data.collection import Collection
from segcore.data.manifest import FractionError
from segcore.data.targets import LabelRule, check_annotated_slices, count_plane

FEW_VALUES = 20
"""An image with no more values than this looks like labels; labels with more look like numbered objects."""
MAX_CLASSES = 255
MAX_TABLE = 4096
"""Values counted before it is clear that these are no classes."""

Step = Callable[[], None]


@dataclass
class ImageFacts:
    """What one pass over an image stack tells."""

    constant: list[int] = field(default_factory=list)
    """Planes in which every channel has one value throughout."""
    not_finite: list[int] = field(default_factory=list)
    """Planes with NaN or infinite values."""
    flat_channels: list[int] = field(default_factory=list)
    """Channels with one value throughout all planes."""
    any_finite: bool = False
    few_values: bool = True
    """At most `FEW_VALUES` values in all, and whole numbers."""


@dataclass
class LabelFacts:
    """What one pass over a label stack tells."""

    table: dict[int, int] = field(default_factory=dict)
    """Pixel count of every value, ascending; incomplete if `too_many`."""
    per_plane: list[frozenset[int] | None] = field(default_factory=list)
    """Values of every plane, None where nobody looked; ends early if `too_many` or `fractional`."""
    floats: str = ""
    """The type of labels that are stored as floats."""
    fractional: bool = False
    too_many: bool = False
    """More than `MAX_TABLE` values: counting stopped."""
    unlabelled: bool = False
    """Whether the value that says that nobody annotated a pixel was seen."""

    @property
    def many_values(self) -> bool:
        """Whether this looks like grey values or numbered objects rather than classes."""
        return self.fractional or self.too_many or len(self.table) > FEW_VALUES


def scan_images(collection: Collection, planes: Sequence[int], step: Step) -> ImageFacts:
    """Read planes of a collection once, by their numbers.

    Raises
    ------
    DataError
        A plane cannot be read.
    """
    facts = ImageFacts()
    low = np.full(collection.channels, np.inf)
    high = np.full(collection.channels, -np.inf)
    values: set[float] = set()
    for index in planes:
        plane_CYX = collection.read(index)
        finite = np.isfinite(plane_CYX) if plane_CYX.dtype.kind == "f" else None
        if finite is not None and not finite.all():
            facts.not_finite.append(index)
            lowest = np.where(finite, plane_CYX, np.inf).min(axis=(1, 2)).astype(np.float64)
            highest = np.where(finite, plane_CYX, -np.inf).max(axis=(1, 2)).astype(np.float64)
        else:
            lowest = plane_CYX.min(axis=(1, 2)).astype(np.float64)
            highest = plane_CYX.max(axis=(1, 2)).astype(np.float64)
        if (lowest >= highest).all():
            facts.constant.append(index)
        low, high = np.minimum(low, lowest), np.maximum(high, highest)
        if facts.few_values:
            values.update(np.unique(plane_CYX).tolist())
            facts.few_values = len(values) <= FEW_VALUES and all(
                float(value).is_integer() for value in values
            )
        step()
    facts.any_finite = bool((low <= high).any())
    facts.flat_channels = [int(channel) for channel in np.flatnonzero(low == high)]
    return facts


def scan_labels(collection: Collection, rule: LabelRule, planes: Sequence[int], step: Step) -> LabelFacts:
    """Read label planes of a collection once, or until it is clear that they hold no classes.

    Raises
    ------
    DataError
        A plane cannot be read.
    ConfigError
        A slice that is said to be annotated does not exist.
    """
    check_annotated_slices(collection, rule)
    facts = LabelFacts()
    chosen = frozenset(planes)
    for index in range(collection.count):
        if index not in chosen:
            facts.per_plane.append(None)
            continue
        number, plane = collection.locate(index)
        opened = collection.open(number)
        assert opened.labels is not None
        if opened.labels.dtype.kind == "f":
            facts.floats = str(opened.labels.dtype)
        try:
            counts = count_plane(collection, number, plane, rule)
        except FractionError:
            facts.fractional = True
            break
        if rule.unlabelled is not None and not facts.unlabelled:
            facts.unlabelled = bool((opened.labels.read(plane) == rule.unlabelled).any())
        for value, count in counts.items():
            facts.table[value] = facts.table.get(value, 0) + count
        facts.per_plane.append(frozenset(counts))
        if len(facts.table) > MAX_TABLE:
            facts.too_many = True
            break
        step()
    facts.table = dict(sorted(facts.table.items()))
    return facts
