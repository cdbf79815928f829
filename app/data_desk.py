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
from app.facts import pixel_size_text
from app.views import preview_step
from segcore.addresses import is_url, join_address, split_address
from segcore.config import DataConfig
from segcore.data.collection import Collection, open_collection, open_images, open_item
from segcore.data.dataset import extents
from segcore.data.items import CHANNELS, Item, Listing, list_items
from segcore.data.planes import Planes
from segcore.data.recipe import parse_recipe
from segcore.data.splits import Split, parse_slices, split_images
from segcore.data.targets import LabelRule
from segcore.errors import DataError, SegcoreError
from segcore.workspace import Workspace

T = TypeVar("T")
ALLOW_URLS = "SEGCORE_ALLOW_URLS"
READING = {
    "images", "labels", "mask", "sets", "label_suffix", "axes", "pixel_size", "channels", "channel_suffixes",
    "recipe", "labels_as",
}  # fmt: skip
"""Options that decide which pixels are read."""
GLANCE = 1024
"""Rows and columns that are looked at for the grey values of a channel."""
BAND_PIXELS = 64 * 2**20
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
    """Opens what the page names, inside the workspace, and keeps the last few while their files stay the same.

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
        paths = {name: self._located(getattr(data, name)) for name in ("images", "labels", "mask")}
        sets = [
            one.model_copy(
                update={name: self._located(getattr(one, name)) for name in ("images", "labels", "mask")}
            )
            for one in data.sets
        ]
        return data.model_copy(update={**paths, "sets": sets})

    def shown(self, data: DataConfig) -> DataConfig:
        """Return the options with paths as the page shows them: relative to the workspace."""
        paths = {name: self._relative(getattr(data, name)) for name in ("images", "labels", "mask")}
        sets = [
            one.model_copy(
                update={name: self._relative(getattr(one, name)) for name in ("images", "labels", "mask")}
            )
            for one in data.sets
        ]
        return data.model_copy(update={**paths, "sets": sets})

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
        labels = _thinned(opened.labels, plane, step)[0] if opened.labels else None
        hidden = None
        if opened.labels:
            hidden = LabelRule.of(data).hidden(opened, plane, index)
            hidden = None if hidden is None else hidden[::step, ::step]
        return Shot(_thinned(opened.images, plane, step), labels, hidden, collection.name(index))

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

    def _located(self, text: str | None) -> str | None:
        if not text:
            return None
        return CHANNELS.join(self._one(part.strip()) for part in text.split(CHANNELS) if part.strip())

    def _one(self, address: str) -> str:
        if is_url(address):
            if os.environ.get(ALLOW_URLS) != "1":
                raise DataError(
                    f"{address} is an address on the network; this server reads only its own workspace.",
                    f"Copy the images into the workspace, or start the app with {ALLOW_URLS}=1.",
                )
            return address
        file, name = split_address(address)
        full = self._workspace.resolve(file)
        if not full.exists() and not glob.has_magic(file):
            raise DataError(
                f"{file!r} is not in the workspace any more.", "Choose another file, or upload it again."
            )
        return join_address(full, name)

    def _relative(self, text: str | None) -> str | None:
        if not text:
            return None
        return CHANNELS.join(self._workspace.relative(part) for part in text.split(CHANNELS))

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


def _thinned(planes: Planes, index: int, step: int) -> np.ndarray:
    """Read every `step`-th pixel of a plane, in bands of rows: a huge plane is never in memory as a whole."""
    band = max(1, BAND_PIXELS // (planes.width * planes.channels * step)) * step
    parts = [
        planes.window(index, slice(row, row + band), slice(None))[:, ::step, ::step]
        for row in range(0, planes.height, band)
    ]
    return np.concatenate(parts, axis=1)


def _stamp(path: str) -> tuple[str, int, int]:
    file = path if is_url(path) else split_address(path)[0]
    try:
        status = os.stat(file)
    except OSError:
        return path, 0, 0
    if not os.path.isdir(file):
        return path, status.st_mtime_ns, status.st_size
    # A file that is added or taken away changes its folder; of folders in folders the first level is looked at.
    with os.scandir(file) as entries:
        inner = [entry.stat().st_mtime_ns for entry in entries if entry.is_dir()]
    return path, max([status.st_mtime_ns, *inner]), len(inner)
