"""Survey: one pass over evenly spread slices of a data set, from which every question is answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from segcore.config import DataConfig
from segcore.data.collection import Collection
from segcore.data.doctor.alignment import Match, match_slice
from segcore.data.doctor.facts import ImageFacts, LabelFacts, finite, image_facts, label_facts
from segcore.data.doctor.histograms import thinned
from segcore.data.items import Item
from segcore.data.manifest import count_values
from segcore.data.opening import Opened, open_item
from segcore.data.recipe import parse_recipe
from segcore.data.targets import LabelRule
from segcore.errors import DataError, SegcoreError

SLICES = 400
"""Slices looked at; of more, evenly spread pairs of neighbours."""
PIXELS = 120_000_000
"""Pixels looked at, which takes about half a minute; fewer slices are taken where they are large."""
SIDE = 2048
"""Of larger slices the middle is looked at."""
MATCHED = 24
"""Slices whose labels are compared with their image at every shift, and at most this many per image."""
MATCH_SIDE = 768

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Subject:
    """An image that could be opened.

    Parameters
    ----------
    item : Item
        Its files.
    planes, height, width, channels : int
        Sizes.
    dtype : dtype
        Type of the grey values.
    depth : int
        Planes that lie together.
    number : int
        Its number in the collection.
    """

    item: Item
    planes: int
    height: int
    width: int
    channels: int
    dtype: np.dtype[Any]
    depth: int = 0
    number: int = 0

    @property
    def name(self) -> str:
        """Name of the image."""
        return self.item.name


@dataclass(frozen=True)
class Seen:
    """What was kept of one slice.

    Parameters
    ----------
    subject : int
        Number of its image among the subjects.
    plane : int
        Its number in the image.
    image : ImageFacts
        About the image.
    thin : ndarray
        Some of its grey values, `(C, 1, n)`.
    labels : LabelFacts, optional
        About its labels, as they are read now.
    classes : dict
        Annotated pixels of every label value.
    match : Match, optional
        How labels and image fit; only of some slices.
    """

    subject: int
    plane: int
    image: ImageFacts
    thin: np.ndarray
    labels: LabelFacts | None = None
    classes: dict[int, int] = field(default_factory=dict)
    match: Match | None = None


@dataclass(frozen=True)
class Survey:
    """All that is known of a data set when the pass is over."""

    data: DataConfig
    subjects: tuple[Subject, ...]
    seen: tuple[Seen, ...]
    problems: tuple[tuple[Item, SegcoreError], ...] = ()
    """Images that cannot be opened or read, and why."""
    notes: tuple[str, ...] = ()

    @property
    def alone(self) -> bool:
        """Whether there is a single image."""
        return len(self.subjects) + len(self.problems) == 1

    @cached_property
    def _per_subject(self) -> dict[int, list[Seen]]:
        result: dict[int, list[Seen]] = {}
        for seen in self.seen:
            result.setdefault(seen.subject, []).append(seen)
        return result

    @property
    def complete(self) -> bool:
        """Whether every slice of every image was looked at."""
        planes = sum(subject.planes for subject in self.subjects)
        return not self.problems and len(self.seen) == planes

    def of(self, subject: int) -> list[Seen]:
        """Return what was seen of an image."""
        return self._per_subject.get(subject, [])

    def name(self, seen: Seen) -> str:
        """Return what a slice is called."""
        subject = self.subjects[seen.subject]
        if self.alone or subject.planes > 1:
            slice_name = f"slice {seen.plane}"
            return slice_name if self.alone else f"{subject.name}, {slice_name}"
        return subject.name

    def prefix(self, subject: int) -> str:
        """Return what stands before a repair that is for one image only."""
        return "" if self.alone else f"[{self.subjects[subject].name}] "


def survey(
    collection: Collection | None, data: DataConfig, items: Sequence[Item], progress: Progress
) -> Survey:
    """Look at a data set.

    Parameters
    ----------
    collection : Collection, optional
        The data set; None where it cannot be opened as a whole.
    data : DataConfig
        Its options.
    items : sequence of Item
        Its images; only looked at without a collection.
    progress : callable
        Called with slices looked at and slices in all.
    """
    opener = _Opener(collection, data, items)
    subjects, problems = opener.subjects()
    starts = np.concatenate([[0], np.cumsum([subject.planes for subject in subjects], dtype=np.int64)])
    total = int(starts[-1])
    chosen = evenly(total, _affordable(subjects))
    matched = {
        chosen[at] for at in evenly(len(chosen), MATCHED * (1 if len(subjects) < 2 else 4), pairs=False)
    }
    seen: list[Seen] = []
    broken: set[int] = set()
    for at, position in enumerate(chosen):
        number = int(np.searchsorted(starts, position, "right")) - 1
        plane = position - int(starts[number])
        try:
            if number not in broken:
                opened = opener.open(subjects[number])
                seen.append(_look(opened, (number, plane, position), data, position in matched))
        except DataError as error:
            broken.add(number)
            problems.append((subjects[number].item, error))
        progress(at + 1, len(chosen))
    notes = tuple(_notes(subjects, len(chosen), total))
    return Survey(data, tuple(subjects), tuple(seen), tuple(problems), notes)


def evenly(count: int, most: int, pairs: bool = True) -> list[int]:
    """Return at most `most` of `count` numbers, evenly spread; with `pairs` as neighbours two by two.

    Examples
    --------
    >>> evenly(5, 9), evenly(100, 4), evenly(100, 3, pairs=False)
    ([0, 1, 2, 3, 4], [0, 1, 98, 99], [0, 50, 99])
    """
    if count <= most:
        return list(range(count))
    if not pairs:
        return sorted({round(at) for at in np.linspace(0, count - 1, most)})
    firsts = {round(at) for at in np.linspace(0, count - 2, most // 2)}
    return sorted(firsts | {at + 1 for at in firsts})


def middle(size: int, most: int) -> slice:
    """Return the middle of an axis, as far from its begin as from its end."""
    if size <= most:
        return slice(0, size)
    start = (size - most + 1) // 2
    return slice(start, size - start)


class _Opener:
    """Opens images one after the other; the last one stays open."""

    def __init__(self, collection: Collection | None, data: DataConfig, items: Sequence[Item]) -> None:
        self._collection = collection
        self._data = data
        self._items = tuple(items)
        self._steps = parse_recipe(data.recipe)
        self._last: tuple[Item, Opened] | None = None

    def subjects(self) -> tuple[list[Subject], list[tuple[Item, SegcoreError]]]:
        """Return the images that can be opened, and what is wrong with the others."""
        if self._collection is not None:
            entries = enumerate(self._collection.entries)
            return [
                Subject(
                    entry.item,
                    entry.planes,
                    entry.height,
                    entry.width,
                    entry.channels,
                    entry.dtype,
                    entry.depth,
                    at,
                )
                for at, entry in entries
            ], []
        subjects: list[Subject] = []
        problems: list[tuple[Item, SegcoreError]] = []
        for item in self._items:
            try:
                images = open_item(item, self._data, self._steps).images
            except SegcoreError as error:
                problems.append((item, error))
                continue
            sizes = images.count, images.height, images.width, images.channels
            subjects.append(Subject(item, *sizes, images.dtype, images.depth))
        return subjects, problems

    def open(self, subject: Subject) -> Opened:
        if self._collection is not None:
            return self._collection.open(subject.number)
        if self._last is None or self._last[0] is not subject.item:
            self._last = subject.item, open_item(subject.item, self._data, self._steps)
        return self._last[1]


def _affordable(subjects: Sequence[Subject]) -> int:
    planes = max(1, sum(subject.planes for subject in subjects))
    pixels = sum(
        min(subject.height, SIDE) * min(subject.width, SIDE) * subject.channels * subject.planes
        for subject in subjects
    )
    return max(8, min(SLICES, PIXELS * planes // max(pixels, 1)))


def _look(opened: Opened, place: tuple[int, int, int], data: DataConfig, match: bool) -> Seen:
    subject, plane, position = place
    images, labels = opened.images, opened.labels
    rows, columns = middle(images.height, SIDE), middle(images.width, SIDE)
    image_CYX = images.window(plane, rows, columns)
    facts, thin = image_facts(image_CYX), thinned(image_CYX)
    if labels is None:
        return Seen(subject, plane, facts, thin)
    labels_YX = labels.window(plane, rows, columns)[0]
    hidden = LabelRule.of(data).hidden(opened, plane, position, rows, columns)
    shown = labels_YX if hidden is None else labels_YX[~hidden]
    try:
        classes = count_values(shown[None], data.labels_as)
    except DataError:  # fractions: a proposal will say so
        classes = {}
    matched = None
    if match:
        part = tuple(middle(size, MATCH_SIDE) for size in labels_YX.shape)
        matched = match_slice(image_CYX[:, *part], labels_YX[part])
    grey_YX = finite(image_CYX).mean(0, dtype=np.float32)
    return Seen(subject, plane, facts, thin, label_facts(labels_YX, grey_YX), classes, matched)


def _notes(subjects: Sequence[Subject], looked: int, total: int) -> list[str]:
    notes = []
    if looked < total:
        notes.append(f"{looked} of {total} slices were looked at, evenly spread.")
    if any(max(subject.height, subject.width) > SIDE for subject in subjects):
        notes.append(f"Of slices larger than {SIDE} × {SIDE} px the middle was looked at.")
    return notes
