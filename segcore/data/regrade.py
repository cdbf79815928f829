"""Regrading: repairs that change the values of pixels and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segcore.data.repairs import Mapped
from segcore.data.source import ImageSource

DEPTHS = ("uint8", "uint16", "float32")
_LARGEST = 2**31 - 1
"""Of a label value."""


def mapped(source: ImageSource, note: str, values: Mapping[float, int]) -> Mapped:
    """Return labels in which values become others; those that are not named stay."""
    dtype = np.promote_types(_small_enough(source.dtype), _least(values.values()))
    old = np.array(sorted(values), np.float64)
    new = np.array([values[value] for value in sorted(values)], np.int64)

    def change(pixels: np.ndarray) -> np.ndarray:
        at = np.searchsorted(old, pixels).clip(0, len(old) - 1)
        return np.where(old[at] == pixels, new[at], pixels)

    names: dict[int, str] = getattr(source, "names", {})
    renamed = {int(values.get(value, value)): name for value, name in names.items()}
    return Mapped(source, note, change, dtype, renamed)


def rounded(source: ImageSource, note: str) -> Mapped:
    """Return labels as whole numbers, int32; NaN is 0."""
    return Mapped(source, note, _whole, np.int32)


def nearest(source: ImageSource, note: str, values: Sequence[int]) -> Mapped:
    """Return labels in which every value becomes the nearest of `values`; NaN counts as 0."""
    known = np.array(sorted(values), np.int64)
    between = (known[1:] + known[:-1]) / 2

    def change(pixels: np.ndarray) -> np.ndarray:
        return known[np.searchsorted(between, np.nan_to_num(pixels))]

    return Mapped(source, note, change, _least(values))


def inverted(source: ImageSource, note: str) -> Mapped:
    """Return an image in which dark is bright, over the whole range of the type; floats change sign."""
    if source.dtype.kind in "iu":
        limits = np.iinfo(source.dtype)
        total = limits.min + limits.max  # -1 for signed integers: both ends of the range change places
        return Mapped(source, note, lambda pixels: np.asarray(total, pixels.dtype) - pixels, source.dtype)
    if source.dtype.kind == "b":
        return Mapped(source, note, np.logical_not, source.dtype)
    return Mapped(source, note, np.negative, source.dtype)


def with_depth(source: ImageSource, note: str, depth: str) -> Mapped:
    """Return an image as uint8, uint16 or float32: the range of one integer type becomes that of the other.

    As floats, integers lie between 0 and 1; floats stay, and are cut to 0 … 1 where they become integers.
    """
    dtype = np.dtype(depth)
    if source.dtype == dtype:
        return Mapped(source, note, lambda pixels: pixels, dtype)
    low, high = _limits(source.dtype)

    def change(pixels: np.ndarray) -> np.ndarray:
        share = (pixels.astype(np.float64) - low) / (high - low)
        if dtype.kind == "f":
            return share
        return np.rint(np.nan_to_num(share).clip(0, 1) * np.iinfo(dtype).max)

    return Mapped(source, note, change, dtype)


def _limits(dtype: np.dtype[Any]) -> tuple[float, float]:
    if dtype.kind not in "iu":
        return 0.0, 1.0
    return float(np.iinfo(dtype).min), float(np.iinfo(dtype).max)


def _whole(pixels: np.ndarray) -> np.ndarray:
    if pixels.dtype.kind != "f":
        return pixels
    return np.rint(np.nan_to_num(pixels.astype(np.float64), posinf=0, neginf=0)).clip(-_LARGEST, _LARGEST)


def _least(values: Any) -> np.dtype[Any]:
    """Return the smallest integer type for all values."""
    numbers = list(values)
    return np.result_type(np.min_scalar_type(min(numbers)), np.min_scalar_type(max(numbers)))


def _small_enough(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Bool labels that get other values become bytes."""
    return np.dtype(np.uint8) if dtype.kind == "b" else dtype
