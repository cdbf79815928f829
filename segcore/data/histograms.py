"""Histograms of grey values: counted when a model is trained, compared when it is applied. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from segcore.card import Histogram

BINS = 256
PERCENTILES = (0.1, 99.9)
"""The bins lie between them; the outermost take what lies beyond, so a hot pixel does not empty the rest."""
PER_PLANE = 2**16
"""Values taken from a channel of a plane at most, evenly spread."""
SAMPLE = 2**22
"""Values kept per channel at most."""
DIFFERENT = 0.5
"""Difference from which on a new image looks unlike the training images."""


def histogram_of(planes: Iterable[np.ndarray]) -> tuple[Histogram, ...]:
    """Count the grey values of every channel.

    Of large planes evenly spread values are taken. NaN and infinite values are left out. Whole numbers get
    bins of a whole number wide.

    Parameters
    ----------
    planes : iterable of ndarray
        Planes `(C, Y, X)`, all with the same number of channels; read one at a time.

    Returns
    -------
    tuple of Histogram
        One per channel; empty if there are no planes.
    """
    kept: list[list[np.ndarray]] = []
    whole = True
    for plane_CYX in planes:
        kept = kept or [[] for _ in plane_CYX]
        whole = whole and plane_CYX.dtype.kind in "biu"
        for values, channel_YX in zip(kept, plane_CYX, strict=True):
            values.append(_sample(channel_YX))
            if sum(part.size for part in values) > SAMPLE:
                values[:] = [np.concatenate(values)[::3]]
    return tuple(_count(np.concatenate(values), whole) for values in kept)


def difference(new: Histogram, trained: Histogram) -> float:
    """Return the earth mover's distance of two histograms, in standard deviations of the second.

    0: the same grey values in the same shares. 1: on average every grey value would have to move by as much
    as those of the training images spread.

    Examples
    --------
    >>> dark = Histogram(low=0, high=4, counts=(1, 1, 0, 0))
    >>> bright = Histogram(low=2, high=4, counts=(1, 1))
    >>> round(difference(dark, dark), 3), round(difference(bright, dark), 3)
    (0.0, 3.464)
    """
    grid = np.union1d(_edges(new), _edges(trained))
    apart = np.abs(_cumulated(new, grid) - _cumulated(trained, grid))
    moved = float(((apart[1:] + apart[:-1]) / 2 * np.diff(grid)).sum())
    return moved / _deviation(trained)


def rescaled(histogram: Histogram, offset: float, scale: float) -> Histogram:
    """Return the histogram of `(value - offset) / scale`, for a scale above 0."""
    low, high = ((value - offset) / scale for value in (histogram.low, histogram.high))
    return Histogram(low=low, high=high, counts=histogram.counts)


def mixed(histograms: Sequence[Histogram]) -> Histogram:
    """Return the histogram of all values of several, at least one; within a bin they lie evenly spread."""
    low = min(histogram.low for histogram in histograms)
    high = max(histogram.high for histogram in histograms)
    grid = np.linspace(low, high, BINS + 1)
    cumulated = sum(_cumulated(histogram, grid) * sum(histogram.counts) for histogram in histograms)
    counts = np.diff(np.rint(cumulated).astype(np.int64))
    return Histogram(low=low, high=high, counts=tuple(counts.tolist()))


def _sample(channel_YX: np.ndarray) -> np.ndarray:
    flat = channel_YX.ravel()
    # An odd step: a power of two would meet only a few columns of an image 512 or 1024 wide.
    flat = flat[:: math.ceil(flat.size / PER_PLANE) | 1]
    flat = flat.astype(np.float64)
    return flat[np.isfinite(flat)]


def _count(values: np.ndarray, whole: bool) -> Histogram:
    if not values.size:
        return Histogram(low=0, high=1, counts=(0,))
    low, high = (float(value) for value in np.percentile(values, PERCENTILES))
    if whole:
        low, high = math.floor(low), math.ceil(high)
        width = math.ceil((high - low + 1) / BINS)
        bins = math.ceil((high - low + 1) / width)
        low, high = low - 0.5, low - 0.5 + width * bins
    else:
        bins, high = (BINS, high) if high > low else (1, low + max(1.0, abs(low)))
    counts, _ = np.histogram(values.clip(low, high), bins, (low, high))
    return Histogram(low=low, high=high, counts=tuple(counts.tolist()))


def _edges(histogram: Histogram) -> np.ndarray:
    return np.linspace(histogram.low, histogram.high, len(histogram.counts) + 1)


def _cumulated(histogram: Histogram, grid: np.ndarray) -> np.ndarray:
    shares = np.concatenate([[0.0], np.cumsum(histogram.counts)])
    return np.interp(grid, _edges(histogram), shares / max(1.0, shares[-1]))


def _deviation(histogram: Histogram) -> float:
    """Return the standard deviation, at least a bin's own."""
    edges = _edges(histogram)
    middles, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    weights = np.asarray(histogram.counts, float) + (0 if any(histogram.counts) else 1)
    mean = np.average(middles, weights=weights)
    return float((np.average((middles - mean) ** 2, weights=weights) + width**2 / 12) ** 0.5)
