"""Stacks of labels: objects of single slices written as one TIFF per image, each with a number of its own.

Torch-free.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from segcore.addresses import split_address
from segcore.data.collection import Collection
from segcore.data.found import stem_of
from segcore.data.planes import Planes
from segcore.errors import DataError
from segcore.files import atomic_path

SMALL, LARGE = (np.dtype(np.uint16), 65535), (np.dtype(np.uint32), 2**31 - 1)
"""Type of a stack, and the number that says that nobody looked at a slice."""
PER_CM = 10_000
"""µm."""

Slices = Callable[[int], np.ndarray | None]
"""From a plane of an image to the numbers of its objects `(Y, X)`; None where nobody looked."""


def stack_names(collection: Collection) -> tuple[str, ...]:
    """Return the names of the label stacks of images: those of the images, by which they are paired.

    Raises
    ------
    DataError
        Two images differ only in the ending of their names.
    """
    names = tuple(f"{plain_name(entry.item.name)}.tif" for entry in collection.entries)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(
            f"Several images would have the labels {twice}.",
            "Rename them, so that they differ in more than their endings.",
        )
    return names


def plain_name(name: str) -> str:
    """Return the name of an image without what says how it is stored, as images and labels are paired.

    Examples
    --------
    >>> plain_name("PosA/3.ome.zarr"), plain_name("exp.1"), plain_name("volumes.h5::raw")
    ('PosA/3', 'exp.1', 'volumes')
    """
    path = PurePath(split_address(name)[0].replace("\\", "/"))
    return (path.parent / stem_of(path.name)).as_posix()


@dataclass(frozen=True)
class Numbering:
    """How the stacks of some images are numbered: all alike, so that one option tells how they are read.

    Parameters
    ----------
    dtype : dtype
        uint16, or uint32 where that is too small for the image with most objects.
    unlabelled : int or None
        The value of slices nobody looked at (`data.unlabelled_value`); None: there are none.
    objects : int
        Of all images.
    """

    dtype: np.dtype[Any]
    unlabelled: int | None
    objects: int


def numbering(images: Sequence[tuple[int, Slices]]) -> Numbering:
    """Return how the stacks of some images are to be numbered; every slice is read once.

    Parameters
    ----------
    images : sequence of (int, callable)
        Slices of each image, and what gives the objects of one.
    """
    most, objects, gaps = 0, 0, False
    for planes, read in images:
        count = 0
        for plane in range(planes):
            numbers_YX = read(plane)
            gaps |= numbers_YX is None
            count += 0 if numbers_YX is None else consecutive(numbers_YX, 0)[1]
        most, objects = max(most, count), objects + count
    dtype, unlabelled = SMALL if most < SMALL[1] else LARGE
    return Numbering(dtype, unlabelled if gaps else None, objects)


def write_stack(path: Path, planes: Planes, read: Slices, how: Numbering) -> None:
    """Write the objects of an image, slice by slice, compressed; whole or not at all.

    Objects of different slices have different numbers; 0 is the background of slices somebody looked at.

    Parameters
    ----------
    path : Path
        A TIFF.
    planes : Planes
        The image, for axes, sizes and pixel size.
    read : callable
        Gives the objects of its slices, the same as when they were counted.
    how : Numbering
        See `numbering`.

    Raises
    ------
    OSError
        The disk is full, or the like.
    """
    import tifffile

    pixel = planes.source.pixel_size
    size: dict[str, Any] = {}
    if pixel.x and pixel.y and pixel.unit == "µm":
        size = {"resolution": (PER_CM / pixel.x, PER_CM / pixel.y), "resolutionunit": "CENTIMETER"}
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            _pages(planes, read, how),
            shape=planes.label_shape,
            dtype=how.dtype,
            photometric="minisblack",
            compression="zlib",
            metadata={"axes": planes.label_axes},
            bigtiff=how.dtype.itemsize * int(np.prod(planes.label_shape, dtype=np.int64)) > 2**31,
            **size,
        )


def consecutive(numbers_YX: np.ndarray, first: int) -> tuple[np.ndarray, int]:
    """Return objects numbered from `first` + 1 on without gaps, int64, and how many they are.

    Examples
    --------
    >>> consecutive(np.array([[0, 7, 3]]), 10)
    (array([[ 0, 12, 11]]), 2)
    """
    found = np.bincount(numbers_YX.ravel()) > 0
    found[:1] = False
    count = int(found.sum())
    table = np.where(found, np.cumsum(found) + first, 0)
    return table[numbers_YX], count


def _pages(planes: Planes, read: Slices, how: Numbering) -> Iterator[np.ndarray]:
    """Yield the pages of the stack; memory holds one."""
    first = 0
    for plane in range(planes.count):
        numbers_YX = read(plane)
        if numbers_YX is None:
            yield np.full((planes.height, planes.width), how.unlabelled, how.dtype)
            continue
        page_YX, count = consecutive(numbers_YX, first)
        first += count
        yield page_YX.astype(how.dtype)
