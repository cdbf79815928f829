"""Normalisation: statistics fitted once over the training set, applied everywhere, kept in the model card."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol

import numpy as np

from segcore.card import Normalization
from segcore.errors import ConfigError, DataError

KINDS = ("percentile", "z-score", "min-max", "none")
PERCENTILES = (0.5, 99.5)
CLIP = {"percentile": (-3.0, 3.0), "z-score": (-5.0, 5.0), "min-max": (-3.0, 3.0)}
"""Far enough out to keep all structure, near enough that one hot pixel cannot dominate a patch."""

SAMPLE = 2**20
"""Values kept per channel where no exact histogram is possible."""
_LARGEST = float(np.finfo(np.float32).max)


def fit_normalization(planes: Iterable[np.ndarray], kind: str) -> Normalization:
    """Return the normalisation of `kind` for a set of planes, read one at a time.

    8- and 16-bit integers are counted exactly. Of other types the extremes, mean and deviation are exact and
    the percentiles come from a regular sample of at most 2^20 values per channel. NaN and infinite values are
    left out.

    Parameters
    ----------
    planes : iterable of ndarray
        Planes `(C, Y, X)` of one data type; all with the same number of channels.
    kind : str
        percentile: the 0.5th and 99.5th percentile become -1 and 1, clipped at ±3. z-score: mean 0 and
        deviation 1, clipped at ±5. min-max: the extremes become -1 and 1, clipped at ±3. none: values as they
        are.

    Returns
    -------
    Normalization
        One offset and scale per channel. A constant channel becomes 0.

    Raises
    ------
    ConfigError
        `kind` is unknown.
    DataError
        There are no planes, or their number of channels differs.
    """
    if kind not in KINDS:
        raise ConfigError(f"Normalisation {kind!r} is unknown.", f"Use one of {', '.join(KINDS)}.")
    channels: list[_Channel] = []
    for plane in planes:
        if not channels:
            channels = [_statistics(plane.dtype) for _ in plane]
        if len(plane) != len(channels):
            raise DataError(
                f"Planes have {len(channels)} and {len(plane)} channels.",
                "Use images with the same channels.",
            )
        if kind != "none":
            for channel, values in zip(channels, plane, strict=True):
                channel.add(values)
    if not channels:
        raise DataError(
            "There are no planes to take grey values from.", "Choose an image with at least one slice."
        )
    offsets, scales = zip(*(_linear_map(channel, kind) for channel in channels), strict=True)
    return Normalization(kind=kind, offset=offsets, scale=scales, clip=CLIP.get(kind))


def apply_normalization(image: np.ndarray, normalization: Normalization) -> np.ndarray:
    """Return `clip((image - offset) / scale)` as float32; NaN becomes 0, the middle of the range.

    Parameters
    ----------
    image : ndarray
        `(..., C, Y, X)` of any integer, bool or float type; it is not changed.
    normalization : Normalization
        One entry per channel of the image.

    Raises
    ------
    DataError
        The number of channels differs.
    """
    channels = len(normalization.offset)
    if image.shape[-3] != channels:
        raise DataError(
            f"The image has {image.shape[-3]} channels, the normalisation was fitted to {channels}.",
            "Use an image with the same channels as the training images.",
        )
    # float32 holds 8- and 16-bit values exactly; larger integers would lose their differences.
    small = image.dtype.itemsize <= 2 or image.dtype == np.float32
    exact: type[np.float32 | np.float64] = np.float32 if small else np.float64
    result: np.ndarray = image.astype(exact)
    np.subtract(result, np.asarray(normalization.offset, exact)[:, None, None], out=result)
    np.divide(result, np.asarray(normalization.scale, exact)[:, None, None], out=result)
    low, high = normalization.clip or (-_LARGEST, _LARGEST)
    np.clip(result, low, high, out=result)
    if image.dtype.kind == "f":
        result[np.isnan(result)] = 0
    return result.astype(np.float32, copy=False)


class _Channel(Protocol):
    """Running statistics of one channel."""

    @property
    def count(self) -> int:
        """Values seen."""

    def add(self, values: np.ndarray) -> None:
        """Take in the finite ones of `values`."""

    def extremes(self) -> tuple[float, float]:
        """Return the smallest and the largest value."""

    def percentiles(self) -> tuple[float, float]:
        """Return the values at `PERCENTILES`."""

    def mean_deviation(self) -> tuple[float, float]:
        """Return mean and standard deviation."""


class _Counted:
    """Exact histogram of 8- or 16-bit integers."""

    def __init__(self, dtype: np.dtype) -> None:
        self.first = 0 if dtype.kind in "bu" else int(np.iinfo(dtype).min)
        self.histogram = np.zeros(2 ** (8 * dtype.itemsize), np.int64)

    @property
    def count(self) -> int:
        return int(self.histogram.sum())

    def add(self, values: np.ndarray) -> None:
        self.histogram += np.bincount(
            values.ravel().astype(np.int64) - self.first, minlength=len(self.histogram)
        )

    def extremes(self) -> tuple[float, float]:
        present = np.flatnonzero(self.histogram)
        return float(present[0] + self.first), float(present[-1] + self.first)

    def percentiles(self) -> tuple[float, float]:
        # The smallest value with at least this share of all values at or below it.
        found = np.searchsorted(np.cumsum(self.histogram), np.asarray(PERCENTILES) / 100 * self.count)
        return float(found[0] + self.first), float(found[1] + self.first)

    def mean_deviation(self) -> tuple[float, float]:
        values = np.arange(len(self.histogram), dtype=np.float64) + self.first
        mean = float(np.average(values, weights=self.histogram))
        return mean, float(np.average((values - mean) ** 2, weights=self.histogram)) ** 0.5


class _Sampled:
    """Exact moments, and every n-th value; n triples when the sample is full: all planes weigh the same.

    Thirds, because a stride that is a power of two meets only a few columns of an image 512 or 1024 wide.
    """

    def __init__(self) -> None:
        self.count = 0
        self._mean = 0.0
        self._squares = 0.0
        self._low, self._high = math.inf, -math.inf
        self._stride, self._skip = 1, 0
        self._sample = np.empty(0, np.float64)

    def add(self, values: np.ndarray) -> None:
        flat = values.ravel().astype(np.float64)
        flat = flat[np.isfinite(flat)]
        if not flat.size:
            return
        # Chan's update: plain sums of squares lose a small deviation around a large mean.
        mean, total = float(flat.mean()), self.count + flat.size
        self._squares += float(((flat - mean) ** 2).sum())
        self._squares += (mean - self._mean) ** 2 * self.count * flat.size / total
        self._mean += (mean - self._mean) * flat.size / total
        self.count = total
        self._low, self._high = min(self._low, float(flat.min())), max(self._high, float(flat.max()))
        self._remember(flat)

    def _remember(self, flat: np.ndarray) -> None:
        taken = flat[self._skip :: self._stride]
        self._skip = (self._skip - flat.size) % self._stride
        self._sample = np.concatenate([self._sample, taken])
        while self._sample.size > SAMPLE:
            self._skip += -self._sample.size % 3 * self._stride
            self._sample = self._sample[::3]
            self._stride *= 3

    def extremes(self) -> tuple[float, float]:
        return self._low, self._high

    def percentiles(self) -> tuple[float, float]:
        low, high = np.percentile(self._sample, PERCENTILES)
        return float(low), float(high)

    def mean_deviation(self) -> tuple[float, float]:
        return self._mean, (self._squares / self.count) ** 0.5


def _statistics(dtype: np.dtype) -> _Channel:
    return _Counted(dtype) if dtype.kind in "biu" and dtype.itemsize <= 2 else _Sampled()


def _linear_map(channel: _Channel, kind: str) -> tuple[float, float]:
    """Return `(offset, scale)`, with a scale of 1 where all values are equal."""
    if kind == "none" or not channel.count:
        return 0.0, 1.0
    if kind == "z-score":
        mean, deviation = channel.mean_deviation()
        return mean, deviation or 1.0
    low, high = channel.percentiles() if kind == "percentile" else channel.extremes()
    if low == high:  # sparse signal: nearly all pixels are equal
        low, high = channel.extremes()
    return (low + high) / 2, (high - low) / 2 or 1.0


def prepared(image: np.ndarray, normalization: Normalization, solid: bool) -> np.ndarray:
    """Return what a network sees, normalised: every slice of a channel by the statistics of the channel.

    Parameters
    ----------
    image : ndarray
        `(C, Y, X)`, or the slices seen together one behind the other `(slices · C, Y, X)`.
    normalization : Normalization
        One offset and scale per channel.
    solid : bool
        Whether it is `(C, Z, Y, X)` instead.

    Raises
    ------
    DataError
        The number of channels does not fit.
    """
    if solid:
        normal_ZCYX = apply_normalization(image.transpose(1, 0, 2, 3), normalization)
        return np.ascontiguousarray(normal_ZCYX.transpose(1, 0, 2, 3))
    channels = len(normalization.offset)
    if len(image) % channels:
        return apply_normalization(image, normalization)  # which says that they do not fit
    slices_SCYX = image.reshape(-1, channels, *image.shape[1:])
    return apply_normalization(slices_SCYX, normalization).reshape(image.shape)
