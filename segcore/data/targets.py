"""Targets: label planes as class indices, IGNORE where nobody annotated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from segcore.config import DataConfig
from segcore.data.collection import INDEXED, Collection, extents, reading
from segcore.data.extents import Extent
from segcore.data.index import key_of, recall
from segcore.data.manifest import count_values, encode_labels, object_numbers
from segcore.data.opening import Opened
from segcore.data.splits import parse_slices
from segcore.errors import ConfigError, DataError
from segcore.tiling import IGNORE

WHOLE = slice(None)
MOST_CLASSES = 256
"""More values are objects, not classes."""


@dataclass(frozen=True)
class LabelRule:
    """How label values are read.

    Parameters
    ----------
    labels_as : str
        "classes", "foreground" or "objects".
    unlabelled : int, optional
        The value that says that nobody annotated a pixel.
    slices : frozenset of int, optional
        The annotated planes, counted through all images; None: all of them.
    """

    labels_as: str = "classes"
    unlabelled: int | None = None
    slices: frozenset[int] | None = None

    @classmethod
    def of(cls, data: DataConfig) -> LabelRule:
        """Return the rule that the options state."""
        slices = frozenset(parse_slices(data.annotated_slices)) if data.annotated_slices else None
        return cls(data.labels_as, data.unlabelled_value, slices)

    def hidden(
        self, opened: Opened, plane: int, position: int, rows: slice = WHOLE, columns: slice = WHOLE
    ) -> np.ndarray | None:
        """Return where nobody annotated part of a plane, `(Y, X)` bool; None: all of it is annotated.

        Parameters
        ----------
        opened : Opened
            The image, with labels.
        plane : int
            Plane of the image.
        position : int
            Its number among all planes of the collection.
        rows, columns : slice
            The part.
        """
        assert opened.labels is not None
        if self.slices is not None and position not in self.slices:
            height, width = opened.images.height, opened.images.width
            return np.ones((len(range(*rows.indices(height))), len(range(*columns.indices(width)))), bool)
        hidden: np.ndarray | None = None
        if self.unlabelled is not None:
            hidden = opened.labels.window(plane, rows, columns)[0] == self.unlabelled
        for mask in opened.masks:
            outside = mask.window(plane, rows, columns)[0] == 0
            hidden = outside if hidden is None else hidden | outside
        return hidden


def check_annotated_slices(collection: Collection, rule: LabelRule) -> None:
    """Make sure that the slices that are said to be annotated exist.

    Raises
    ------
    ConfigError
        Some do not.
    """
    beyond = sorted(index for index in rule.slices or () if index >= collection.count)
    if beyond:
        names = ", ".join(map(str, beyond[:8])) + (", …" if beyond[8:] else "")
        raise ConfigError(
            f"data.annotated_slices names {names}, but there are the slices 0 to {collection.count - 1}.",
            "Slices are counted from 0, through all images.",
        )


def count_plane(collection: Collection, number: int, plane: int, rule: LabelRule) -> dict[int, int]:
    """Return how many annotated pixels of a plane have which value.

    Raises
    ------
    DataError
        The labels cannot be read, or (`FractionError`) some are not whole numbers.
    """
    opened = collection.open(number)
    assert opened.labels is not None
    position = collection.position(number, plane)
    if rule.slices is not None and position not in rule.slices:
        return {}
    hidden = rule.hidden(opened, plane, position)
    values = opened.labels.read(plane)[0]
    return count_values(values if hidden is None else values[~hidden], rule.labels_as)


def encode_plane(
    collection: Collection,
    number: int,
    plane: int,
    class_values: tuple[int, ...],
    rule: LabelRule,
    rows: slice = WHOLE,
    columns: slice = WHOLE,
) -> np.ndarray:
    """Return class indices `(Y, X)`, int16, of a plane or part of it; IGNORE where nobody annotated.

    Raises
    ------
    DataError
        The labels cannot be read, or hold values that are not among `class_values`.
    """
    values, hidden = _seen(collection, number, plane, rule, rows, columns)
    if hidden is None:
        return encode_labels(values, class_values, rule.labels_as)
    if hidden.all():
        return np.full(values.shape, IGNORE, np.int16)
    encoded = encode_labels(values, class_values, rule.labels_as)
    encoded[hidden] = IGNORE
    return encoded


def number_plane(
    collection: Collection,
    number: int,
    plane: int,
    rule: LabelRule,
    rows: slice = WHOLE,
    columns: slice = WHOLE,
) -> np.ndarray:
    """Return numbers of objects `(Y, X)`, int32, of a plane or part of it; IGNORE where nobody annotated.

    The class of an object is 1, that of the background 0, whatever the number (`encode_plane`).

    Raises
    ------
    DataError
        The labels cannot be read, or are not whole numbers.
    """
    values, hidden = _seen(collection, number, plane, rule, rows, columns)
    if hidden is not None and hidden.all():
        return np.full(values.shape, IGNORE, np.int32)
    numbers = object_numbers(values)
    if hidden is not None:
        numbers[hidden] = IGNORE
    return numbers


def _seen(
    collection: Collection, number: int, plane: int, rule: LabelRule, rows: slice, columns: slice
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return label values `(Y, X)` of part of a plane, and where nobody annotated it."""
    opened = collection.open(number)
    assert opened.labels is not None
    hidden = rule.hidden(opened, plane, collection.position(number, plane), rows, columns)
    values = opened.labels.window(plane, rows, columns)[0]
    if hidden is None or hidden.all():
        return values, hidden
    # A value that is there stands in for those nobody looks at: the unannotated may be no whole number.
    return np.where(hidden, values[~hidden].flat[0], values), hidden


