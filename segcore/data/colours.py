"""Colours: masks painted in colours as label values, by a table of colours that is stated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from segcore.card import PixelSize
from segcore.data.index import key_of, recall
from segcore.data.planes import Planes
from segcore.data.source import ImageSource, Region, full_region
from segcore.errors import DataError

MOST_COLOURS = 32
"""A mask of more was resampled or saved as JPEG: colours in between are nobody's classes."""
MOST_KEPT = 4096
"""Colours of a mask that are kept in the index; of more, the mask is read again."""


@dataclass(frozen=True)
class ColourTable:
    """Values of colours.

    Parameters
    ----------
    values : mapping
        From the colour as 0xRRGGBB to its label value.
    nearest : bool
        Whether other colours count as the nearest one of the table; else they are refused.
    """

    values: Mapping[int, int]
    nearest: bool = False

    @classmethod
    def over(cls, colours: frozenset[int]) -> ColourTable:
        """Return the table of these colours: black is 0, the others 1, 2, … by red, then green, then blue."""
        return cls({0: 0} | {colour: at + 1 for at, colour in enumerate(sorted(colours - {0}))})

    @property
    def text(self) -> str:
        """For people: "0000ff = 1, ff0000 = 2"."""
        return ", ".join(f"{colour:06x} = {value}" for colour, value in self.values.items())

    def apply(self, colours: np.ndarray) -> np.ndarray:
        """Return the values of an array of colours, and -1 for those that are not in the table."""
        distinct, where = np.unique(colours, return_inverse=True)
        values = [self._value(int(colour)) for colour in distinct]
        return np.array(values, np.int64)[where].reshape(colours.shape)

    def _value(self, colour: int) -> int:
        if colour in self.values or not self.nearest:
            return self.values.get(colour, -1)
        return self.values[min(self.values, key=lambda known: (_distance(known, colour), known))]


class ColourLabels:
    """A mask in colours as a label image; satisfies `ImageSource`.

    A mask that is grey throughout is read by its grey values. What is fully transparent is black.

    Parameters
    ----------
    source : ImageSource
        With a C axis of three or four samples.
    table : ColourTable, optional
        Values of the colours; by default `ColourTable.over` those of this mask, for which all of it is read.
    address : str, optional
        Where the mask lies; its colours are then kept in the index, so that it is read as a whole only once.
    """

    def __init__(self, source: ImageSource, table: ColourTable | None = None, address: str = "") -> None:
        self.source = source
        self._address = address
        self._given = table
        self._channel = source.axes.index("C")
        self.axes: str = source.axes.replace("C", "")
        self.shape: tuple[int, ...] = tuple(np.delete(source.shape, self._channel).tolist())
        largest = max(table.values.values(), default=0) if table else 0
        self.dtype: np.dtype[Any] = np.result_type(source.dtype, np.min_scalar_type(largest))

    @property
    def path(self) -> Path:
        """The file."""
        return self.source.path

    @property
    def pixel_size(self) -> PixelSize:
        """Voxel size in µm."""
        return self.source.pixel_size

    @cached_property
    def colours(self) -> Mapping[int, int]:
        """Pixels of every colour in the mask; all of it is read for that, unless the index knows them."""
        if not self._address:
            return count_colours(self.source)
        return known_colours([self._address], lambda _: count_colours(self.source), "mask")[0]

    @cached_property
    def _grey(self) -> bool:
        return all(is_grey(colour) for colour in self.colours)

    @cached_property
    def _count(self) -> int:
        """How many colours are to be told apart."""
        if self._given is None:
            return 0 if self._grey else len(self.colours)
        return 0 if self._given.nearest else len(self._given.values)

    @cached_property
    def _table(self) -> ColourTable | None:
        """The table, or None for a mask that is grey throughout."""
        if self._count > MOST_COLOURS:
            raise DataError(
                f"{self.path} and the masks beside it have {self._count} colours; a mask has one per class, "
                f"at most {MOST_COLOURS}. It was probably resampled or saved as JPEG.",
                "Save it as PNG without smoothing, or let the data doctor propose which colours are meant "
                "(labels.colours).",
            )
        if self._given is not None:
            return self._given
        return None if self._grey else ColourTable.over(frozenset(self.colours))

    @property
    def notes(self) -> tuple[str, ...]:
        """What had to be assumed, the table of colours included."""
        notes = tuple(note for note in self.source.notes if "channel" not in note)
        if self._count > MOST_COLOURS:
            return (*notes, f"There are {self._count} colours, too many for classes.")
        if self._table is None:
            return (*notes, "The mask is grey, though it is stored in colour; its grey values are read.")
        return (*notes, f"Colours are read as values: {self._table.text}.")

    @property
    def names(self) -> dict[int, str]:
        """Names of the values: the colours themselves, as #ff0000."""
        table = None if self._count > MOST_COLOURS else self._table
        return {value: f"#{colour:06x}" for colour, value in table.values.items()} if table else {}

    def read(self, region: Region) -> np.ndarray:
        """Return the values in `region`; see `ImageSource.read`."""
        full_region(region, self.shape)
        whole = (*region[: self._channel], slice(None), *region[self._channel :])
        samples = np.moveaxis(self.source.read(whole), self._channel, -1)
        colours = pack(samples)
        table = self._table
        if table is None:
            return (colours & 0xFF).astype(self.dtype)
        values = table.apply(colours)
        if (values < 0).any():
            strange = int(colours[values < 0].flat[0])
            raise DataError(
                f"{self.path} has the colour {strange:06x}, which is not among {table.text}.",
                "Give it a value with the repair labels.colours.",
            )
        return values.astype(self.dtype)


