"""What a training run reads: volumes of images with their annotation, split into training and validation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from segcore.card import Histogram, Normalization, PixelSize
from segcore.config import DataConfig, Mode
from segcore.data.collection import Collection, open_collection
from segcore.data.histograms import histogram_of
from segcore.data.labels import value_names
from segcore.data.loading import Loader, choose_loading
from segcore.data.manifest import ONE_CLASS
from segcore.data.normalize import fit_normalization
from segcore.data.planes import strips
from segcore.data.splits import Split, split_images
from segcore.data.targets import LabelRule, extents_of, table_of
from segcore.data.volumes import Volume
from segcore.errors import ConfigError, DataError
from segcore.files import sha256_of_all

MOST_PLANES = 256
"""Planes from which grey values are taken where images are read from disk; evenly spread."""


@dataclass(frozen=True)
class TrainingData:
    """The annotated parts of a collection, and what the model must remember of it."""

    collection: Collection
    train: list[Volume]
    validation: list[Volume]
    split: Split
    class_values: tuple[int, ...]
    class_names: tuple[str, ...]
    normalization: Normalization
    histograms: tuple[Histogram, ...]
    axes: str
    dtype: str
    pixel_size: PixelSize
    data_hash: str
    on_disk: bool
    """Whether the volumes are read patch by patch."""
    notes: tuple[str, ...]

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return self.collection.channels

    @property
    def mode(self) -> Mode:
        """Dimensions of the network."""
        return self.collection.data.mode


def load_training_data(
    data: DataConfig, progress: Callable[[int, int], None] | None = None, objects: bool = False
) -> TrainingData:
    """Read the images and labels of a configuration.

    Parameters
    ----------
    data : DataConfig
        `images` and `labels` must be set.
    progress : callable, optional
        Called with planes read and planes in all.
    objects : bool
        Whether the volumes are labelled with numbers of objects; their classes are 0 and 1 then.

    Raises
    ------
    DataError
        A file cannot be read, images and labels do not belong together, or they do not fit into memory.
    ConfigError
        A path is missing, or the split cannot be made.
    """
    collection = open_collection(data)
    rule = LabelRule.of(data)
    table = table_of(collection, rule)
    class_values = tuple(table.pixels)
    if len(class_values) < 2:
        raise DataError(
            f"{Path(data.labels or '').name} holds only the value {class_values[0]}; "
            "a network needs at least two classes to tell apart.",
            "Choose the label stack that belongs to the images.",
        )
    split = split_images(extents_of(collection, rule, table.per_plane), data)
    loading = choose_loading(collection, split, data, objects)
    loader = Loader(collection, class_values, rule, loading.on_disk, objects)
    total = loader.planes(split.train) + loader.planes(split.validation)
    loader.progress = (lambda done: progress(done, total)) if progress else None
    train = loader.volumes(split.train, others=(*split.validation, *split.test))
    validation = loader.volumes(split.validation, validates=True)
    normalization = fit_normalization(_planes(train), data.normalization)
    if data.normalize_per == "image":
        train, validation = (_own_normalization(part, collection, data) for part in (train, validation))
    return TrainingData(
        collection=collection,
        train=train,
        validation=validation,
        split=split,
        class_values=class_values,
        class_names=class_names(class_values, data, found_names(collection)),
        normalization=normalization.model_copy(update={"per": data.normalize_per}),
        histograms=histogram_of(_planes(train)),
        axes=collection.entries[0].axes,
        dtype=str(collection.dtype),
        pixel_size=collection.entries[0].pixel_size,
        data_hash=data_hash(collection),
        on_disk=loading.on_disk,
        notes=(*split.notes, *collection.notes, *_source_notes(collection), *loading.notes),
    )


def found_names(collection: Collection) -> dict[int, str]:
    """Return what label files call their values: categories of COCO, classes of GeoJSON, groups of ROIs."""
    labels = collection.open(0).labels
    if labels is None or collection.data.labels_as in ONE_CLASS:
        return {}
    return value_names(labels.source)


def class_names(values: tuple[int, ...], data: DataConfig, found: dict[int, str]) -> tuple[str, ...]:
    """Return the names of the classes: as given, as `found` in the label files, or their values.

    Raises
    ------
    ConfigError
        There are more or fewer names than values.
    """
    if not data.class_names:
        return tuple(found.get(value, str(value)) for value in values)
    if len(data.class_names) != len(values):
        raise ConfigError(
            f"data.class_names names {len(data.class_names)} classes, the labels hold {len(values)}: "
            f"{', '.join(map(str, values))}.",
            "Give one name per label value, in ascending order.",
        )
    return tuple(data.class_names)


def data_hash(collection: Collection) -> str:
    """Return a hash over all files of a collection, see `files.sha256_of_all`."""
    addresses: list[str] = []
    for entry in collection.entries:
        addresses += [*entry.item.images, entry.item.labels, entry.item.mask]
    return sha256_of_all(dict.fromkeys(address for address in addresses if address))


def _planes(volumes: Iterable[Volume]) -> Iterator[np.ndarray]:
    """Yield the annotated planes `(C, Y, X)`; of many that are read from disk, evenly spread ones."""
    places = [(volume, plane) for volume in volumes for plane in volume.annotated]
    if places and not isinstance(places[0][0].image_ZCYX, np.ndarray) and len(places) > MOST_PLANES:
        chosen = np.linspace(0, len(places) - 1, MOST_PLANES).round().astype(int)
        places = [places[index] for index in np.unique(chosen)]
    for volume, plane in places:
        yield np.asarray(volume.image_ZCYX[plane : plane + 1, :, :, :])[0]


def _own_normalization(volumes: list[Volume], collection: Collection, data: DataConfig) -> list[Volume]:
    """Give every volume the normalisation of its whole image, as it is done when images are segmented."""
    known: dict[int, Normalization] = {}
    result = []
    for volume in volumes:
        if volume.item not in known:
            images = collection.open(volume.item).images
            known[volume.item] = fit_normalization(strips(images, range(images.count)), data.normalization)
        result.append(replace(volume, normalization=known[volume.item]))
    return result


def _source_notes(collection: Collection) -> tuple[str, ...]:
    """Return what had to be assumed to read the images, each sentence once."""
    notes: dict[str, None] = {}
    for number in range(min(len(collection.entries), MOST_PLANES)):
        notes |= dict.fromkeys(collection.open(number).images.source.notes)
    return tuple(notes)
