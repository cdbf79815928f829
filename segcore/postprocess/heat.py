"""Flows towards the middle of every object: the slope of heat that spreads from there.

Stringer et al. 2021 (Nature Methods, doi 10.1038/s41592-020-01018-x), Methods, "Auxiliary vector flow
representation".
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from segcore.postprocess.objects import Box, boxes

ROUNDS = 2
"""Rounds of spreading, in sums of the sides of an object's box: heat comes one px further a round."""
_LADDER = np.unique(np.ceil(8 * 1.15 ** np.arange(90)).astype(np.int64))
"""Numbers of rounds are rounded up to these, so that many objects take equally many."""
_BESIDE = 0.8
"""Squared px from a median between pixels to those around it, at most; further off lie the arms of a ring."""
_TOGETHER = 2**14
"""Pixels of the boxes that are computed at once: small objects share the cost of a call, large ones stay in
the processor's cache."""


def flows_of(numbers: np.ndarray) -> np.ndarray:
    """Return the flow of every pixel, `(axes, …)`, float32: length 1 towards the middle, 0 outside objects.

    Every object has a source of heat at its middle, the pixel next to the median of its pixels. Again and
    again every pixel gets the mean of itself and its neighbours (in 2d also the diagonal ones, in 3d those
    with a common face, as the authors do it), others and the background staying cold; the flow is the
    gradient of the logarithm of 1 + heat. A pixel that no path inside the object joins to the middle has
    none, nor has the only pixel of an object.

    Differs from the authors' in one thing: where the median lies between pixels all of them are sources, so
    that the flows of a mirror image are the mirrored flows.

    Parameters
    ----------
    numbers : np.ndarray
        From `numbered`.
    """
    flow = np.zeros((numbers.ndim, *numbers.shape), np.float32)
    for rounds, some in _batches(numbers):
        own = [numbers[box] == number for number, box in some]
        for (_, box), mask, part in zip(some, own, _flows(own, rounds), strict=True):
            flow[(slice(None), *box)] += part * mask
    return flow


def _batches(numbers: np.ndarray) -> Iterator[tuple[int, list[tuple[int, Box]]]]:
    """Yield how many rounds some objects take, and these objects with their boxes: of similar size."""

    def sizes(entry: tuple[int, Box]) -> tuple[int, ...]:
        return tuple(side.stop - side.start for side in entry[1])

    def rounds(entry: tuple[int, Box]) -> int:
        return int(_LADDER[np.searchsorted(_LADDER, ROUNDS * sum(sizes(entry)))])

    some: list[tuple[int, Box]] = []
    largest: tuple[int, ...] = ()
    for entry in sorted(boxes(numbers), key=lambda entry: (rounds(entry), sizes(entry))):
        grown = tuple(map(max, sizes(entry), largest)) if some else sizes(entry)
        if some and (rounds(entry) != rounds(some[0]) or np.prod(grown) * (len(some) + 1) > _TOGETHER):
            yield rounds(some[0]), some
            some, grown = [], sizes(entry)
        some.append(entry)
        largest = grown
    if some:
        yield rounds(some[0]), some


def _flows(masks: list[np.ndarray], rounds: int) -> Iterator[np.ndarray]:
    """Yield the flow `(axes, …)` of every object, on its own box."""
    axes = masks[0].ndim
    sides = tuple(max(mask.shape[axis] for mask in masks) + 2 for axis in range(axes))
    inner = (slice(None), *[slice(1, -1)] * axes)
    inside = np.zeros((len(masks), *sides), bool)
    sources = []
    for at, mask in enumerate(masks):
        inside[at][_sides(mask, 1)] = mask
        places = tuple(place + 1 for place in _middle(mask))
        sources.append(np.ravel_multi_index((np.full(len(places[0]), at), *places), inside.shape))
    heat = np.log1p(_spread(inside, np.concatenate(sources), rounds))
    slopes = np.stack([_moved(heat, axis, 1) - _moved(heat, axis, -1) for axis in range(axes)])
    slopes *= inside[inner]
    steepness = np.sqrt((slopes**2).sum(0))
    slopes /= np.where(steepness > 0, steepness, 1)
    for at, mask in enumerate(masks):
        yield slopes[:, at][(slice(None), *_sides(mask, 0))].astype(np.float32)


def _sides(mask: np.ndarray, start: int) -> Box:
    """Return the box of a mask's size that begins at `start` px along every axis."""
    return tuple(slice(start, start + size) for size in mask.shape)


def _moved(heat: np.ndarray, axis: int, by: int) -> np.ndarray:
    """Return the inner part of `(objects, …)`, seen `by` px further along an axis."""
    inner = [slice(1, -1)] * (heat.ndim - 1)
    inner[axis] = slice(1 + by, heat.shape[axis + 1] - 1 + by)
    return heat[(slice(None), *inner)]


def _middle(mask: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return the pixels at the middle of an object, one index per axis."""
    places = np.nonzero(mask)
    far = sum(((place - np.median(place)) ** 2 for place in places), np.zeros(1))
    nearest = np.flatnonzero(far == far.min())
    chosen = nearest if far.min() < _BESIDE else nearest[:1]
    return tuple(place[chosen] for place in places)


def _spread(inside: np.ndarray, sources: np.ndarray, rounds: int) -> np.ndarray:
    """Return the heat of objects `(objects, …)` that have a margin of 1 px."""
    axes = inside.ndim - 1
    inner = (slice(None), *[slice(1, -1)] * axes)
    shares = inside[inner] / (9.0 if axes == 2 else 7.0)
    heat: np.ndarray = np.zeros(inside.shape)
    now, flat = heat[inner], heat.reshape(-1)
    if axes == 2:
        columns = np.empty((len(heat), heat.shape[1], heat.shape[2] - 2))
        for _ in range(rounds):
            flat[sources] += 1
            np.add(heat[:, :, :-2], heat[:, :, 1:-1], out=columns)
            columns += heat[:, :, 2:]
            np.add(columns[:, :-2], columns[:, 1:-1], out=now)
            now += columns[:, 2:]
            now *= shares
        return heat
    sums = np.empty(now.shape)
    for _ in range(rounds):
        flat[sources] += 1
        np.add(now, _moved(heat, 0, 1), out=sums)
        for axis, by in ((0, -1), (1, 1), (1, -1), (2, 1), (2, -1)):
            sums += _moved(heat, axis, by)
        np.multiply(sums, shares, out=now)
    return heat
