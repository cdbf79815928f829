"""DataDesk: what the page may ask about chosen images: what they are, what is wrong, how they are divided."""

from __future__ import annotations

import glob
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from app.data_facts import Channel, Overview, Pair
from app.facts import Stack, pixel_size_text
from app.views import preview_step
from segcore.addresses import is_url, split_address
from segcore.config import DataConfig
from segcore.data.collection import Collection, extents, open_collection
from segcore.data.items import CHANNELS, Item, Listing, list_items
from segcore.data.opening import open_images, open_item
from segcore.data.planes import Planes
from segcore.data.recipe import parse_recipe
from segcore.data.splits import Split, parse_slices, split_images
from segcore.data.targets import LabelRule
from segcore.data.thinning import thinned
from segcore.errors import DataError, SegcoreError
from segcore.workspace import Workspace

T = TypeVar("T")
READING = {
    "images", "labels", "mask", "sets", "label_suffix", "axes", "pixel_size", "channels", "channel_suffixes",
    "recipe", "labels_as",
}  # fmt: skip
"""Options that decide which pixels are read."""
GLANCE = 1024
"""Rows and columns that are looked at for the grey values of a channel."""
KEPT = 6


@dataclass(frozen=True)
class Shot:
    """A slice for the page, thinned out to what is shown.

    Parameters
    ----------
    image_CYX : ndarray
        Grey values.
    labels_YX : ndarray, optional
        Label values as they are read.
    hidden_YX : ndarray, optional
        Where nobody annotated.
    name : str
        Of the slice.
    """

    image_CYX: np.ndarray
    labels_YX: np.ndarray | None
    hidden_YX: np.ndarray | None
    name: str


