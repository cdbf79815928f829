"""Volumes with what a teacher says of them: labels where nobody annotated, probabilities behind the image.

Patches are cut from image and teacher at the same points, turned and bent alike, whatever is varied: so the
teacher looks at every image once, whole, and not at every patch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from segcore.card import Normalization
from segcore.data.planes import strips_of
from segcore.data.source import full_region
from segcore.data.volumes import Pixels, Volume, find_anchors
from segcore.tiling import IGNORE

FULL = 255
"""Share of a class of which the teacher is certain, as it is kept: 8 bits are closer than he is."""
ANCHORS = 64
"""Pixels of a class that are kept of a strip of a slice, for patches to be drawn around."""


class Answer(Protocol):
    """What a teacher says of an image, read where it is asked for; planes are counted through the image."""

    def classes(self, plane: int, rows: slice, columns: slice) -> np.ndarray:
        """Return class indices `(Y, X)`, int16; IGNORE where he has no say."""

    def shares(self, plane: int, rows: slice, columns: slice) -> np.ndarray | None:
        """Return the probability of every class × 255, `(K, Y, X)` uint8, 0 for all where he has no say.

        None: he gives classes only.
        """


class TaughtLabels:
    """Labels of a volume with the teacher's classes where nobody annotated; satisfies `Pixels`."""

    def __init__(self, label_ZYX: Pixels, answer: Answer, first: int, row: int) -> None:
        self._label, self._answer, self._first, self._row = label_ZYX, answer, first, row
        self.shape: tuple[int, ...] = tuple(label_ZYX.shape)
        self.dtype: np.dtype[Any] = np.dtype(np.int16)

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        """Return a part, one slice per axis."""
        (z0, z1), (y0, y1), (x0, x1) = full_region(region, self.shape)
        part = np.array(self._label[slice(z0, z1), slice(y0, y1), slice(x0, x1)], np.int16)
        rows, columns = slice(self._row + y0, self._row + y1), slice(x0, x1)
        for number, label_YX in enumerate(part):
            bare = label_YX == IGNORE
            if bare.any():
                label_YX[bare] = self._answer.classes(self._first + z0 + number, rows, columns)[bare]
        return part


class TaughtImage:
    """Planes `Z C Y X` of a volume with one channel more for every class: its share; satisfies `Pixels`.

    Parameters
    ----------
    image_ZCYX : Pixels
        Grey values.
    answer : Answer
        What the teacher says.
    classes : int
        How many there are.
    first, row : int
        The plane and row of the image at which the volume begins.
    """

    def __init__(self, image_ZCYX: Pixels, answer: Answer, classes: int, first: int, row: int) -> None:
        self._image, self._answer, self._classes = image_ZCYX, answer, classes
        self._first, self._row = first, row
        depth, channels, height, width = image_ZCYX.shape
        self._channels = channels
        self.shape: tuple[int, ...] = (depth, channels + classes, height, width)
        self.dtype: np.dtype[Any] = kept_type(image_ZCYX.dtype)

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        """Return a part, one slice per axis."""
        (z0, z1), (c0, c1), (y0, y1), (x0, x1) = full_region(region, self.shape)
        part = np.empty((z1 - z0, self._channels + self._classes, y1 - y0, x1 - x0), self.dtype)
        part[:, : self._channels] = self._image[slice(z0, z1), :, slice(y0, y1), slice(x0, x1)]
        rows, columns = slice(self._row + y0, self._row + y1), slice(x0, x1)
        for number in range(z1 - z0):
            share = self._answer.shares(self._first + z0 + number, rows, columns)
            # The image may use fewer of its bits: the share is scaled to all of them, see `behind`.
            part[number, self._channels :] = (
                0 if share is None else share * self.dtype.type(_step(self.dtype))
            )
        return part[:, c0:c1]


def kept_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of image and shares together: the image's own if that is what patches are kept in."""
    return dtype if dtype in (np.dtype(np.uint8), np.dtype(np.uint16)) else np.dtype(np.float32)


def _step(dtype: np.dtype[Any]) -> float:
    """Return by what a share of 0 … 255 is multiplied, so that a whole one fills the type."""
    return {"uint8": 1, "uint16": 257}.get(dtype.name, 1 / FULL)


def behind(normalization: Normalization, classes: int, dtype: np.dtype[Any]) -> Normalization:
    """Return a normalisation that also makes the shares behind the image probabilities, 0 to 1."""
    whole = FULL * _step(kept_type(dtype))
    return normalization.model_copy(
        update={
            "offset": (*normalization.offset, *[0.0] * classes),
            "scale": (*normalization.scale, *[float(whole)] * classes),
        }
    )


def taught_volume(volume: Volume, answer: Answer, classes: int, shares: bool) -> Volume:
    """Return a volume with what a teacher says of it.

    Parameters
    ----------
    volume : Volume
        Image and annotation; planes and rows of the answer are those of the whole image it is a part of.
    answer : Answer
        What the teacher says.
    classes : int
        How many there are.
    shares : bool
        Whether his probabilities are put behind the channels of the image.
    """
    label = TaughtLabels(volume.label_ZYX, answer, volume.first, volume.row)
    image: Pixels = volume.image_ZCYX
    own = volume.normalization
    if shares:
        own = behind(own, classes, image.dtype) if own else None
        image = TaughtImage(image, answer, classes, volume.first, volume.row)
    counts_ZK, anchors = examined(label, classes)
    return replace(
        volume,
        image_ZCYX=image,
        label_ZYX=label,
        counts_ZK=counts_ZK,
        anchors=anchors,
        normalization=own,
    )


def unlabelled(shape: Sequence[int]) -> np.ndarray:
    """Return labels in which nobody has annotated anything; they take no memory."""
    return np.broadcast_to(np.int16(IGNORE), tuple(shape))


def examined(label_ZYX: Pixels, classes: int) -> tuple[np.ndarray, dict[tuple[int, int], np.ndarray]]:
    """Return the pixels of every class in every slice, and some of them, strip by strip."""
    depth, height, width = label_ZYX.shape
    counts_ZK = np.zeros((depth, classes), np.int64)
    found: dict[tuple[int, int], list[np.ndarray]] = {}
    for plane in range(depth):
        for rows in strips_of(height, width, 1):
            label_YX = label_ZYX[slice(plane, plane + 1), rows, slice(None)][0]
            counts_ZK[plane] += np.bincount(label_YX[label_YX >= 0], minlength=classes)
            for index, pixel_N2 in find_anchors(label_YX, classes, ANCHORS).items():
                moved = pixel_N2 + np.asarray([rows.start or 0, 0], pixel_N2.dtype)
                found.setdefault((plane, index), []).append(moved)
    return counts_ZK, {place: np.concatenate(parts) for place, parts in found.items()}
