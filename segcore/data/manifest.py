"""Label values: how often they occur, as class indices and back."""

from __future__ import annotations

import numpy as np

from segcore.errors import DataError

ONE_CLASS = ("foreground", "objects")
"""Ways to read labels in which all values above 0 are class 1 and the others class 0."""
HIGHEST_NUMBER = 2**31 - 1
"""Largest number of an object."""


class FractionError(DataError):
    """Labels are no whole numbers."""


def count_values(labels_CYX: np.ndarray, labels_as: str) -> dict[int, int]:
    """Return how many pixels of a label plane have which value.

    Parameters
    ----------
    labels_CYX : ndarray
        Integers, bool, or floats with whole values.
    labels_as : str
        "classes"; or "foreground" and "objects": 1 for all values above 0, and 0 for the others.

    Raises
    ------
    FractionError
        Some values are not whole numbers.
    """
    values = _whole_numbers(labels_CYX)
    if labels_as in ONE_CLASS:
        values = (values > 0).astype(np.uint8)
    if values.dtype.kind == "u" and values.dtype.itemsize <= 2:
        counts = np.bincount(values.ravel())
        return {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
    found, counts = np.unique(values, return_counts=True)
    return {int(value): int(count) for value, count in zip(found, counts, strict=True)}


def encode_labels(label_plane: np.ndarray, class_values: tuple[int, ...], labels_as: str) -> np.ndarray:
    """Return class indices `(Y, X)`, int16, for a label plane `(Y, X)` or `(1, Y, X)`.

    Raises
    ------
    DataError
        Values occur that are not among `class_values`, or the plane has several channels.
    """
    values = _one_channel(_whole_numbers(label_plane))
    if labels_as in ONE_CLASS:
        values = (values > 0).astype(np.uint8)
    known = np.asarray(class_values, np.int64)
    indices = np.searchsorted(known, values).clip(max=len(known) - 1)
    strange = np.unique(values[known[indices] != values])
    if strange.size:
        listed = ", ".join(str(int(value)) for value in strange[:10]) + (", …" if strange.size > 10 else "")
        raise DataError(
            f"The labels hold unknown values: {listed}; known are {', '.join(map(str, class_values))}.",
            _same_meaning(values, strange, class_values),
        )
    return indices.astype(np.int16)


def object_numbers(label_plane: np.ndarray) -> np.ndarray:
    """Return the numbers of objects `(Y, X)`, int32, for a label plane; values up to 0 become 0, background.

    Raises
    ------
    DataError
        The values are not whole numbers or too large, or the plane has several channels.
    """
    values = _one_channel(_whole_numbers(label_plane))
    highest = int(values.max(initial=0))
    if highest > HIGHEST_NUMBER:
        raise DataError(
            f"The labels hold the number {highest}; objects are numbered up to {HIGHEST_NUMBER}.",
            "Number the objects from 1, as ImageJ and scikit-image do when they label.",
        )
    return np.where(values > 0, values, 0).astype(np.int32)


def _one_channel(values: np.ndarray) -> np.ndarray:
    """Return a plane `(Y, X)` of one `(Y, X)` or `(1, Y, X)`."""
    if values.ndim == 2:
        return values
    if len(values) != 1:
        raise DataError(
            f"The labels have {len(values)} channels.", "Export them with one integer value per pixel."
        )
    plane_YX: np.ndarray = values[0]
    return plane_YX


def _same_meaning(values: np.ndarray, strange: np.ndarray, class_values: tuple[int, ...]) -> str:
    """Return what reads `values` as those of the training: the classes in the same order, by a repair."""
    found, two = [int(value) for value in np.unique(values)], len(class_values) == 2
    if len(found) == len(class_values):
        pairs = list(zip(found, class_values, strict=True))
    elif two and strange.size == 1:
        pairs = [(int(strange[0]), class_values[1])]
    elif two and strange.size > 1 and class_values[0] == 0:
        return "If every object has its own number: --data.labels-as foreground."
    else:
        return (
            "Use labels with the same values as in training, or say which is which: "
            "--data.recipe '[\"labels.values OLD=NEW …\"]'."
        )
    line = " ".join(f"{old}={new}" for old, new in pairs)
    return f"If they mean the same, read them so: --data.recipe '[\"labels.values {line}\"]'."


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
        raise FractionError(
            "Labels must be whole numbers, one per class; these hold fractions or NaN.",
            "Export them as 8-bit or 16-bit integers, and check that images and labels are not swapped.",
        )
    return whole
