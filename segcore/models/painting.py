"""Objects with their scores, and how masks that overlap become a label image: the most certain one first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FREE_SHARE = 0.5
"""An object of which more than the rest is taken by more certain ones is one of those once more."""


@dataclass(frozen=True, eq=False)
class Objects:
    """What was found in an image.

    Parameters
    ----------
    labels : np.ndarray
        `(Y, X)` int32: 0 where there is none, else the number of the object, 1 to n.
    scores : np.ndarray
        `(n,)` float32, 0 to 1: how certain object 1, 2, … is.
    classes : np.ndarray
        `(n,)` int64: its class index.
    """

    labels: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.scores)

    def class_map(self) -> np.ndarray:
        """Return the class index of every pixel `(Y, X)`, int64; 0 where there is no object."""
        table: np.ndarray = np.concatenate([[0], self.classes]).astype(np.int64)
        return table[self.labels]


class Painter:
    """Draws masks into a label image; what is drawn stays, later masks get the pixels that are free.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns, px.
    share : float
        Share of a mask, 0 to 1, that must be free, or it is left out.
    least : int
        Fewest free px of an object.
    """

    def __init__(self, shape: tuple[int, int], share: float = FREE_SHARE, least: int = 1) -> None:
        self._labels = np.zeros(shape, np.int32)
        self._share, self._least = share, max(1, least)
        self._scores: list[float] = []
        self._classes: list[int] = []

    def add(self, mask: np.ndarray, corner: tuple[int, int], score: float, kind: int = 1) -> bool:
        """Draw a mask, and say whether it became an object.

        Parameters
        ----------
        mask : np.ndarray
            `(Y, X)` bool; what lies outside of the image is cut off.
        corner : (int, int)
            Row and column of its first pixel; may be negative.
        score : float
            How certain it is: the caller adds masks from the most certain to the least.
        kind : int
            Its class index.
        """
        inside, within = overlap(corner, mask.shape, self._labels.shape)
        mask, part = mask[within], self._labels[inside]
        free = mask & (part == 0)
        size = int(free.sum())
        if size < self._least or size < self._share * int(mask.sum()):
            return False
        self._scores.append(float(score))
        self._classes.append(int(kind))
        part[free] = len(self._scores)
        return True

    def objects(self) -> Objects:
        """Return what was drawn."""
        scores, classes = np.asarray(self._scores, np.float32), np.asarray(self._classes, np.int64)
        return Objects(self._labels, scores, classes)


def overlap(
    corner: tuple[int, int], size: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the part of an image that a smaller one covers, and which part of the smaller one that is.

    Parameters
    ----------
    corner : (int, int)
        Row and column where the smaller one begins; may be negative.
    size, shape : (int, int)
        Rows and columns of the smaller one and of the image.
    """
    starts = [min(max(0, at), whole) for at, whole in zip(corner, shape, strict=True)]
    stops = [
        max(start, min(at + side, whole))
        for start, at, side, whole in zip(starts, corner, size, shape, strict=True)
    ]
    inside = tuple(slice(start, stop) for start, stop in zip(starts, stops, strict=True))
    within = tuple(
        slice(start - at, stop - at) for start, stop, at in zip(starts, stops, corner, strict=True)
    )
    return inside, within
