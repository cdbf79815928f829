"""What a split must know of an image, and how people name slices."""

from __future__ import annotations

from dataclasses import dataclass

from segcore.data.items import Use
from segcore.errors import ConfigError

MAX_SLICES = 1_000_000


@dataclass(frozen=True)
class Extent:
    """What the split must know of an image.

    Parameters
    ----------
    name : str
        Path of the image below what was chosen, for groups.
    planes : int
        Slices.
    height : int
        Rows of a slice.
    use : str
        What its set is for.
    classes : tuple of frozenset of int
        Label values of every slice, empty sets where nothing is annotated; () where nobody looked.
    depth : int
        Planes that lie together, where an image holds several volumes in time; 0: all of them.
    row_counts : tuple of tuple of int
        Where only one slice is annotated: pixels of every class in each of its rows; () where nobody looked.
    """

    name: str
    planes: int
    height: int
    use: Use = "split"
    classes: tuple[frozenset[int], ...] = ()
    depth: int = 0
    row_counts: tuple[tuple[int, ...], ...] = ()

    def volume(self, plane: int) -> int:
        """Return the number of the volume a slice belongs to."""
        return plane // self.depth if self.depth else 0

    def annotated(self, plane: int) -> bool:
        """Whether anything is annotated in a slice, as far as somebody looked."""
        return not self.classes or bool(self.classes[plane])


def parse_slices(text: str) -> tuple[int, ...]:
    """Return the slices a text like "0,5,10-12" names, ascending, each once.

    Raises
    ------
    ConfigError
        The text is not of this form, or a range runs backwards.

    Examples
    --------
    >>> parse_slices("10-12, 0,5")
    (0, 5, 10, 11, 12)
    """
    chosen: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            start, stop = int(first), int(last) if last.strip() else int(first)
        except ValueError:
            raise ConfigError(
                f"{part.strip()!r} names no slices.", "Write them like 24-29 or 0,5,10-12."
            ) from None
        if not 0 <= start <= stop or stop >= MAX_SLICES:
            raise ConfigError(
                f"{part.strip()!r} is not a range of slices: it must rise, and stay below {MAX_SLICES}.",
                "Write it like 24-29.",
            )
        chosen.update(range(start, stop + 1))
    return tuple(sorted(chosen))
