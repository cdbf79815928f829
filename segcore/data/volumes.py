"""Volume: slices of one image that lie together and what is annotated in them; patches are cut from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from segcore.card import Normalization

SPARSE = 0.5
"""A slice of which less than this share is annotated is sparse: patches are drawn where its labels are."""
CLASSES: np.dtype[Any] = np.dtype(np.int16)
"""Type of labels that are class indices."""
OBJECTS: np.dtype[Any] = np.dtype(np.int32)
"""Type of labels that are numbers of objects."""
ANCHOR_BLOCK = 16
"""Half a side of the smallest patch: one centred on a pixel of a block shows all of the block."""


class Pixels(Protocol):
    """An array in memory, or one that is read from disk where it is asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers."""

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        """Return a part, one slice (step 1) per axis."""


@dataclass(frozen=True)
class Volume:
    """Slices of one image with their annotation.

    In 2d every annotated slice is a volume of its own, unless it is read from disk. In 2.5d and 3d the slices
    around the annotated ones belong to it too: their labels are IGNORE throughout.

    Parameters
    ----------
    image_ZCYX : Pixels
        Grey values as in the file.
    label_ZYX : Pixels
        Class indices, int16, or where objects are learned their numbers, int32, 0 background; IGNORE where
        nobody annotated, and in slices that are only looked at.
    counts_ZK : ndarray
        Pixels of every class in every slice, int64; 0 throughout in slices that are only looked at.
    item, first, row : int
        Where it lies: number of the image in its collection, and the slice and row in the image at which it
        begins.
    name : str
        Name of the image.
    anchors : mapping
        From `(slice, class index)` to some annotated pixels `(n, 2)`, row and column, int32: evenly spread
        samples where there are many.
    normalization : Normalization, optional
        The image's own, where statistics are taken from every image.
    """

    image_ZCYX: Pixels
    label_ZYX: Pixels
    counts_ZK: np.ndarray
    item: int = 0
    first: int = 0
    row: int = 0
    name: str = ""
    anchors: Mapping[tuple[int, int], np.ndarray] = field(default_factory=dict)
    normalization: Normalization | None = None

    @property
    def annotated(self) -> tuple[int, ...]:
        """The slices in which at least one pixel is annotated."""
        return tuple(int(index) for index in np.flatnonzero(self.counts_ZK.sum(1)))


def class_indices(label: np.ndarray) -> np.ndarray:
    """Return the class indices of labels: of numbers of objects 1 for each, 0 and IGNORE as they are."""
    return np.minimum(label, 1) if label.dtype == OBJECTS else label


def find_anchors(label_YX: np.ndarray, classes: int, limit: int = 512) -> dict[int, np.ndarray]:
    """Return some pixels of every class, evenly spread over the pixels of that class.

    In a sparse slice every block of `ANCHOR_BLOCK` px that holds a class gives at least one of its pixels, if
    need be beyond the limit: from patches around the anchors every annotated pixel can then be reached.

    Parameters
    ----------
    label_YX : ndarray
        Class indices of a slice, negative where nobody annotated.
    classes : int
        Number of classes.
    limit : int
        Most pixels of a class, but for sparse slices.

    Returns
    -------
    dict
        From the index of every class that occurs to row and column of its pixels, `(n, 2)` int32.
    """
    # Pixels are counted block by block: neighbours in this order are neighbours in both directions.
    height, width = label_YX.shape
    rows, columns = (-(-size // ANCHOR_BLOCK) for size in (height, width))
    padding = ((0, rows * ANCHOR_BLOCK - height), (0, columns * ANCHOR_BLOCK - width))
    padded_YX = np.pad(label_YX, padding, constant_values=-1)
    index_N = padded_YX.reshape(rows, ANCHOR_BLOCK, columns, ANCHOR_BLOCK).swapaxes(1, 2).ravel()
    sparse = np.count_nonzero(index_N >= 0) < SPARSE * label_YX.size
    anchors = {}
    for index in range(classes):
        of_class = np.flatnonzero(index_N == index)
        if not of_class.size:
            continue
        spread = np.linspace(0, of_class.size - 1, min(limit, of_class.size)).round().astype(int)
        if sparse:
            block_N = of_class // ANCHOR_BLOCK**2
            _, first, amount = np.unique(block_N, return_index=True, return_counts=True)
            spread = np.union1d(spread, first + amount // 2)
        block, within = np.divmod(of_class[spread], ANCHOR_BLOCK**2)
        row = block // columns * ANCHOR_BLOCK + within // ANCHOR_BLOCK
        column = block % columns * ANCHOR_BLOCK + within % ANCHOR_BLOCK
        anchors[index] = np.stack([row, column], 1).astype(np.int32)
    return anchors
