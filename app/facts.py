"""What a page says about an image file and about a plan: its size in words, its cost in numbers."""

from __future__ import annotations

from dataclasses import dataclass

from segcore.card import PixelSize
from segcore.estimate import Stack as StackSize


@dataclass(frozen=True)
class Stack:
    """What a page shows about an image file."""

    path: str
    axes: str
    shape: tuple[int, ...]
    dtype: str
    pixel_size: str
    planes: int
    channels: int
    height: int
    width: int
    words: str = ""
    """What it is in words, where it is more than one image."""
    size: StackSize | None = None
    """What estimates of time and memory must know."""

    @property
    def text(self) -> str:
        """One line, for example `30 × 512 × 512, uint8, ZYX, 4 nm/px`."""
        if self.words:
            return ", ".join(part for part in (self.words, self.dtype, self.pixel_size) if part)
        parts = [" × ".join(str(size) for size in self.shape), self.dtype, self.axes, self.pixel_size]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class Estimate:
    """What a configuration will cost; None where nobody can say."""

    parameters: int | None
    seconds: float | None


def pixel_size_text(size: PixelSize) -> str:
    """Return the size of a pixel, and of a step between slices, as far as it is known."""
    return size.text
