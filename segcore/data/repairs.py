"""Repairs: an image seen otherwise than it is stored, one kind of change each; the file stays as it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segcore.card import PixelSize
from segcore.data.planes import Planes
from segcore.data.source import ImageSource, Region, full_region
from segcore.errors import DataError


class Repaired:
    """Another source under a repair; satisfies `ImageSource`. Whatever a repair does not change is passed on.

    Parameters
    ----------
    source : ImageSource
        What is repaired.
    note : str
        What was done, as a sentence.
    """

    def __init__(self, source: ImageSource, note: str) -> None:
        self.source = source
        self.axes: str = source.axes
        self.shape: tuple[int, ...] = source.shape
        self.dtype: np.dtype[Any] = source.dtype
        self._note = note

    @property
    def path(self) -> Path:
        """The file."""
        return self.source.path

    @property
    def pixel_size(self) -> PixelSize:
        """Voxel size in µm."""
        return self.source.pixel_size

    @property
    def notes(self) -> tuple[str, ...]:
        """What had to be assumed, and the repair."""
        return (*self.source.notes, self._note)

    @property
    def names(self) -> dict[int, str]:
        """Names of the label values, where there are any."""
        return dict(getattr(self.source, "names", {}))

    def read(self, region: Region) -> np.ndarray:
        """Return the pixels of `region`; see `ImageSource.read`."""
        return self.source.read(region)


class Mapped(Repaired):
    """Every pixel on its own becomes another value.

    Parameters
    ----------
    source, note
        See `Repaired`.
    change : callable
        From pixels to pixels of `dtype`.
    dtype : dtype
        Type of the result.
    names : mapping, optional
        Names of the new values.
    """

    def __init__(
        self,
        source: ImageSource,
        note: str,
        change: Callable[[np.ndarray], np.ndarray],
        dtype: Any,
        names: Mapping[int, str] | None = None,
    ) -> None:
        super().__init__(source, note)
        self.dtype = np.dtype(dtype)
        self._change = change
        self._names = names

    @property
    def names(self) -> dict[int, str]:
        """Names of the new values."""
        return super().names if self._names is None else dict(self._names)

    def read(self, region: Region) -> np.ndarray:
        """Return the changed pixels of `region`."""
        return self._change(self.source.read(region)).astype(self.dtype, copy=False)


class Moved(Repaired):
    """Everything lies some rows lower and columns further right; what comes in at the border is `fill`."""

    def __init__(self, source: ImageSource, note: str, rows: int, columns: int, fill: int = 0) -> None:
        super().__init__(source, note)
        self._steps = {"Y": rows, "X": columns}
        self._fill = fill
        if int(np.array(fill).astype(self.dtype)) != fill:
            self.dtype = np.promote_types(self.dtype, np.min_scalar_type(fill))

    def read(self, region: Region) -> np.ndarray:
        """Return the pixels of `region` as they lie after the shift."""
        bounds = full_region(region, self.shape)
        pixels = np.full([stop - start for start, stop in bounds], self._fill, self.dtype)
        there, here = [], []
        for axis, size, (start, stop) in zip(self.axes, self.shape, bounds, strict=True):
            step = self._steps.get(axis, 0)
            first = min(max(start - step, 0), size)
            last = max(first, min(stop - step, size))
            there.append(slice(first, last))
            here.append(slice(first + step - start, last + step - start))
        if all(part.stop > part.start for part in there):
            pixels[tuple(here)] = self.source.read(tuple(there))
        return pixels


class Flipped(Repaired):
    """Upside down (axis Y), or left for right (axis X)."""

    def __init__(self, source: ImageSource, note: str, axis: str) -> None:
        super().__init__(source, note)
        self._at = source.axes.index(axis)

    def read(self, region: Region) -> np.ndarray:
        """Return the pixels of `region` as they lie after the flip."""
        start, stop = full_region(region, self.shape)[self._at]
        size = self.shape[self._at]
        there = (*region[: self._at], slice(size - stop, size - start), *region[self._at + 1 :])
        return np.ascontiguousarray(np.flip(self.source.read(there), self._at))


class Transposed(Repaired):
    """Rows and columns exchanged."""

    def __init__(self, source: ImageSource, note: str) -> None:
        super().__init__(source, note)
        self._order = list(range(len(source.axes)))
        row, column = source.axes.index("Y"), source.axes.index("X")
        self._order[row], self._order[column] = column, row
        self.shape = tuple(source.shape[at] for at in self._order)

    @property
    def pixel_size(self) -> PixelSize:
        """Voxel size in µm, exchanged too."""
        size = self.source.pixel_size
        return size.model_copy(update={"y": size.x, "x": size.y})

    def read(self, region: Region) -> np.ndarray:
        """Return the pixels of `region` as they lie after the exchange."""
        full_region(region, self.shape)
        there = tuple(region[at] for at in self._order)
        return np.ascontiguousarray(self.source.read(there).transpose(self._order))


class Numbered(Repaired):
    """Connected pixels of one value above 0 become an object with a number of its own in its slice, from 1.

    Every part that is read takes whole slices to be read and searched: about 20 ns a pixel.
    """

    def __init__(self, source: ImageSource, note: str) -> None:
        super().__init__(source, note)
        self.dtype = np.dtype(np.uint32)

    @property
    def names(self) -> dict[int, str]:
        """None: numbers of objects."""
        return {}

    def read(self, region: Region) -> np.ndarray:
        """Return the objects in `region`, numbered in their whole slices."""
        from skimage.measure import label

        full_region(region, self.shape)
        spatial = [self.axes.index("Y"), self.axes.index("X")]
        whole = tuple(slice(None) if at in spatial else part for at, part in enumerate(region))
        pixels = self.source.read(whole)
        planes = np.moveaxis(pixels, spatial, (-2, -1))
        objects = np.zeros(planes.shape, self.dtype)
        for at in np.ndindex(planes.shape[:-2]):
            objects[at] = label(np.where(planes[at] > 0, planes[at], 0), connectivity=2)
        part = tuple(part if at in spatial else slice(None) for at, part in enumerate(region))
        return np.ascontiguousarray(np.moveaxis(objects, (-2, -1), spatial)[part])


class Kept(Repaired):
    """Some of the slices; several axes of slices (T and Z) become one.

    Parameters
    ----------
    source, note
        See `Repaired`.
    dropped : sequence of int
        Slices that are left out, counted from 0 through T and Z.

    Raises
    ------
    DataError
        There is no such slice, or none would be left.
    """

    def __init__(self, source: ImageSource, note: str, dropped: Sequence[int]) -> None:
        super().__init__(source, note)
        planes = Planes(source)
        beyond = [index for index in dropped if index >= planes.count]
        if beyond:
            raise DataError(
                f"slices.drop names slice {beyond[0]}, but {source.path.name} has {planes.count}, counted "
                "from 0.",
                "Leave it out of the repair.",
            )
        self._kept = sorted(set(range(planes.count)) - set(dropped))
        if not self._kept:
            raise DataError(
                f"slices.drop leaves no slice of {source.path.name}.",
                "Take the image out of the set instead.",
            )
        self._outer = dict(planes.outer)
        letter = planes.outer[-1][0] if planes.outer else ""
        inner = [axis for axis in source.axes if axis not in self._outer]
        sizes = dict(zip(source.axes, source.shape, strict=True))
        self.axes = letter + "".join(inner)
        self.shape = (*([len(self._kept)] if letter else []), *(sizes[axis] for axis in inner))

    def read(self, region: Region) -> np.ndarray:
        """Return the pixels of `region` among the slices that are left."""
        bounds = full_region(region, self.shape)
        if not self._outer:
            return self.source.read(region)
        inner = dict(zip(self.axes[1:], bounds[1:], strict=True))
        shape = [stop - start for start, stop in bounds]
        pixels = np.empty(shape, self.dtype)
        if math.prod(shape):
            for at, index in enumerate(self._kept[slice(*bounds[0])]):
                where = np.unravel_index(index, list(self._outer.values()))
                plane = dict(zip(self._outer, ((int(one), int(one) + 1) for one in where), strict=True))
                there = tuple(slice(*(plane | inner)[axis]) for axis in self.source.axes)
                pixels[at] = self.source.read(there).reshape(shape[1:])
        return pixels


class Cropped(Repaired):
    """Only some rows and columns: the middle ones, or those from a corner on; fewer where there are fewer.

    Parameters
    ----------
    source, note
        See `Repaired`.
    size : pair of int
        Rows and columns.
    corner : pair of int, optional
        First row and column.

    Raises
    ------
    DataError
        Nothing is left.
    """

    def __init__(
        self, source: ImageSource, note: str, size: Sequence[int], corner: Sequence[int] = ()
    ) -> None:
        super().__init__(source, note)
        there = [source.shape[source.axes.index(axis)] for axis in "YX"]
        starts = corner or [
            max(0, (all_of_it - wanted) // 2) for all_of_it, wanted in zip(there, size, strict=True)
        ]
        if any(start >= all_of_it for start, all_of_it in zip(starts, there, strict=True)):
            raise DataError(
                f"pair.crop begins at row {starts[0]} and column {starts[1]}, but {source.path.name} has "
                f"{there[0]} × {there[1]} px.",
                "Begin the part inside the image.",
            )
        self._start = dict(zip("YX", starts, strict=True))
        sizes = {
            axis: min(wanted, all_of_it - start)
            for axis, wanted, all_of_it, start in zip("YX", size, there, starts, strict=True)
        }
        self.shape = tuple(
            sizes.get(axis, length) for axis, length in zip(source.axes, source.shape, strict=True)
        )

    def read(self, region: Region) -> np.ndarray:
        """Return the pixels of `region` within the part."""
        bounds = full_region(region, self.shape)
        starts = [self._start.get(axis, 0) for axis in self.axes]
        return self.source.read(
            tuple(slice(start + low, start + high) for start, (low, high) in zip(starts, bounds, strict=True))
        )
