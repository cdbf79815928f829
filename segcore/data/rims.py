"""Rims: what lies around objects and between them, made from masks in which every object has its number."""

from __future__ import annotations

import numpy as np

from segcore.data.repairs import Repaired
from segcore.data.source import ImageSource, Region, full_region

INNER, BORDER = 1, 2
"""Values that `Borders` gives to an object and to its rim; the background stays 0."""


class _Rims(Repaired):
    """Labels that depend on the pixels within `reach` px in the same slice."""

    def __init__(self, source: ImageSource, note: str, reach: int) -> None:
        super().__init__(source, note)
        self.reach = reach

    @property
    def names(self) -> dict[int, str]:
        """None: the values mean something else now."""
        return {}

    def read(self, region: Region) -> np.ndarray:
        """Return the labels in `region`; read with as much around it as they depend on."""
        spatial = [self.axes.index("Y"), self.axes.index("X")]
        wide: list[slice] = list(region)
        inner = [slice(None)] * len(region)
        for at in spatial:
            start, stop = full_region(region, self.shape)[at]
            first = max(0, start - self.reach)
            wide[at] = slice(first, min(self.shape[at], stop + self.reach))
            inner[at] = slice(start - first, stop - first)
        labels = np.moveaxis(self.source.read(tuple(wide)), spatial, (-2, -1))
        result = np.empty(labels.shape, self.dtype)
        for place in np.ndindex(labels.shape[:-2]):
            result[place] = self.of_plane(labels[place])
        return np.ascontiguousarray(np.moveaxis(result, (-2, -1), spatial)[tuple(inner)])

    def of_plane(self, label_YX: np.ndarray) -> np.ndarray:
        """Return the labels of a slice, or of a part of it and what is around it."""
        raise NotImplementedError


class Surrounded(_Rims):
    """Around every object a rim of background; other pixels that are 0 get a value: not annotated.

    For annotations in which a few objects were outlined and all else was left as it is: right beside an
    outline the annotator has seen that the object ends.

    Parameters
    ----------
    source, note
        See `Repaired`.
    width : int
        Of the rim, px.
    value : int
        Of the unannotated pixels.
    """

    def __init__(self, source: ImageSource, note: str, width: int, value: int) -> None:
        super().__init__(source, note, width)
        self.value = value
        self.dtype = np.result_type(source.dtype, np.min_scalar_type(value))

    def of_plane(self, label_YX: np.ndarray) -> np.ndarray:
        """Return the objects, their rim as 0, and the value everywhere else."""
        from scipy.ndimage import distance_transform_edt

        result = label_YX.astype(self.dtype)
        background = label_YX == 0
        if background.all():
            result[...] = self.value
        elif background.any():
            result[background & (distance_transform_edt(background) > self.reach)] = self.value
        return result


class Borders(_Rims):
    """0 background, 1 object, 2 its border: pixels of an object within `width` px of another or of nothing.

    A network that learns borders keeps touching objects apart (as the 3-class U-Net of Caicedo et al. 2019,
    doi 10.1038/s41592-019-0612-7).

    Parameters
    ----------
    source, note
        See `Repaired`.
    width : int
        Of the border, px.
    """

    def __init__(self, source: ImageSource, note: str, width: int) -> None:
        super().__init__(source, note, width)
        self.dtype = np.dtype(np.uint8)

    def of_plane(self, label_YX: np.ndarray) -> np.ndarray:
        """Return background, objects and borders."""
        from scipy.ndimage import maximum_filter, minimum_filter

        size = 2 * self.reach + 1
        # What lies beyond the image repeats its edge: the border of the picture is no border of an object.
        low = minimum_filter(label_YX, size, mode="nearest")
        high = maximum_filter(label_YX, size, mode="nearest")
        result = np.where(low == high, INNER, BORDER).astype(self.dtype)
        result[label_YX == 0] = 0
        return result
