"""Objects of a label image: numbers without gaps, boxes, edges, depths, and the cleaning of what is found."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from segcore.errors import DataError
from segcore.tiling import IGNORE

Box = tuple[slice, ...]

_DENSE = 64
"""Up to so many times the number of pixels a table of all label values is quicker than sorting them."""


def numbered(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """Return labels whose objects are 1, 2, … n in the order of their values, and n.

    Parameters
    ----------
    labels : np.ndarray
        Whole numbers `(Y, X)` or `(Z, Y, X)`: 0 background, IGNORE (or any negative value) where nobody
        annotated, any other value an object.

    Returns
    -------
    tuple of np.ndarray and int
        The numbers, int32, 0 background and IGNORE as before; how many objects there are.

    Raises
    ------
    DataError
        The labels are not whole numbers, or neither `(Y, X)` nor `(Z, Y, X)`.
    """
    if labels.dtype == np.bool_:
        labels = labels.astype(np.uint8)
    if labels.ndim not in (2, 3) or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"Labels of objects have {labels.ndim} axes and the type {labels.dtype}.",
            "They must be whole numbers with the axes YX or ZYX: 0 is background, every object has its own.",
        )
    if labels.size == 0:
        return labels.astype(np.int32), 0
    ignored = labels < 0
    known = np.where(ignored, 0, labels)
    highest = int(known.max())
    if highest > _DENSE * labels.size:
        values, places = np.unique(known, return_inverse=True)
        count = len(values) - int(values[0] == 0)
        numbers = (places.reshape(labels.shape) + int(values[0] != 0)).astype(np.int32)
    else:
        present = np.zeros(highest + 1, bool)
        present[known] = True
        present[0] = False
        table = np.cumsum(present, dtype=np.int32)
        count = int(table[-1])
        table[~present] = 0
        numbers = table[known]
    numbers[ignored] = IGNORE
    return numbers, count


def boxes(numbers: np.ndarray, margin: int = 0) -> Iterator[tuple[int, Box]]:
    """Yield every object and its bounding box, grown by `margin` px as far as the image goes."""
    from scipy import ndimage

    for number, box in enumerate(ndimage.find_objects(np.maximum(numbers, 0)), 1):
        if box is not None:
            yield (
                number,
                tuple(
                    slice(max(0, side.start - margin), min(size, side.stop + margin))
                    for side, size in zip(box, numbers.shape, strict=True)
                ),
            )


def edges(numbers: np.ndarray) -> np.ndarray:
    """Return where an object has a face in common with something else, bool; the image's border is none."""
    found = np.zeros(numbers.shape, bool)
    for axis in range(numbers.ndim):
        ahead = (*[slice(None)] * axis, slice(1, None))
        behind = (*[slice(None)] * axis, slice(None, -1))
        differs = numbers[ahead] != numbers[behind]
        found[ahead] |= differs
        found[behind] |= differs
    return found & (numbers > 0)


def depths(numbers: np.ndarray, spacing: tuple[float, ...] | None = None) -> np.ndarray:
    """Return how deep every pixel lies in its object, float32: 1 at the deepest, 0 outside of objects.

    The distance to the nearest pixel that is not of the object, divided by the largest of the object, as the
    object probability of StarDist (Schmidt et al. 2018). What lies beyond the image is not known to be
    something else, so an object that the border cuts may be deepest at the border.

    Parameters
    ----------
    numbers : np.ndarray
        From `numbered`.
    spacing : tuple of float, optional
        Distance of neighbours along every axis, in any unit.
    """
    from scipy import ndimage

    depth = np.zeros(numbers.shape, np.float32)
    for number, box in boxes(numbers, margin=1):
        own = numbers[box] == number
        if own.all():  # nothing else is near: there is no distance to it
            depth[box] = 1
            continue
        distance = ndimage.distance_transform_edt(own, sampling=spacing)
        depth[box][own] = (distance / distance.max())[own]
    return depth


def clean(labels: np.ndarray, least: int = 1, fill: bool = True) -> np.ndarray:
    """Return labels 1 … n, int32, without objects of fewer than `least` px, with holes filled.

    A hole is background that cannot reach the border of the image and has one object around it.
    """
    numbers, count = numbered(labels)
    if not count:
        return numbers
    sizes = np.bincount(numbers.ravel(), minlength=count + 1)
    if least > 1 and (sizes[1:] < least).any():
        numbers[(sizes < least)[numbers]] = 0
    if fill:
        numbers = _filled(numbers)
    return numbered(numbers)[0]


def _filled(numbers: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    outside, count = ndimage.label(numbers == 0)
    lowest = np.full(count + 1, np.iinfo(np.int32).max, np.int32)
    highest = np.zeros(count + 1, np.int32)
    for axis in range(numbers.ndim):
        ahead = (*[slice(None)] * axis, slice(1, None))
        behind = (*[slice(None)] * axis, slice(None, -1))
        for hole, around in ((outside[ahead], numbers[behind]), (outside[behind], numbers[ahead])):
            touching = (hole > 0) & (around > 0)
            np.minimum.at(lowest, hole[touching], around[touching])
            np.maximum.at(highest, hole[touching], around[touching])
        for side in (0, -1):
            rim = np.take(outside, side, axis)
            lowest[rim.ravel()] = 0
    fills = np.where(lowest == highest, highest, 0)
    fills[0] = 0
    return np.where(outside > 0, fills[outside], numbers).astype(np.int32)
