"""The segmentations of COCO annotations: polygons, and run lengths, compressed or not."""

from __future__ import annotations

from typing import Any

import numpy as np

from segcore.data.outlines import FARTHEST, Outline, Polygons, Runs

_LEAST = 6
"""Numbers of a triangle."""


def outline(segmentation: Any, height: int, width: int) -> Outline:
    """Return what a segmentation covers in a picture of this size.

    Raises
    ------
    ValueError
        It is none, or does not fit the picture; said so that "annotation 7" can stand in front.
    """
    if isinstance(segmentation, list) and segmentation:
        return Polygons(tuple((_ring(flat),) for flat in segmentation))
    if isinstance(segmentation, dict):
        return _runs(segmentation, height, width)
    raise ValueError("has no outline (segmentation)")


def _ring(flat: Any) -> np.ndarray:
    if not isinstance(flat, list) or len(flat) < _LEAST or len(flat) % 2:
        raise ValueError("has a polygon that is no list of x, y, x, y … of at least three corners")
    if not all(type(value) in (int, float) and abs(value) < FARTHEST for value in flat):
        raise ValueError("has a polygon with a corner that is no number")
    return np.array(flat, np.float64).reshape(-1, 2)[:, ::-1]


def _runs(segmentation: dict[str, Any], height: int, width: int) -> Runs:
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if size != [height, width]:
        raise ValueError(f"has run lengths for the size {size}, but its image is [{height}, {width}]")
    if isinstance(counts, str):
        counts = decompress(counts)
    if not isinstance(counts, list) or not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("has run lengths that are not whole numbers from 0")
    if sum(counts) != height * width:
        raise ValueError(f"has run lengths that fill {sum(counts)} of {height * width} pixels")
    ends = np.cumsum(np.array(counts, np.int64))
    stops, starts = ends[1::2], ends[0::2][: len(ends) // 2]
    some = stops > starts
    return Runs(starts[some], stops[some], height)


def decompress(text: str) -> list[int]:
    """Return the run lengths in a compressed string of COCO.

    Every number stands in groups of five bits, the lowest first, each as one letter from "0" on, with a sixth
    bit where more follow; from the fourth number on it is the difference to the last but one.

    Raises
    ------
    ValueError
        The string is none.
    """
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("has compressed run lengths that cannot be read")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("has compressed run lengths that end too early")
    return counts