class DataDesk:
    """Opens what the page names, inside the workspace, and keeps the last few while their files stay.

    Parameters
    ----------
    workspace : Workspace
        The folder the app serves.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def located(self, data: DataConfig) -> DataConfig:
        """Return the options with absolute paths.

        Raises
        ------
        DataError
            A path is missing or lies outside the workspace, or is a URL and those are not allowed here.
        """
        return data.with_addresses(self._located)

    def shown(self, data: DataConfig) -> DataConfig:
        """Return the options with paths as the page shows them: relative to the workspace."""
        return data.with_addresses(
            lambda address: address if is_url(address) else self._workspace.relative(address)
        )

    def listing(self, data: DataConfig, labelled: bool = True) -> Listing:
        """Return which images the options mean and what belongs to each of them."""
        located = self.located(data)
        return self._keep("listing", located, lambda: list_items(located, labelled), labelled)

    def collection(self, data: DataConfig, labelled: bool = True) -> Collection:
        """Return the images as one list of planes, with their labels if `labelled`.

        Raises
        ------
        SegcoreError
            They cannot be read, or do not belong together.
        """
        located = self.located(data)
        return self._keep("collection", located, lambda: open_collection(located, labelled), labelled)

    def stack(self, data: DataConfig) -> Stack:
        """Describe images as they are read, beside their labels if any are named, without their pixels."""
        collection = self.collection(data, bool(data.labels))
        first = collection.open(0).images.source
        return Stack(
            path=data.images or "",
            axes=first.axes,
            shape=tuple(first.shape),
            dtype=str(first.dtype),
            pixel_size=pixel_size_text(first.pixel_size),
            planes=collection.count,
            channels=collection.channels,
            height=max(entry.height for entry in collection.entries),
            width=max(entry.width for entry in collection.entries),
            words="" if len(collection.entries) == 1 else collection.shape_text,
            size=collection.stack_size,
        )

    def overview(self, data: DataConfig) -> Overview:
        """Return what the page shows of the images before a pixel is judged; labels may be missing."""
        labelled = bool(data.labels)
        listing = self.listing(data, labelled)
        if not listing.items:
            raise DataError(
                "\n".join(finding.what for finding in listing.findings) or "There are no images.",
                next((finding.remedy for finding in listing.findings if finding.remedy), "Choose others."),
            )
        every = self.located(data).model_copy(update={"channels": None})
        planes = _first(listing.items[0], every)
        pairs = tuple(
            Pair(item.name, Path(item.labels).name, Path(item.mask).name, item.use) for item in listing.items
        )
        return Overview(
            axes=planes.source.axes,
            shape=tuple(planes.source.shape),
            given=bool(data.axes),
            channels=_channels(planes, data),
            pixel_size=pixel_size_text(planes.source.pixel_size),
            pairs=pairs,
            problems=tuple((one.level, one.what, one.remedy) for one in listing.findings),
        )

    def shot(self, data: DataConfig, index: int, limit: int, labelled: bool = True) -> Shot:
        """Return a slice, `limit` pixels on its longer side at most; beyond the end means the last."""
        collection = self.collection(data, labelled)
        index = min(max(index, 0), collection.count - 1)
        number, plane = collection.locate(index)
        opened = collection.open(number)
        step = preview_step(opened.images.height, opened.images.width, limit)
        labels = thinned(opened.labels, plane, step)[0] if opened.labels else None
        hidden = None
        if opened.labels:
            hidden = LabelRule.of(data).hidden(opened, plane, index)
            hidden = None if hidden is None else hidden[::step, ::step]
        return Shot(thinned(opened.images, plane, step), labels, hidden, collection.name(index))

    def split(self, data: DataConfig) -> tuple[Collection, Split]:
        """Return how the images are divided, and the images.

        Raises
        ------
        SegcoreError
            The images cannot be read, or cannot be divided as asked for.
        """
        collection = self.collection(data)
        return collection, split_images(extents(collection), data)

    def stamp(self, data: DataConfig) -> tuple[tuple[str, int, int], ...]:
        """Return what changes when somebody changes the files: when they were written, and their sizes."""
        data = self.located(data)
        named = [data.images, data.labels, data.mask]
        named += [path for one in data.sets for path in (one.images, one.labels, one.mask)]
        paths = [part.strip() for text in named if text for part in text.split(CHANNELS)]
        return tuple(_stamp(path) for path in paths)

    def _located(self, address: str) -> str:
        full = self._workspace.address(address)
        file = split_address(full)[0]
        if not (is_url(full) or os.path.exists(file) or glob.has_magic(file)):
            raise DataError(
                f"{address!r} is not in the workspace any more.", "Choose another file, or upload it again."
            )
        return full

    def _keep(self, what: str, located: DataConfig, make: Callable[[], T], *more: Hashable) -> T:
        """Return what is kept for these files and options, or make it; two that come at once may both."""
        key = (what, self.stamp(located), located.model_dump_json(include=READING), *more)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                kept: T = self._kept[key]
                return kept
        made = make()
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return made


def _first(item: Item, data: DataConfig) -> Planes:
    try:
        return open_item(item, data, parse_recipe(data.recipe)).images
    except SegcoreError:
        # Labels that do not fit are the business of the check; the images are shown all the same.
        return Planes(open_images(item.images, data))


def _channels(planes: Planes, data: DataConfig) -> tuple[Channel, ...]:
    used = parse_slices(data.channels) if data.channels else tuple(range(planes.channels))
    names = dict(zip(used, data.channel_names, strict=False))
    rows, columns = (_middle(size) for size in (planes.height, planes.width))
    part_CYX = planes.window(planes.count // 2, rows, columns)
    found = []
    for number, part_YX in enumerate(part_CYX):
        finite = part_YX[np.isfinite(part_YX)]
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
        found.append(Channel(number, names.get(number, ""), number in used, low, high))
    return tuple(found)


def _middle(size: int) -> slice:
    start = max(0, (size - GLANCE) // 2)
    return slice(start, start + GLANCE)


def _stamp(path: str) -> tuple[str, int, int]:
    file = path if is_url(path) else split_address(path)[0]
    try:
        status = os.stat(file)
    except OSError:
        return path, 0, 0
    if not os.path.isdir(file):
        return path, status.st_mtime_ns, status.st_size
    # A file that is added or taken away changes its folder; one level of folders is looked at.
    with os.scandir(file) as entries:
        inner = [entry.stat().st_mtime_ns for entry in entries if entry.is_dir()]
    return path, max([status.st_mtime_ns, *inner]), len(inner)
