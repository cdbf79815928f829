"""Which slices go to a part of a split: units that stay together, chosen by one of several methods."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

Slice = tuple[int, int]
"""Number of the image and of the slice in it."""
SEED = 0
"""Of every random split, so that the same data is always divided in the same way."""


@dataclass(frozen=True)
class Unit:
    """Slices that are never divided: one slice, a block, an image or a group of images.

    Parameters
    ----------
    name : str
        For people.
    slices : tuple of Slice
        In the order of the data set.
    classes : frozenset of int
        Label values that occur in them.
    """

    name: str
    slices: tuple[Slice, ...]
    classes: frozenset[int] = frozenset()


def choose(units: Sequence[Unit], slices: int, method: str, leave: int = 1) -> set[int]:
    """Return the numbers of the units that make up a part of about so many slices: at least one unit.

    Parameters
    ----------
    units : sequence of Unit
        In the order of the data set.
    slices : int
        How large the part should be.
    method : str
        even, groups: spread over the units. random: the same for the same data. blocks: the last units.
        stratified: at random, but every class once if that is possible, the rarest first.
    leave : int
        Units that must remain, and, of every class, units that should remain.
    """
    most = len(units) - leave
    chosen: set[int] = set()
    size = 0
    if method == "stratified":
        chosen = _cover_classes(units, slices, most, leave)
        size = sum(len(units[number].slices) for number in chosen)
    for number in _order(units, slices, method, leave):
        if len(chosen) >= most:
            break
        if number in chosen:
            continue
        larger = size + len(units[number].slices)
        if not chosen or abs(larger - slices) < abs(size - slices):
            chosen.add(number)
            size = larger
    return chosen


def assign_folds(units: Sequence[Unit], folds: int, method: str) -> list[int]:
    """Return the fold of every unit; none is empty where there are as many units as folds.

    Parameters
    ----------
    units : sequence of Unit
        In the order of the data set.
    folds : int
        Number of parts, about equally large.
    method : str
        As in `choose`; stratified spreads every class over the folds, the rarest first.
    """
    if method == "blocks":
        return [number * folds // len(units) for number in range(len(units))]
    order = [int(number) for number in _shuffled(len(units))] if method in ("random", "stratified") else None
    found = [0] * len(units)
    sizes = [0] * folds
    holding: list[Counter[int]] = [Counter() for _ in range(folds)]
    for number, rarest in _rarest_first(units, order or range(len(units)), method == "stratified"):
        fold = min(range(folds), key=lambda index: (holding[index][rarest], sizes[index], index))
        found[number] = fold
        sizes[fold] += len(units[number].slices)
        if method == "stratified":
            holding[fold].update(units[number].classes)
    return found


def cut_block(count: int, sizes: Sequence[int], gap: int, least: tuple[int, int]) -> list[range] | None:
    """Return contiguous ranges of the slices of a volume: the training's, then one for each of `sizes`.

    Parameters
    ----------
    count : int
        Slices of the volume.
    sizes : sequence of int
        Slices wanted in each further part.
    gap : int
        Slices left out between two parts.
    least : tuple of int
        Slices the training must have, and every further part.

    Returns
    -------
    list of range or None
        None where the volume is too shallow.

    Examples
    --------
    >>> cut_block(20, [4], gap=1, least=(8, 2))
    [range(0, 15), range(16, 20)]
    """
    amounts = [max(least[1], size) for size in sizes]
    first = count - sum(amounts) - gap * len(amounts)
    if first < least[0]:
        return None
    ranges, start = [range(first)], first
    for amount in amounts:
        start += gap
        ranges.append(range(start, start + amount))
        start += amount
    return ranges


def _order(units: Sequence[Unit], slices: int, method: str, leave: int) -> list[int]:
    count = len(units)
    if method == "blocks":
        return list(range(count - 1, -1, -1))
    if method == "random":
        return _shuffled(count)
    if method == "stratified":  # first those without which every class is still left often enough
        left = Counter(value for unit in units for value in unit.classes)
        return sorted(
            _shuffled(count), key=lambda number: any(left[value] <= leave for value in units[number].classes)
        )
    total = sum(len(unit.slices) for unit in units)
    amount = max(1, min(count - leave, round(count * slices / total)))
    spread = [int((number + 0.5) * count / amount) for number in range(amount)]
    return spread + sorted(set(range(count)) - set(spread))


def _cover_classes(units: Sequence[Unit], slices: int, most: int, leave: int) -> set[int]:
    order = _shuffled(len(units))
    left = Counter(value for unit in units for value in unit.classes)
    holders: dict[int, list[int]] = {}
    for number in order:
        for value in units[number].classes:
            holders.setdefault(value, []).append(number)
    chosen: set[int] = set()
    covered: set[int] = set()
    size = 0
    for value in sorted(holders, key=lambda value: (len(holders[value]), value)):
        if value in covered or len(chosen) >= most:
            continue
        for number in holders[value]:
            unit = units[number]
            fits = not chosen or size + len(unit.slices) <= slices
            if fits and all(left[other] > leave for other in unit.classes):
                chosen.add(number)
                covered |= unit.classes
                left.subtract(unit.classes)
                size += len(unit.slices)
                break
    return chosen


def _rarest_first(units: Sequence[Unit], order: Iterable[int], by_class: bool) -> list[tuple[int, int]]:
    """Return the units' numbers, each with the rarest of its classes; `by_class`: the rarest first."""
    if not by_class:
        return [(number, 0) for number in order]
    counts = Counter(value for unit in units for value in unit.classes)

    def rarest(number: int) -> int:
        return min(units[number].classes, key=lambda value: (counts[value], value), default=0)

    return [(number, rarest(number)) for number in sorted(order, key=lambda number: counts[rarest(number)])]


def _shuffled(count: int) -> list[int]:
    return [int(number) for number in np.random.default_rng(SEED).permutation(count)]
