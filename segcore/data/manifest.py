"""What trains and what validates; label values as class indices and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segcore.config import DataConfig
from segcore.data.planes import Planes
from segcore.errors import ConfigError, DataError

ROW_STEP = 16
"""A single plane is split at a multiple of this many rows."""
MAX_SLICES = 1_000_000


@dataclass(frozen=True)
class Region:
    """Rows of one plane; `rows` is `(start, stop)`."""

    plane: int
    rows: tuple[int, int]


@dataclass(frozen=True)
class Split:
    """The regions that train and those that validate; they share no pixel."""

    train: tuple[Region, ...]
    validation: tuple[Region, ...]
    notes: tuple[str, ...] = ()


def split_planes(count: int, height: int, data: DataConfig) -> Split:
    """Divide the planes of a stack into training and validation.

    Explicit `data.validation_slices` go first; otherwise `data.validation_fraction` of the planes, evenly
    spread, at least one and never all. The last rows of a single plane validate.

    Parameters
    ----------
    count : int
        Planes of the stack.
    height : int
        Rows of a plane.
    data : DataConfig
        Options.

    Raises
    ------
    ConfigError
        A validation slice is not in the stack, nothing is left to train on, or a single plane is too small to
        be divided.
    """
    if data.validation_slices:
        chosen = _explicit(count, data.validation_slices)
    elif count == 1:
        return _split_rows(height, data)
    else:
        amount = min(max(1, round(count * data.validation_fraction)), count - 1)
        chosen = tuple(int((number + 0.5) * count / amount) for number in range(amount))
    whole = (0, height)
    return Split(
        train=tuple(Region(plane, whole) for plane in range(count) if plane not in set(chosen)),
        validation=tuple(Region(plane, whole) for plane in chosen),
    )


def parse_slices(text: str) -> tuple[int, ...]:
    """Return the slices a text like "0,5,10-12" names, ascending, each once.

    Raises
    ------
    ConfigError
        The text is not of this form, or a range runs backwards.

    Examples
    --------
    >>> parse_slices("10-12, 0,5")
    (0, 5, 10, 11, 12)
    """
    chosen: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            start, stop = int(first), int(last) if last.strip() else int(first)
        except ValueError:
            raise ConfigError(
                f"{part.strip()!r} names no slices.", "Write them like 24-29 or 0,5,10-12."
            ) from None
        if not 0 <= start <= stop or stop >= MAX_SLICES:
            raise ConfigError(
                f"{part.strip()!r} is not a range of slices: it must rise, and stay below {MAX_SLICES}.",
                "Write it like 24-29.",
            )
        chosen.update(range(start, stop + 1))
    return tuple(sorted(chosen))


def count_values(labels_CYX: np.ndarray, labels_as: str) -> dict[int, int]:
    """Return how many pixels of a label plane have which value.

    Parameters
    ----------
    labels_CYX : ndarray
        Integers, bool, or floats with whole values.
    labels_as : str
        "classes", or "foreground": 1 for all values above 0, and 0 for the others.

    Raises
    ------
    DataError
        Some values are not whole numbers.
    """
    values = _whole_numbers(labels_CYX)
    if labels_as == "foreground":
        values = (values > 0).astype(np.uint8)
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        counts = np.bincount(values.ravel())
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    found, counts = np.unique(values, return_counts=True)
    return {int(value): int(count) for value, count in zip(found, counts, strict=True)}


def class_table(labels: Planes, labels_as: str) -> dict[int, int]:
    """Return the pixel count of every label value in a stack, ascending by value; reads one plane at a time.

    Raises
    ------
    DataError
        A plane cannot be read, or holds values that are not whole numbers.
    """
    table: dict[int, int] = {}
    for index in range(labels.count):
        for value, count in count_values(labels.read(index), labels_as).items():
            table[value] = table.get(value, 0) + count
    return dict(sorted(table.items()))


def encode_labels(label_plane: np.ndarray, class_values: tuple[int, ...], labels_as: str) -> np.ndarray:
    """Return class indices `(Y, X)`, int16, for a label plane `(Y, X)` or `(1, Y, X)`.

    Raises
    ------
    DataError
        Values occur that are not among `class_values`, or the plane has several channels.
    """
    values = _whole_numbers(label_plane)
    if values.ndim == 3:
        if len(values) != 1:
            raise DataError(
                f"The labels have {len(values)} channels.", "Export them with one integer value per pixel."
            )
        values = values[0]
    if labels_as == "foreground":
        values = (values > 0).astype(np.uint8)
    known = np.asarray(class_values, np.int64)
    indices = np.searchsorted(known, values).clip(max=len(known) - 1)
    strange = np.unique(values[known[indices] != values])
    if strange.size:
        listed = ", ".join(str(int(value)) for value in strange[:10]) + (", …" if strange.size > 10 else "")
        raise DataError(
            f"The labels hold unknown values: {listed}; known are {', '.join(map(str, class_values))}.",
            "Use labels with the same values as in training.",
        )
    return indices.astype(np.int16)


def decode_labels(indices: np.ndarray, class_values: tuple[int, ...]) -> np.ndarray:
    """Return label values for class indices, in the smallest unsigned type that holds all of `class_values`.

    The type is signed if a class value is negative. It does not depend on which classes occur.
    """
    low, high = min(class_values), max(class_values)
    fits = ("u1", "u2", "u4", "u8") if low >= 0 else ("i1", "i2", "i4", "i8")
    dtype = next(kind for kind in fits if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return np.asarray(class_values, dtype)[indices]


def _whole_numbers(labels: np.ndarray) -> np.ndarray:
    if labels.dtype.kind == "b":
        return labels.astype(np.uint8)
    if labels.dtype.kind != "f":
        return labels
    with np.errstate(invalid="ignore"):
        whole = labels.astype(np.int64)
    if not (np.isfinite(labels) & (whole == labels)).all():
        raise DataError(
            "Labels must be whole numbers, one per class; these hold fractions or NaN.",
            "Export them as 8-bit or 16-bit integers, and check that images and labels are not swapped.",
        )
    return whole


def _explicit(count: int, text: str) -> tuple[int, ...]:
    chosen = parse_slices(text)
    beyond = [index for index in chosen if index >= count]
    if beyond:
        listed = ", ".join(map(str, beyond[:10])) + (", …" if len(beyond) > 10 else "")
        raise ConfigError(
            f"data.validation_slices {text!r} names {listed}, but the stack has the slices 0 to {count - 1}.",
            "Slices are counted from 0.",
        )
    if len(chosen) == count:
        raise ConfigError(
            f"data.validation_slices {text!r} leaves nothing to train on: the stack has "
            f"{'only slice 0' if count == 1 else f'{count} slices'}.",
            "Name fewer slices, or leave the option out."
            if count > 1
            else "Leave the option out: rows are split.",
        )
    return chosen


def _split_rows(height: int, data: DataConfig) -> Split:
    least = data.patch_size + ROW_STEP
    if height < least:
        raise ConfigError(
            f"A single slice of {height} rows cannot be divided into training and validation: "
            f"data.patch_size {data.patch_size} needs {least} rows.",
            "Use a smaller patch size, or a stack of at least two slices.",
        )
    share = max(1, round(height * data.validation_fraction / ROW_STEP)) * ROW_STEP
    rows = min(share, (height - data.patch_size) // ROW_STEP * ROW_STEP)
    border = height - rows
    return Split(
        train=(Region(0, (0, border)),),
        validation=(Region(0, (border, height)),),
        notes=(
            f"The image is a single slice: rows 0–{border - 1} train, rows {border}–{height - 1} validate.",
        ),
    )
