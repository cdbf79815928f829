"""Collection: the images of a configuration, opened one at a time and seen as one list of planes."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from segcore.axes import sizes_text
from segcore.card import PixelSize
from segcore.config import DataConfig
from segcore.data.index import key_of, recall
from segcore.data.items import Item, Listing, list_items
from segcore.data.labels import LabelTable
from segcore.data.opening import Opened, common_table, open_item
from segcore.data.recipe import parse_recipe
from segcore.data.splits import Extent
from segcore.data.suitability import size_notes
from segcore.errors import ConfigError, DataError
from segcore.estimate import Stack

KEPT_OPEN = 64
"""Images that stay open: opening one reads its header, which takes a millisecond."""
INDEXED = 32
"""From so many images on, what is known of them is kept: fewer are opened as fast as looked up."""
COLOURS = 3
_AFTERWARDS = {
    "images", "labels", "mask", "sets", "label_suffix", "channel_names", "channel_suffixes", "class_names",
    "annotated_slices", "mode", "context_slices", "context_spacing", "patch_size", "patch_depth",
    "patches_per_image", "foreground_patches", "loading", "augmentation", "split_by", "validation_fraction",
    "test_fraction", "validation_slices", "test_slices", "group_pattern", "validation_groups", "test_groups",
    "folds", "fold", "normalization", "normalize_per",
}  # fmt: skip
"""Options that change nothing about how the files of an item are read."""


@dataclass(frozen=True)
class Entry:
    """What is known of an image without keeping it open."""

    item: Item
    planes: int
    depth: int
    height: int
    width: int
    channels: int
    dtype: np.dtype[Any]
    axes: str
    pixel_size: PixelSize


class Collection:
    """Images of any number and size, their planes counted through in the order of the items.

    Parameters
    ----------
    items : sequence of Item
        At least one.
    data : DataConfig
        How they are read: axes, channels, pixel size, repairs.
    progress : callable, optional
        Called with images looked at and images in all.

    Raises
    ------
    DataError
        An image or its labels cannot be read or do not belong together, or the images differ in channels or
        type.
    ConfigError
        A repair or the choice of channels does not fit.
    """

    def __init__(
        self,
        items: Sequence[Item],
        data: DataConfig,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.data = data
        self._steps = parse_recipe(data.recipe)
        self._open: OrderedDict[int, Opened] = OrderedDict()
        self._lock = threading.Lock()
        self._repeat = 0
        self._table = common_table([item.labels for item in items if item.labels], data)
        entries = _entries(
            items, data, lambda item: open_item(item, data, self._steps, self._table), progress
        )
        channels = {entry.channels for entry in entries}
        self.entries: tuple[Entry, ...] = tuple(entries)
        self.channels: int = max(channels)
        notes = size_notes([entry.pixel_size for entry in entries])
        if channels == {1, COLOURS}:
            self._repeat = COLOURS
            grey = sum(entry.channels == 1 for entry in entries)
            notes.append(
                f"{grey} of {len(entries)} images are grey, the others in colour: grey ones are read with "
                "three equal channels."
            )
        elif len(channels) > 1:
            raise DataError(
                _differing(entries, "channels"), "Use images with the same channels, or choose some."
            )
        if len({entry.dtype for entry in entries}) > 1:
            raise DataError(
                _differing(entries, "dtype"),
                'Repair it on reading: add "images.depth uint16" (or float32) to data.recipe, or use segcore '
                "check --fix.",
            )
        self.notes: tuple[str, ...] = tuple(notes)
        self._starts = [0, *accumulate(entry.planes for entry in entries)]

    @property
    def count(self) -> int:
        """Planes of all images."""
        return self._starts[-1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the images."""
        return self.entries[0].dtype

    @property
    def has_table(self) -> bool:
        """Whether the values of labels come from a table over all label files."""
        return self._table != LabelTable(coco=self.data.coco_as)

    @property
    def items(self) -> Sequence[Opened]:
        """The images, opened where they are asked for."""
        return _Items(self)

    @property
    def stack_size(self) -> Stack:
        """What an estimate of time and memory must know; the largest image counts."""
        size = self.entries[0].pixel_size
        return Stack(
            self.count,
            max(entry.height for entry in self.entries),
            max(entry.width for entry in self.entries),
            self.channels,
            self.dtype.itemsize,
            max(entry.depth for entry in self.entries),
            (size.z, size.y, size.x),
        )

    @property
    def title(self) -> str:
        """Name of the image file, or how many there are."""
        if len(self.entries) == 1:
            return self.open(0).images.source.path.name
        return f"{len(self.entries)} images"

    @property
    def label_title(self) -> str:
        """Name of the label file, or of how many images they are."""
        labels = self.open(0).labels
        if len(self.entries) == 1 and labels is not None:
            return labels.source.path.name
        return f"labels of {len(self.entries)} images"

    @property
    def shape_text(self) -> str:
        """What it is, for people: "30 × 512 × 512, ZYX", or "60 images, 256 × 256 to 1024 × 1024"."""
        first = self.entries[0]
        if len(self.entries) == 1:
            return self.open(0).images.shape_text
        sizes = sorted({(entry.height, entry.width) for entry in self.entries})
        text = sizes_text(sizes[0])
        if len(sizes) > 1:
            text += f" to {sizes_text(sizes[-1])}"
        planes = "" if self.count == len(self.entries) else f" with {self.count} slices"
        return f"{len(self.entries)} images{planes}, {text}, {first.axes}"

    def open(self, number: int) -> Opened:
        """Return image `number` with what belongs to it.

        Raises
        ------
        DataError
            It was there before and cannot be read now.
        """
        with self._lock:
            if number in self._open:
                self._open.move_to_end(number)
                return self._open[number]
        opened = open_item(self.entries[number].item, self.data, self._steps, self._table, self._repeat)
        with self._lock:
            self._open[number] = opened
            while len(self._open) > KEPT_OPEN:
                self._open.popitem(last=False)
        return opened

    def locate(self, index: int) -> tuple[int, int]:
        """Return the image plane `index` belongs to, and its number in that image.

        Raises
        ------
        IndexError
            There is no such plane.
        """
        if not 0 <= index < self.count:
            raise IndexError(f"plane {index} of {self.count}")
        number = bisect_right(self._starts, index) - 1
        return number, index - self._starts[number]

    def position(self, number: int, plane: int) -> int:
        """Return the number that a plane of image `number` has among all planes."""
        return self._starts[number] + plane

    def read(self, index: int) -> np.ndarray:
        """Return plane `index` as `(C, Y, X)`."""
        return self.window(index, slice(None), slice(None))

    def window(self, index: int, rows: slice, columns: slice) -> np.ndarray:
        """Return part of plane `index` as `(C, rows, columns)`."""
        number, plane = self.locate(index)
        return self.open(number).images.window(plane, rows, columns)

    def size(self, index: int) -> tuple[int, int]:
        """Return rows and columns of plane `index`."""
        entry = self.entries[self.locate(index)[0]]
        return entry.height, entry.width

    def name(self, index: int) -> str:
        """Return what plane `index` is called: "slice 12", or "PosA/3.tif", or "PosA/3.tif, slice 12"."""
        number, plane = self.locate(index)
        entry = self.entries[number]
        if len(self.entries) == 1:
            return self.open(0).images.name(plane)
        if entry.planes == 1:
            return entry.item.name
        return f"{entry.item.name}, {self.open(number).images.name(plane)}"


