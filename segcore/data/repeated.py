"""Repeated: a grey image read as several equal channels, so that it can stand beside images in colour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from segcore.card import PixelSize
from segcore.data.source import ImageSource, Region


class Repeated:
    """An image without a channel axis, seen with `channels` equal ones; satisfies `ImageSource`.

    Parameters
    ----------
    source : ImageSource
        A grey image.
    channels : int
        How often it is seen.
    """

    def __init__(self, source: ImageSource, channels: int) -> None:
        self._source = source
        self._squeezed = "C" in source.axes  # a channel axis of size 1
        position = source.axes.index("C") if self._squeezed else 0
        self._position = position
        letters = source.axes.replace("C", "")
        self.axes: str = f"{letters[:position]}C{letters[position:]}"
        sizes = [size for axis, size in zip(source.axes, source.shape, strict=True) if axis != "C"]
        self.shape: tuple[int, ...] = (*sizes[:position], channels, *sizes[position:])
        self.dtype: np.dtype[Any] = source.dtype
        self.pixel_size: PixelSize = source.pixel_size
        self.path: Path = source.path
        self.notes: tuple[str, ...] = source.notes

    def read(self, region: Region) -> np.ndarray:
        """Return the pixels of `region`; see `ImageSource.read`."""
        at = self._position
        channels = len(range(*region[at].indices(self.shape[at])))
        inner = region[:at] + ((slice(None),) if self._squeezed else ()) + region[at + 1 :]
        pixels = self._source.read(inner)
        if not self._squeezed:
            pixels = np.expand_dims(pixels, at)
        return np.repeat(pixels, channels, axis=at)
