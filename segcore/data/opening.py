"""Opening one image of a data set with what belongs to it: axes, channels, labels, mask, repairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from segcore.addresses import split_address
from segcore.card import PixelSize
from segcore.config import DataConfig
from segcore.data.channels import Calibrated, Chosen, Joined
from segcore.data.colours import is_coloured
from segcore.data.items import Item, Use
from segcore.data.labels import (
    LabelTable,
    annotated_part,
    label_table,
    match_labels,
    open_labels,
    open_mask,
    outlines_kind,
)
from segcore.data.open import open_source
from segcore.data.planes import Planes
from segcore.data.recipe import Step, repair_images, repair_labels, repair_mask, swapped
from segcore.data.repeated import Repeated
from segcore.data.source import ImageSource
from segcore.data.splits import parse_slices
from segcore.errors import ConfigError, DataError


@dataclass(frozen=True)
class Opened:
    """An image with its labels and its annotated part, open for lazy reading."""

    name: str
    use: Use
    images: Planes
    labels: Planes | None = None
    masks: tuple[Planes, ...] = ()
    """Above 0 where somebody annotated, in all of them; none: everywhere."""


def open_item(
    item: Item,
    data: DataConfig,
    steps: Sequence[Step] = (),
    table: LabelTable | None = None,
    repeat: int = 0,
) -> Opened:
    """Open one image with what belongs to it, as the options say.

    Parameters
    ----------
    item : Item
        What to open.
    data : DataConfig
        Axes, channels, pixel size, reading of labels.
    steps : sequence of Step
        Repairs.
    table : LabelTable, optional
        Which values colours and names have in all files of the set.
    repeat : int
        A grey image is read as so many equal channels; 0: as it is.

    Raises
    ------
    DataError
        A file cannot be read, or the labels do not lie on the grid of the image.
    """
    images, address = open_images(item.images, data), item.labels
    labels = open_labels(address, images, data.labels_as, table) if address else None
    parts: list[ImageSource] = []
    if labels is not None:
        images = match_labels(images, labels)
        own = annotated_part(labels)
        parts += [] if own is None else [repair_mask(own, steps, item.name, with_labels=True)]
    if item.mask:
        parts.append(repair_mask(open_mask(item.mask, images), steps, item.name))
    if swapped(steps, item.name) and labels is not None:
        images, labels = labels, images
    images = repair_images(images, steps, item.name)
    if repeat and Planes(images).channels == 1:
        images = Repeated(images, repeat)
    planes = Planes(images)
    if labels is not None:
        labels = repair_labels(labels, steps, item.name, data.unlabelled_value or 0)
    return Opened(
        item.name,
        item.use,
        planes,
        _beside(planes, labels, "labels", item) if labels is not None else None,
        tuple(_beside(planes, part, "mask", item) for part in parts),
    )


def common_table(labels: Sequence[str], data: DataConfig) -> LabelTable:
    """Return which values colours and names have in all label files, so that each means the same everywhere.

    Files of numbers need no table; whether these are, the first one of every kind of file tells.

    Raises
    ------
    DataError
        A file cannot be read.
    """
    alone = LabelTable(coco=data.coco_as)
    if len(labels) < 2:
        return alone
    kinds: dict[str, str] = {}
    for address in labels:
        kinds.setdefault(Path(split_address(address)[0]).suffix.lower(), address)
    if not any(_has_meanings(address) for address in kinds.values()):
        return alone
    return replace(label_table(labels), coco=data.coco_as)


def _has_meanings(address: str) -> bool:
    """Say whether a label file holds colours or names, which mean a value only by a table."""
    place, name = split_address(address)
    return bool(outlines_kind(Path(place), name)) or is_coloured(open_source(address))


def open_images(addresses: Sequence[str], data: DataConfig) -> ImageSource:
    """Open one image: a file, or files of one channel each, with axes, channels and pixel size as asked for.

    Raises
    ------
    DataError
        A file cannot be read, or the files do not fit together.
    ConfigError
        There is no such channel.
    """
    sources = [open_source(address, data.axes) for address in addresses]
    source: ImageSource = sources[0] if len(sources) == 1 else Joined(sources)
    if data.channels:
        chosen = parse_slices(data.channels)
        there = Planes(source).channels
        if chosen[-1] >= there:
            raise ConfigError(
                f"data.channels {data.channels!r} names channel {chosen[-1]}, but {source.path.name} has "
                f"{there}, counted from 0.",
                "Choose channels that are there.",
            )
        source = Chosen(source, chosen)
    if data.pixel_size:
        source = Calibrated(source, given_pixel_size(data.pixel_size))
    return source


def given_pixel_size(text: str) -> PixelSize:
    """Return the voxel size of an option like "0.2" (rows and columns) or "1,0.2,0.2" (z, y, x), in µm."""
    numbers = [float(part) for part in text.split(",")]
    z, y, x = numbers if len(numbers) == 3 else (None, numbers[0], numbers[0])
    return PixelSize(z=z or None, y=y or None, x=x or None)


def _beside(images: Planes, source: ImageSource, what: str, item: Item) -> Planes:
    """Return labels or a mask as planes, once it is clear that they lie on the grid of the image."""
    planes = Planes(source)
    if (images.count, images.height, images.width) != (planes.count, planes.height, planes.width):
        raise DataError(
            f"Images and {what} differ in shape: {images.shape_text} against {planes.shape_text} "
            f"({Path(item.images[0]).name}, {source.path.name}).",
            f"Choose the {what} drawn on these images; they must have the same slices, rows and columns.",
        )
    if planes.channels != 1:
        raise DataError(
            f"The {what} have {planes.channels} channels; a label stack has one ({source.path.name}).",
            "Export them as one integer value per pixel.",
        )
    return planes
