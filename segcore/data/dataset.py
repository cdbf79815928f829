"""What a training run reads: all annotated regions in memory, split into training and validation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil

from segcore.card import Normalization, PixelSize
from segcore.config import DataConfig
from segcore.data.manifest import Region, Split, class_table, encode_labels, split_planes
from segcore.data.normalize import fit_normalization
from segcore.data.open import match_labels, open_labels, open_source
from segcore.data.planes import Planes
from segcore.errors import ConfigError, DataError
from segcore.files import sha256

Pair = tuple[np.ndarray, np.ndarray]
"""Image `(C, Y, X)` in the file's grey values, class indices `(Y, X)`."""

MEMORY_SHARE = 0.8
"""Share of the free memory the images may take; the network needs the rest."""


@dataclass(frozen=True)
class TrainingData:
    """Regions of an image and its labels, in memory, and what the model must remember of them."""

    train: list[Pair]
    validation: list[Pair]
    split: Split
    """Where the pairs of `train` and `validation` lie in the stack, in the same order."""
    class_values: tuple[int, ...]
    class_names: tuple[str, ...]
    normalization: Normalization
    axes: str
    dtype: str
    pixel_size: PixelSize
    data_hash: str
    notes: tuple[str, ...]

    @property
    def channels(self) -> int:
        """Channels of the image."""
        return int(self.train[0][0].shape[0])


def load_training_data(data: DataConfig, progress: Callable[[int, int], None] | None = None) -> TrainingData:
    """Read the image and label stacks of a configuration.

    Parameters
    ----------
    data : DataConfig
        `images` and `labels` must be set.
    progress : callable, optional
        Called with planes read and planes in all.

    Raises
    ------
    DataError
        A file cannot be read, the two do not belong together, or they do not fit into memory.
    ConfigError
        A path is missing, or the validation slices are not in the stack.
    """
    if not data.images or not data.labels:
        raise ConfigError(
            "data.images and data.labels are both needed for training.", "Choose an image and a label stack."
        )
    image_path, label_path = Path(data.images), Path(data.labels)
    images, labels = open_pair(image_path, label_path, data.axes)
    source = images.source
    _check_memory(images, image_path)
    table = class_table(labels, data.labels_as)
    class_values = tuple(sorted(table))
    if len(class_values) < 2:
        raise DataError(
            f"{label_path.name} holds only the value {class_values[0]}; "
            "a network needs at least two classes to tell apart.",
            "Choose the label stack that belongs to the images.",
        )
    split = split_planes(images.count, images.height, data)
    wanted = [*split.train, *split.validation]
    pairs: list[Pair] = []
    for number, region in enumerate(wanted):
        pairs.append(_read_pair(images, labels, region, class_values, data))
        if progress:
            progress(number + 1, len(wanted))
    train, validation = pairs[: len(split.train)], pairs[len(split.train) :]
    return TrainingData(
        train=train,
        validation=validation,
        split=split,
        class_values=class_values,
        class_names=_class_names(class_values, data),
        normalization=fit_normalization((image for image, _ in train), data.normalization),
        axes=source.axes,
        dtype=str(source.dtype),
        pixel_size=source.pixel_size,
        data_hash=sha256(source.path, labels.source.path),
        notes=(*split.notes, *source.notes),
    )


def open_pair(images_path: Path, labels_path: Path, axes: str | None) -> tuple[Planes, Planes]:
    """Open images and their labels.

    Raises
    ------
    DataError
        A file cannot be read, or the labels do not lie on the same grid as the images.
    """
    labels = Planes(open_labels(labels_path))
    images = Planes(match_labels(open_source(images_path, axes), labels.source))
    if (images.count, images.height, images.width) != (labels.count, labels.height, labels.width):
        raise DataError(
            f"Images and labels differ in shape: {images.shape_text} against {labels.shape_text}.",
            "Choose the label stack drawn on these images; it must have the same slices, rows and columns.",
        )
    if labels.channels != 1:
        raise DataError(
            f"The labels have {labels.channels} channels; a label stack has one.",
            "Export the labels as one integer value per pixel.",
        )
    return images, labels


def read_labels(labels: Planes, plane: int, class_values: tuple[int, ...], labels_as: str) -> np.ndarray:
    """Return one label plane as class indices `(Y, X)`."""
    return encode_labels(labels.read(plane)[0], class_values, labels_as)


def _read_pair(
    images: Planes, labels: Planes, region: Region, values: tuple[int, ...], data: DataConfig
) -> Pair:
    rows = slice(*region.rows)
    image_CYX = images.read(region.plane)[:, rows]
    label_YX = read_labels(labels, region.plane, values, data.labels_as)[rows]
    return image_CYX, label_YX


def _check_memory(images: Planes, path: Path) -> None:
    width = images.dtype.itemsize if images.dtype in (np.uint8, np.uint16) else 4
    need = images.count * images.height * images.width * (images.channels * width + 2)
    have = psutil.virtual_memory().available
    if need > MEMORY_SHARE * have:
        raise DataError(
            f"{path.name} needs {need / 1e9:.1f} GB of memory for training; {have / 1e9:.1f} GB are free.",
            "Train on a part of the stack: a few dozen annotated slices are usually enough.",
        )


def _class_names(values: tuple[int, ...], data: DataConfig) -> tuple[str, ...]:
    if not data.class_names:
        return tuple(str(value) for value in values)
    if len(data.class_names) != len(values):
        raise ConfigError(
            f"data.class_names names {len(data.class_names)} classes, the labels hold {len(values)}: "
            f"{', '.join(map(str, values))}.",
            "Give one name per label value, in ascending order.",
        )
    return tuple(data.class_names)