def extents_of(collection: Collection, rule: LabelRule, per_plane: Sequence[frozenset[int]]) -> list[Extent]:
    """Return what a split must know of images and their labels.

    Parameters
    ----------
    collection : Collection
        The images.
    rule : LabelRule
        How label values are read.
    per_plane : sequence of frozenset of int
        Label values of all planes, if known.

    Raises
    ------
    DataError
        The labels cannot be read.
    """
    found = extents(collection, per_plane)
    annotated = [index for index, values in enumerate(per_plane) if values]
    if len(annotated) == 1 and len(per_plane[annotated[0]]) <= MOST_CLASSES:  # its rows will be divided
        number, plane = collection.locate(annotated[0])
        values = tuple(sorted(per_plane[annotated[0]]))
        label_YX = encode_plane(collection, number, plane, values, rule)
        counts = [np.bincount(row[row >= 0], minlength=len(values)) for row in label_YX]
        rows = tuple(tuple(row.tolist()) for row in counts)
        found[number] = replace(found[number], row_counts=rows)
    return found


@dataclass(frozen=True)
class ClassTable:
    """Which label values occur, and where."""

    pixels: dict[int, int]
    """Annotated pixels of every value, ascending by value."""
    per_plane: tuple[frozenset[int], ...]
    """Values of every plane, counted through all images; empty where nothing is annotated."""


def table_of(collection: Collection, rule: LabelRule) -> ClassTable:
    """Read every label plane once and count its values.

    Raises
    ------
    DataError
        A plane cannot be read, or nothing is annotated at all.
    ConfigError
        A slice that is said to be annotated does not exist.
    """
    check_annotated_slices(collection, rule)

    def count(number: int) -> list[list[tuple[int, int]]]:
        planes = range(collection.entries[number].planes)
        return [list(count_plane(collection, number, plane, rule).items()) for plane in planes]

    pixels: dict[int, int] = {}
    planes = []
    numbers = range(len(collection.entries))
    for item in recall([_key(collection, number, rule) for number in numbers], count):
        for counts in item:
            for value, pixel_count in counts:
                pixels[value] = pixels.get(value, 0) + pixel_count
            planes.append(frozenset(value for value, _ in counts))
    if not pixels:
        raise DataError(
            "Nothing is annotated: no pixel is left once those that count as unannotated are taken away.",
            "Check data.unlabelled_value, data.mask and data.annotated_slices.",
        )
    return ClassTable(dict(sorted(pixels.items())), tuple(planes))


def _key(collection: Collection, number: int, rule: LabelRule) -> str | None:
    """Return under which key the counts of an image are kept; None where they depend on the other images."""
    data, item = collection.data, collection.entries[number].item
    if collection.count < INDEXED or rule.slices is not None or collection.has_table:
        return None
    return key_of("classes", item.addresses, reading(data, item))
