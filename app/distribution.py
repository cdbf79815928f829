"""Distribution: grey values as small charts, of one set of images or of two; HTML without script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from segcore.card import Histogram

TRAINING, NEW = "#0072B2", "#E69F00"
WIDTH, HEIGHT = 240, 64
MOST_BINS = 120
SHOWN = 0.999
"""Share of the pixels that decides how wide a chart is: a few hot pixels would press all else together."""


@dataclass(frozen=True)
class Curve:
    """One histogram in a chart.

    Parameters
    ----------
    histogram : Histogram
        Counts in bins of equal width.
    name : str
        What it is of, for the legend and for screen readers.
    colour : str
        CSS colour.
    filled : bool
        Draw an area instead of a line.
    """

    histogram: Histogram
    name: str
    colour: str = TRAINING
    filled: bool = True


def chart_html(title: str, curves: Sequence[Curve], chosen: bool = False) -> str:
    """Return one chart with its title; all curves share the axis, and each has the same area.

    Parameters
    ----------
    title : str
        Stands above it.
    curves : sequence of Curve
        Drawn one over the other.
    chosen : bool
        Whether this chart is the one in use.
    """
    low, high = limits([curve.histogram for curve in curves])
    drawn = [_density(curve.histogram, low, high) for curve in curves]
    top = max((float(one.max()) for one in drawn), default=0.0) or 1.0
    shapes = "".join(_shape(curve, one / top) for curve, one in zip(curves, drawn, strict=True))
    alt = "; ".join(f"{curve.name}: {low:.4g} to {high:.4g}" for curve in curves)
    mark = ' aria-current="true"' if chosen else ""
    name = f"{escape(title)} ✓" if chosen else escape(title)
    return (
        f'<figure class="distribution"{mark}><figcaption>{name}</figcaption>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" '
        f'aria-label="{escape(alt)}">{shapes}</svg>'
        f"<div><span>{low:.4g}</span><span>{high:.4g}</span></div></figure>"
    )


def channels_html(
    training: Sequence[Histogram], names: Sequence[str] = (), new: Sequence[Histogram] = ()
) -> str:
    """Return a chart for every channel, with the grey values of new images over those of the training."""
    charts = []
    for number, histogram in enumerate(training):
        title = names[number] if number < len(names) else "Grey values"
        if len(training) > 1 and number >= len(names):
            title = f"Channel {number}"
        curves = [Curve(histogram, "training" if new else "images")]
        if number < len(new):
            curves.append(Curve(new[number], "these images", NEW, filled=False))
        charts.append(chart_html(title, curves))
    legend = ""
    if new:
        legend = (
            f'<p class="subdued"><span style="color:{TRAINING}">■</span> training images '
            f'<span style="color:{NEW}">▬</span> these images</p>'
        )
    return f'<div class="distributions">{"".join(charts)}</div>{legend}' if charts else ""


def normalizations_html(histograms: Mapping[str, Sequence[Histogram]], chosen: str) -> str:
    """Return what every normalisation makes of the first channel; `chosen` is the one in use.

    Parameters
    ----------
    histograms : mapping
        By the name of the normalisation, one histogram per channel.
    chosen : str
        The name of the one in use.
    """
    charts = "".join(
        chart_html(name, [Curve(one, f"network input, {name}") for one in found[:1]], name == chosen)
        for name, found in histograms.items()
        if found
    )
    return f'<div class="distributions">{charts}</div>' if charts else ""


def limits(histograms: Sequence[Histogram]) -> tuple[float, float]:
    """Return the range that nearly all pixels of all histograms lie in.

    Examples
    --------
    >>> limits([Histogram(low=0, high=100, counts=(5, 90, 5, 0, 0, 0, 0, 0, 0, 0))])
    (0.0, 30.0)
    """
    lows, highs = [], []
    for histogram in histograms:
        counts = np.asarray(histogram.counts, dtype=np.float64)
        width = (histogram.high - histogram.low) / max(len(counts), 1)
        total = np.cumsum(counts)
        if not len(counts) or total[-1] <= 0:
            continue
        first = int(np.searchsorted(total, (1 - SHOWN) / 2 * total[-1], side="right"))
        last = int(np.searchsorted(total, (1 + SHOWN) / 2 * total[-1]))
        lows.append(histogram.low + first * width)
        highs.append(histogram.low + (min(last, len(counts) - 1) + 1) * width)
    if not lows or min(lows) == max(highs):
        return (min(lows), min(lows) + 1.0) if lows else (0.0, 1.0)
    return float(min(lows)), float(max(highs))


def _density(histogram: Histogram, low: float, high: float) -> np.ndarray:
    """Return the share of pixels in equal bins of the chart."""
    counts = np.asarray(histogram.counts, dtype=np.float64)
    edges = np.linspace(histogram.low, histogram.high, len(counts) + 1)
    total = np.concatenate([[0.0], np.cumsum(counts)])
    bins = np.linspace(low, high, min(MOST_BINS, max(len(counts), 8)) + 1)
    share = np.diff(np.interp(bins, edges, total)) / (total[-1] or 1.0)
    # The square root shows the few bright pixels beside a large dark background.
    return np.sqrt(np.maximum(share, 0.0))


def _shape(curve: Curve, heights: np.ndarray) -> str:
    step = WIDTH / len(heights)
    points = " ".join(
        f"{step * (at + side):.1f},{HEIGHT - (HEIGHT - 2) * height:.1f}"
        for at, height in enumerate(heights)
        for side in (0, 1)
    )
    if curve.filled:
        return (
            f'<polygon points="0,{HEIGHT} {points} {WIDTH},{HEIGHT}" fill="{curve.colour}" opacity="0.55"/>'
        )
    return (
        f'<polyline points="{points}" fill="none" stroke="{curve.colour}" stroke-width="2" '
        'vector-effect="non-scaling-stroke"/>'
    )