class _Items(Sequence[Opened]):
    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    def __len__(self) -> int:
        return len(self._collection.entries)

    def __getitem__(self, number: Any) -> Any:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return self._collection.open(number)

    def __iter__(self) -> Iterator[Opened]:
        return (self._collection.open(number) for number in range(len(self)))


def open_collection(
    data: DataConfig, labelled: bool = True, progress: Callable[[int, int], None] | None = None
) -> Collection:
    """Open the images that a configuration names, with their labels if `labelled`.

    Raises
    ------
    ConfigError
        No images or, with `labelled`, no labels are named; a repair or the choice of channels does not fit.
    DataError
        Files are missing, unreadable, or do not belong together.
    """
    if not data.images:
        raise ConfigError("data.images is missing.", "Choose an image stack or a folder of images.")
    if labelled and not data.labels:
        raise ConfigError(
            "data.images and data.labels are both needed.", "Choose an image and a label stack."
        )
    return Collection(_items(list_items(data, labelled)), data, progress)


def _items(listing: Listing) -> tuple[Item, ...]:
    errors = [finding for finding in listing.findings if finding.level == "error"]
    if errors:
        raise DataError("\n".join(error.what for error in errors), errors[0].remedy)
    return listing.items


def _entries(
    items: Sequence[Item],
    data: DataConfig,
    opening: Callable[[Item], Opened],
    progress: Callable[[int, int], None] | None,
) -> list[Entry]:
    """Return what is known of the images; of many, what is in the index is not opened again."""

    def key(item: Item) -> str | None:
        return key_of("entry", item.addresses, reading(data, item)) if len(items) >= INDEXED else None

    facts = recall([key(item) for item in items], lambda number: _facts(opening(items[number])), progress)
    return [
        Entry(
            item=item,
            **{name: fact[name] for name in ("planes", "depth", "height", "width", "channels", "axes")},
            dtype=np.dtype(fact["dtype"]),
            pixel_size=PixelSize(**fact["pixel_size"]),
        )
        for item, fact in zip(items, facts, strict=True)
    ]


def reading(data: DataConfig, item: Item) -> str:
    """Return all options on which it depends what is read from an item, as one text."""
    return data.model_dump_json(exclude=_AFTERWARDS) + (item.name if data.recipe else "")


def _facts(opened: Opened) -> dict[str, Any]:
    images = opened.images
    return {
        "planes": images.count,
        "depth": images.depth,
        "height": images.height,
        "width": images.width,
        "channels": images.channels,
        "dtype": str(images.dtype),
        "axes": images.source.axes,
        "pixel_size": images.source.pixel_size.model_dump(),
    }


def _differing(entries: Sequence[Entry], what: str) -> str:
    groups: dict[str, list[str]] = {}
    for entry in entries:
        groups.setdefault(str(getattr(entry, what)), []).append(entry.item.name)
    parts = [
        f"{len(names)} × {value} ({names[0]}{', …' if names[1:] else ''})" for value, names in groups.items()
    ]
    return f"The images differ in {'type' if what == 'dtype' else what}: {'; '.join(parts)}."


def extents(collection: Collection, per_plane: Sequence[frozenset[int]] = ()) -> list[Extent]:
    """Return what a split must know of images; `per_plane` are the label values of all planes, if known."""
    found = []
    for number, entry in enumerate(collection.entries):
        start = collection.position(number, 0)
        classes = tuple(per_plane[start : start + entry.planes])
        item = entry.item
        found.append(Extent(item.name, entry.planes, entry.height, item.use, classes, entry.depth))
    return found
