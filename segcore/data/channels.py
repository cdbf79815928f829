"""Channels put together from several images, chosen from one, and a pixel size given by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segcore.axes import sizes_text
from segcore.card import PixelSize
from segcore.data.source import ImageSource, Region, full_region
from segcore.data.thinning import Thinnable
from segcore.errors import DataError


class Joined:
    """Images of the same grid as one image with their channels behind each other; satisfies `ImageSource`.

    Parameters
    ----------
    sources : sequence of ImageSource
        One or more; an image without a C axis is one channel.

    Raises
    ------
    DataError
        They differ in axes or sizes.
    """

    def __init__(self, sources: Sequence[ImageSource]) -> None:
        self._sources = tuple(sources)
        first = sources[0]
        inner = [source.axes for source in sources if "C" in source.axes]
        self.axes: str = inner[0] if inner else first.axes.replace("Y", "CY", 1)
        self.path: Path = first.path
        for source in sources[1:]:
            self._check_same_grid(source)
        self._counts = [_sizes(source).get("C", 1) for source in sources]
        sizes = _sizes(first) | {"C": sum(self._counts)}
        self.shape: tuple[int, ...] = tuple(sizes[axis] for axis in self.axes)
        self.dtype: np.dtype[Any] = np.result_type(*(source.dtype for source in sources))
        self.pixel_size: PixelSize = first.pixel_size
        self.notes: tuple[str, ...] = tuple(
            dict.fromkeys(note for source in sources for note in source.notes)
        )
        if any(source.dtype != self.dtype for source in sources):
            types = ", ".join(str(source.dtype) for source in sources)
            self.notes += (f"The channel files differ in type ({types}); all are read as {self.dtype}.",)
        if any(source.pixel_size != self.pixel_size for source in sources):
            self.notes += (f"The channel files differ in pixel size; that of {first.path.name} counts.",)

    def read(self, region: Region) -> np.ndarray:
        """Return the pixels of `region`; see `ImageSource.read`."""
        bounds = dict(zip(self.axes, full_region(region, self.shape), strict=True))
        start, stop = bounds.pop("C")
        at = self.axes.index("C")
        parts: list[np.ndarray] = []
        before = 0
        for source, count in zip(self._sources, self._counts, strict=True):
            low, high = max(start - before, 0), min(stop - before, count)
            before += count
            if low < high:
                parts.append(self._part(source, bounds | {"C": (low, high)}, at))
        if not parts:
            empty = [stop - start for start, stop in full_region(region, self.shape)]
            return np.empty(empty, self.dtype)
        return np.concatenate(parts, axis=at, dtype=self.dtype)

    def _part(self, source: ImageSource, bounds: dict[str, tuple[int, int]], at: int) -> np.ndarray:
        pixels = source.read(tuple(slice(*bounds[axis]) for axis in source.axes))
        return pixels if "C" in source.axes else np.expand_dims(pixels, at)

    def _check_same_grid(self, source: ImageSource) -> None:
        first = self._sources[0]
        mine = {axis: size for axis, size in _sizes(first).items() if axis != "C"}
        other = {axis: size for axis, size in _sizes(source).items() if axis != "C"}
        fits = source.axes in (self.axes, self.axes.replace("C", ""))
        if mine != other or not fits:
            raise DataError(
                f"The channel files do not fit together: {first.path.name} is "
                f"{sizes_text(first.shape, first.axes)}, {source.path.name} is "
                f"{sizes_text(source.shape, source.axes)}.",
                "Give files of the same slices, rows and columns, one per channel.",
            )


class Chosen:
    """Some channels of an image, in the order in which they are named; satisfies `ImageSource`.

    Parameters
    ----------
    source : ImageSource
        An image; without a C axis it has channel 0 only.
    channels : tuple of int
        One or more channels, counted from 0.

    Raises
    ------
    DataError
        There is no such channel.
    """

    def __init__(self, source: ImageSource, channels: tuple[int, ...]) -> None:
        self._source = source
        self._channels = channels
        count = _sizes(source).get("C", 1)
        missing = [channel for channel in channels if not 0 <= channel < count]
        if missing or not channels:
            raise DataError(
                f"{source.path.name} has no channel {missing[0] if missing else 'chosen'}: it has {count}, "
                "counted from 0.",
                "Choose channels that are there.",
            )
        self.path: Path = source.path
        self.axes: str = source.axes
        sizes = _sizes(source) | ({"C": len(channels)} if "C" in source.axes else {})
        self.shape: tuple[int, ...] = tuple(sizes[axis] for axis in self.axes)
        self.dtype: np.dtype[Any] = source.dtype
        self.pixel_size: PixelSize = source.pixel_size
        self.notes: tuple[str, ...] = source.notes

    def read(self, region: Region) -> np.ndarray:
        """Return the pixels of `region`; see `ImageSource.read`."""
        bounds = full_region(region, self.shape)
        if "C" not in self.axes:
            return self._source.read(region)
        at = self.axes.index("C")
        wanted = self._channels[slice(*bounds[at])]
        parts = list(map(slice, *zip(*bounds, strict=True)))
        if not wanted:
            return np.empty([stop - start for start, stop in bounds], self.dtype)
        if at > self.axes.index("Y"):  # channels lie pixel by pixel: one read decodes all of them anyway
            parts[at] = slice(min(wanted), max(wanted) + 1)
            return self._source.read(tuple(parts)).take(
                [channel - min(wanted) for channel in wanted], axis=at
            )
        read = []
        for channel in wanted:
            parts[at] = slice(channel, channel + 1)
            read.append(self._source.read(tuple(parts)))
        return np.concatenate(read, axis=at)


class Calibrated:
    """An image whose voxel size was given by hand; satisfies `ImageSource`.

    Parameters
    ----------
    source : ImageSource
        Where the pixels come from.
    pixel_size : PixelSize
        What counts; where it says nothing, the file's own does.
    """

    def __init__(self, source: ImageSource, pixel_size: PixelSize) -> None:
        self._source = source
        self.path: Path = source.path
        self.axes: str = source.axes
        self.shape: tuple[int, ...] = source.shape
        self.dtype: np.dtype[Any] = source.dtype
        self.notes: tuple[str, ...] = source.notes
        given = {axis: value for axis in "zyx" if (value := getattr(pixel_size, axis)) is not None}
        self.pixel_size: PixelSize = source.pixel_size.model_copy(update=given)

    def read(self, region: Region) -> np.ndarray:
        """Return the pixels of `region`; see `ImageSource.read`."""
        return self._source.read(region)

    def thinned(self, region: Region, step: int) -> np.ndarray | None:
        """Return every `step`-th pixel, if the file has a fast way; see `thinning.Thinnable`."""
        return self._source.thinned(region, step) if isinstance(self._source, Thinnable) else None


def _sizes(source: ImageSource) -> dict[str, int]:
    return dict(zip(source.axes, source.shape, strict=True))
