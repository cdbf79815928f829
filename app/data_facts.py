"""What step 1 shows of chosen images: axes and their other readings, channels, pixel size, pairs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

MOST_READINGS = 6
COLOURS = 4
"""A last axis so short holds colours."""


@dataclass(frozen=True)
class Channel:
    """One channel of the images."""

    number: int
    name: str
    used: bool
    low: float
    high: float
    """Grey values of the slice that was looked at."""


@dataclass(frozen=True)
class Pair:
    """One image with what belongs to it, by name; "" where there is nothing."""

    name: str
    labels: str = ""
    mask: str = ""
    use: str = "split"


@dataclass(frozen=True)
class Overview:
    """What is known of the chosen images before a pixel is judged.

    Parameters
    ----------
    axes : str
        As they are read.
    shape : tuple of int
        Of the first image.
    given : bool
        Whether a person gave the axes.
    channels : tuple of Channel
        Of the first image, unused ones too.
    pixel_size : str
        In words, "" where nobody knows it.
    pairs : tuple of Pair
        All images.
    problems : tuple of tuple
        `(level, what, remedy)` of what was noticed while the files were paired.
    """

    axes: str
    shape: tuple[int, ...]
    given: bool
    channels: tuple[Channel, ...]
    pixel_size: str
    pairs: tuple[Pair, ...]
    problems: tuple[tuple[str, str, str], ...] = ()


def sizes_text(axes: str, shape: tuple[int, ...]) -> str:
    """Return axes with their sizes.

    Examples
    --------
    >>> sizes_text("ZYX", (30, 512, 512))
    'Z 30 · Y 512 · X 512'
    """
    return " · ".join(f"{letter} {size}" for letter, size in zip(axes, shape, strict=True))


def readings(axes: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return how else the axes of a file might be meant, the present reading first.

    Rows and columns stay together and in their order, and are the last axes unless colours come behind them.

    Examples
    --------
    >>> readings("ZYX", (30, 512, 512))
    ('ZYX', 'CYX', 'TYX')
    >>> readings("YXC", (512, 512, 3))
    ('YXC', 'ZYX', 'CYX', 'TYX')
    """
    count = len(shape)
    found = dict.fromkeys([axes])
    for outer in permutations("ZCT", count - 2):
        found["".join(outer) + "YX"] = None
    if count >= 3 and shape[-1] <= COLOURS:
        for outer in permutations("ZT", count - 3):
            found["".join(outer) + "YXC"] = None
    return tuple(found)[:MOST_READINGS]
