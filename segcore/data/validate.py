"""Checking data before training: every problem becomes a finding with its remedy, never an exception."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from segcore.addresses import absolute_address
from segcore.axes import sizes_text
from segcore.config import DataConfig
from segcore.data.collection import Collection
from segcore.data.items import Item, Listing, list_items
from segcore.data.labels import LabelTable, match_labels, open_labels, open_mask
from segcore.data.opening import common_table, open_images
from segcore.data.planes import Planes
from segcore.data.recipe import Step, parse_recipe, repair_images, repair_labels, swapped
from segcore.data.report import ClassCount, Finding, Report, SourceSummary
from segcore.data.scan import ImageFacts, LabelFacts, scan_images, scan_labels
from segcore.data.source import ImageSource
from segcore.data.targets import LabelRule
from segcore.data.verdicts import (
    count_classes,
    judge_axes,
    judge_channels,
    judge_images,
    judge_labels,
    judge_mode,
    judge_pair,
    judge_patch,
    judge_split,
    judge_swap,
)
from segcore.errors import SegcoreError

__all__ = ["ClassCount", "Finding", "Report", "SourceSummary", "check_data"]

_ORDER = ("error", "warning", "info")
MOST_BAD_FILES = 50
"""Damaged files that are told one by one; nobody reads more."""
FEW_NAMES = 3
MOST_BYTES = 8 * 10**9
"""Of larger sets evenly spread planes are looked at: a check should take minutes, not hours."""
MOST_IMAGES = 2000
"""Of more images evenly spread ones are opened and looked at one by one, if all of them can be opened."""

Progress = Callable[[int, int], None]
T = TypeVar("T")


def check_data(data: DataConfig, progress: Progress | None = None) -> Report:
    """Check images, and their labels if the options name any; reads one plane at a time.

    Parameters
    ----------
    data : DataConfig
        `images` must be set. Without `labels` only what segmenting needs is checked.
    progress : callable, optional
        Called with steps done and steps in all.

    Returns
    -------
    Report
        Errors first, then warnings, then what is good to know. Bad data never raises.
    """
    findings: list[Finding] = []
    listing = _attempt(lambda: list_items(data, bool(data.labels)), data.images or "", findings) or Listing(
        ()
    )
    findings += listing.findings
    steps = _attempt(lambda: parse_recipe(data.recipe), "data.recipe", findings) or ()
    files = [item.labels for item in listing.items if item.labels]
    table = _attempt(lambda: common_table(files, data), files[0], findings) if files else None
    first, good = _Openings(data, steps, table, findings), not _failed(findings)
    items, collection = listing.items, None
    if good and len(items) > MOST_IMAGES:  # opened in threads, and faster still the next time
        collection = _attempt(lambda: Collection(items, data), data.images or "", [])
    for item in items if collection is None else _spread(items, MOST_IMAGES):
        good = first.take(item) and good
        if first.bad > MOST_BAD_FILES:
            break
    if not good:
        collection = None
    elif items and collection is None:
        collection = _attempt(lambda: Collection(items, data), data.images or "", findings)
    classes: tuple[ClassCount, ...] = ()
    complete = True
    if collection:
        findings += [Finding(level="info", what=note, where=collection.title) for note in collection.notes]
        findings += judge_channels(collection, data)
        classes, complete = _look(collection, data, progress, findings)
    return Report(
        findings=tuple(sorted(_merged(findings), key=lambda finding: _ORDER.index(finding.level))),
        images=_summary(first.images, data.images, collection),
        labels=_summary(first.labels, data.labels, collection, of_labels=True),
        classes=classes,
        complete=complete,
    )


class _Openings:
    """Opens item after item, and notes everything that is wrong with each on its own and with its pair."""

    def __init__(
        self, data: DataConfig, steps: Sequence[Step], table: LabelTable | None, findings: list[Finding]
    ) -> None:
        self.images: Planes | None = None
        self.labels: Planes | None = None
        self.bad = 0
        self._data, self._steps, self._findings = data, steps, findings
        self._table = table

    def take(self, item: Item) -> bool:
        """Open an item; return whether it can be used."""
        before, data = len(self._findings), self._data
        images = self._open(lambda: open_images(item.images, data), item.images[0])
        labels = None
        if item.labels:
            labels = self._open(
                lambda: open_labels(item.labels, images, data.labels_as, self._table), item.labels
            )
        if images and labels:
            given, images = images, match_labels(images, labels)
            self._findings += judge_axes(given, images, data)
            if swapped(self._steps, item.name):
                images, labels = labels, images
        for source in filter(None, (images, labels)):
            self._findings += [
                Finding(level="info", what=note, where=source.path.name) for note in source.notes
            ]
        image_planes = label_planes = None
        if images:
            repaired = _attempt(
                lambda: repair_images(images, self._steps, item.name), item.name, self._findings
            )
            image_planes = Planes(repaired) if repaired else None
        if labels:
            repaired = _attempt(
                lambda: repair_labels(labels, self._steps, item.name, data.unlabelled_value or 0),
                item.name,
                self._findings,
            )
            label_planes = Planes(repaired) if repaired else None
        self.images, self.labels = self.images or image_planes, self.labels or label_planes
        if image_planes and label_planes:
            self._findings += judge_pair(image_planes, label_planes)
        if item.labels and absolute_address(item.labels) in map(absolute_address, item.images):
            what = "Images and labels are the same file."
            self._findings.append(
                Finding(level="error", what=what, where=item.name, remedy="Choose the label stack.")
            )
        if item.mask and images:
            self._open(lambda: open_mask(item.mask, images), item.mask)
        failed = _failed(self._findings[before:])
        self.bad += failed
        if image_planes and label_planes:
            self._findings += judge_patch(image_planes, data)
        return not failed

    def _open(self, opening: Callable[[], ImageSource], address: str) -> ImageSource | None:
        return _attempt(opening, address, self._findings)


def _look(
    collection: Collection, data: DataConfig, progress: Progress | None, findings: list[Finding]
) -> tuple[tuple[ClassCount, ...], bool]:
    """Read planes of images and labels, note what is found; return the classes, and if these are all."""
    labelled = bool(data.labels)
    planes = _chosen(collection)
    if len(planes) < collection.count:
        what = f"The set is large: {len(planes)} of {collection.count} slices, evenly spread, were looked at."
        findings.append(Finding(level="info", what=what, where=collection.title))
    step = _counter(progress, len(planes) * (1 + labelled))
    images: ImageFacts | None = _attempt(
        lambda: scan_images(collection, planes, step), collection.title, findings
    )
    if images:
        findings += judge_images(collection, images, len(planes))
    if not labelled:
        return (), True
    rule = LabelRule.of(data)
    labels: LabelFacts | None = _attempt(
        lambda: scan_labels(collection, rule, planes, step), collection.label_title, findings
    )
    if labels and len(planes) < collection.count and len(labels.table) < max(2, len(data.class_names)):
        # Of rare classes and few annotated slices the slices looked at may show nothing.
        planes = list(range(collection.count))
        labels = _attempt(
            lambda: scan_labels(collection, rule, planes, lambda: None), collection.label_title, findings
        )
    if labels:
        findings += judge_labels(collection, labels, data)
        if images:
            findings += judge_swap(collection, images, labels)
    findings += judge_mode(collection, data) + judge_split(collection, labels, data)
    return (count_classes(labels, data), len(planes) == collection.count) if labels else ((), False)


def _chosen(collection: Collection) -> list[int]:
    total = sum(entry.planes * entry.height * entry.width for entry in collection.entries)
    per_pixel = collection.channels * collection.dtype.itemsize
    share = min(1.0, MOST_BYTES / max(1, total * per_pixel))
    share = min(share, MOST_IMAGES / len(collection.entries))
    return _spread(range(collection.count), max(1, int(collection.count * share)))


def _spread(values: Sequence[T], most: int) -> list[T]:
    """Return at most so many of the values, evenly spread."""
    chosen = np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int)
    return [values[index] for index in np.unique(chosen)]


def _attempt(doing: Callable[[], T], address: str, findings: list[Finding]) -> T | None:
    try:
        return doing()
    except SegcoreError as error:
        name = Path(address.partition("::")[0]).name or address
        findings.append(
            Finding(level="error", what=error.message, where=name or "data.images", remedy=error.remedy)
        )
        return None


def _merged(findings: Sequence[Finding]) -> list[Finding]:
    """Say once what is the same of several files, with the number of files and the first names."""
    places: dict[tuple[str, str, str], dict[str, None]] = {}
    for finding in findings:
        places.setdefault((finding.level, finding.what, finding.remedy), {})[finding.where] = None
    merged = []
    for (level, what, remedy), names in places.items():
        listed = ", ".join(list(names)[:FEW_NAMES])
        where = listed if len(names) <= FEW_NAMES else f"{len(names)} files: {listed}, …"
        merged.append(Finding(level=level, what=what, where=where, remedy=remedy))
    return merged


def _failed(findings: Sequence[Finding]) -> bool:
    return any(finding.level == "error" for finding in findings)


def _counter(progress: Progress | None, total: int) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    return step


def _summary(
    planes: Planes | None, address: str | None, collection: Collection | None, of_labels: bool = False
) -> SourceSummary | None:
    if planes is None or address is None:
        return None
    source = planes.source
    text = f"{sizes_text(source.shape, source.axes)}, {source.dtype}"
    if collection is not None and len(collection.entries) > 1:
        sizes = f"labels of {collection.title}" if of_labels else collection.shape_text
        text = f"{sizes}, {source.dtype}"
    return SourceSummary(
        path=address,
        axes=source.axes,
        shape=source.shape,
        dtype=str(source.dtype),
        pixel_size=source.pixel_size,
        text=text,
    )