def count_colours(source: ImageSource) -> dict[int, int]:
    """Return the pixels of every colour (0xRRGGBB) of an image, the most frequent first.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    planes = Planes(source)
    counts: Counter[int] = Counter()
    for index in range(planes.count):
        found, pixels = np.unique(pack(np.moveaxis(planes.read(index), 0, -1)), return_counts=True)
        counts.update(dict(zip(found.tolist(), pixels.tolist(), strict=True)))
    return dict(counts.most_common())


def known_colours(
    addresses: Sequence[str], counting: Callable[[str], dict[int, int]], what: str
) -> list[dict[int, int]]:
    """Return what `counting` says of every mask; what the index knows is not counted again.

    Parameters
    ----------
    addresses : sequence of str
        The masks.
    counting : callable
        From an address to the pixels of every colour; what it raises ends everything.
    what : str
        Name of this way to count.
    """
    many: dict[int, dict[int, int]] = {}

    def make(position: int) -> list[tuple[int, int]] | None:
        counts = counting(addresses[position])
        if len(counts) <= MOST_KEPT:
            return list(counts.items())
        many[position] = counts
        return None

    facts = recall([key_of("colours", [address], what) for address in addresses], make)
    return [many[at] if fact is None else dict(fact) for at, fact in enumerate(facts)]


def is_grey(colour: int) -> bool:
    """Return whether red, green and blue are the same."""
    return colour % 0x010101 == 0


def is_coloured(source: ImageSource, like: ImageSource | None = None) -> bool:
    """Return whether a label file holds colours: three or four 8-bit samples per pixel.

    Samples in front of the rows may as well be slices; they are colours only if the image has no such slices.
    """
    sizes = dict(zip(source.axes, source.shape, strict=True))
    if sizes.get("C") not in (3, 4) or source.dtype != np.uint8:
        return False
    if not source.axes.startswith("C") or {"Z", "T"} & set(source.axes):
        return True
    return like is not None and Planes(like).count == 1 and not like.axes.startswith("C")


def pack(samples: np.ndarray) -> np.ndarray:
    """Return samples `… C` of 8 bits as colours 0xRRGGBB, uint32; fully transparent ones as black."""
    red, green, blue = (samples[..., at].astype(np.uint32) for at in range(3))
    colours = (red << 16) | (green << 8) | blue
    if samples.shape[-1] == 4:
        colours[samples[..., 3] == 0] = 0
    return colours


def _distance(one: int, other: int) -> int:
    return sum(((one >> shift & 0xFF) - (other >> shift & 0xFF)) ** 2 for shift in (0, 8, 16))
