"""ArraySource: an array in a container (NumPy, HDF5, Zarr, NIfTI, picture) as an ImageSource."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from segcore.addresses import is_url
from segcore.axes import AXES, canonical_axes, parse_axes, sizes_text
from segcore.card import PixelSize
from segcore.data.integrity import check_proportion
from segcore.data.source import Region, full_region
from segcore.data.thinning import Copy, pick
from segcore.errors import DataError, SegcoreError

MOSTLY_GAPS = 1_000_000
"""Bytes of a plane per byte that is stored: of a slide labelled in one corner, all else is not stored."""
NUMBERS = "8- to 64-bit integers, floats and bool can be used."


class LazyArray(Protocol):
    """What a container gives: sizes, type, and pixels by slices."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes as stored."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers as stored."""

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        """Return part of the array."""


@dataclass(frozen=True)
class Facts:
    """What a container says of its array.

    Parameters
    ----------
    axes : str
        A letter per stored axis, any that `canonical_axes` takes; "" where the container names none.
    pixel_size : PixelSize
        Voxel size in µm.
    notes : tuple of str
        What had to be assumed.
    """

    axes: str = ""
    pixel_size: PixelSize = field(default_factory=PixelSize)
    notes: tuple[str, ...] = ()
    stored: int | None = None
    """Bytes on disk, where they tell whether the sizes are possible."""
    piece: int = 0
    """Bytes of what the container decodes at least, as a chunk."""
    levels: tuple[tuple[float, OpenArray], ...] = ()
    """Smaller copies of the image, each with how many times smaller its rows and columns are."""


OpenArray = Callable[[], AbstractContextManager["LazyArray"]]


class ArraySource:
    """An array on disk; satisfies `ImageSource`. The container is opened for every read and closed after it.

    Parameters
    ----------
    path : Path or str
        The file or folder, or the URL.
    open_array : callable
        Opens the container; the array is valid inside the context.
    facts : Facts
        What the container says.
    axes : str, optional
        Axes where the container's are missing or wrong; axes of size 1 may be named or left out.

    Raises
    ------
    DataError
        The array cannot be opened, holds no image of numbers, or declares more pixels than it can hold.
    """

    def __init__(
        self, path: Path | str, open_array: OpenArray, facts: Facts, axes: str | None = None
    ) -> None:
        self.path = Path(path)
        self._where = path
        self._open = open_array
        self._levels = facts.levels
        with as_data_error(path, "opened"), open_array() as array:
            stored = tuple(int(size) for size in array.shape)
            dtype = np.dtype(array.dtype)
        _check_numbers(path, stored, dtype)
        self.dtype: np.dtype[Any] = dtype.newbyteorder("=")
        self.pixel_size = facts.pixel_size
        letters = facts.axes or guess_axes(stored)
        self._kept = _kept_axes(letters, stored)
        self._dimensions = len(stored)
        self.shape = tuple(stored[position] for position in self._kept)
        with naming_file(path):
            if axes is None:
                kept = "".join(letters[position] for position in self._kept)
                self.axes, notes = canonical_axes(kept, self.shape)
            else:
                self.axes, notes = parse_axes(_fitting(axes, stored, self._kept), self.shape), ()
        self.notes = facts.notes + notes
        if facts.stored is not None:
            plane = math.prod(size for axis, size in zip(self.axes, self.shape, strict=True) if axis in "CYX")
            check_proportion(path, facts.piece, facts.stored)
            check_proportion(path, plane * dtype.itemsize, facts.stored, MOSTLY_GAPS)

    def read(self, region: Region) -> np.ndarray:
        """Return the pixels of `region`; see `ImageSource.read`."""
        bounds = full_region(region, self.shape)
        with as_data_error(self._where, "read"), self._open() as array:
            return self._part(array, bounds)

    def thinned(self, region: Region, step: int) -> np.ndarray | None:
        """Return every `step`-th pixel from a smaller copy, if there is one; see `thinning.Thinnable`."""
        fitting = [(factor, opened) for factor, opened in self._levels if factor <= step]
        if not fitting:
            return None
        factor, opened = max(fitting, key=lambda level: level[0])
        with as_data_error(self._where, "read"), opened() as array:
            if array is None:
                return None  # declared, but not there
            shape = tuple(int(array.shape[position]) for position in self._kept)
            copy = Copy(
                self.axes, shape, self.dtype, lambda part: self._part(array, full_region(part, shape))
            )
            return pick(copy, region, self.shape, step, factor)

    def _part(self, array: LazyArray, bounds: tuple[tuple[int, int], ...]) -> np.ndarray:
        sizes = [stop - start for start, stop in bounds]
        if 0 in sizes:  # not every library can read nothing
            return np.empty(sizes, self.dtype)
        kept = dict(zip(self._kept, bounds, strict=True))
        whole = tuple(slice(*kept.get(position, (0, 1))) for position in range(self._dimensions))
        return np.array(array[whole], dtype=self.dtype, order="C").reshape(sizes)


def guess_axes(shape: Sequence[int]) -> str:
    """Return letters for the axes of an array that nobody named; colours may stand behind the columns.

    Examples
    --------
    >>> guess_axes((30, 512, 512)), guess_axes((512, 512, 3)), guess_axes((2, 30, 512, 512))
    ('QYX', 'YXS', 'QQYX')
    """
    colour = len(shape) > 2 and shape[-1] in (1, 3, 4) and min(shape[-3:-1]) > 4
    inner = "YXS" if colour else "YX"
    return "Q" * (len(shape) - len(inner)) + inner


@contextmanager
def naming_file(path: Path | str) -> Iterator[None]:
    """Say in an error about axes which file it is about: there may be thousands."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{path}: {error.message}", error.remedy) from error


@contextmanager
def as_data_error(path: Path | str, doing: str) -> Iterator[None]:
    """Turn whatever a container's library raises into a DataError: files come from anywhere."""
    try:
        yield
    except SegcoreError:
        raise
    except Exception as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = "Export or copy the file again and check its size."
        if is_url(path):
            remedy = "Check the address and the network, or download the data."
        raise DataError(f"{path} cannot be {doing}: {detail[:200]}.", remedy) from error


@contextmanager
def hushed(log: str) -> Iterator[None]:
    """Keep a library's log out of sight in this thread: what it tells becomes an error or a note of ours."""
    thread = threading.get_ident()

    def elsewhere(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger = logging.getLogger(log)
    logger.addFilter(elsewhere)
    try:
        yield
    finally:
        logger.removeFilter(elsewhere)


def _check_numbers(path: Path | str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise DataError(f"{path} holds {dtype} numbers; {NUMBERS}", "Export it as 8-bit, 16-bit or float.")
    if len(shape) < 2 or min(shape) < 1:
        raise DataError(
            f"{path} holds no image: its array is {sizes_text(shape) or 'a single number'}.",
            "Choose an array with rows and columns.",
        )


def _kept_axes(letters: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the positions of the axes that count: rows, columns, and every other of more than one."""
    return tuple(at for at, size in enumerate(shape) if size > 1 or letters[at].upper() in "YX")


def _fitting(axes: str, stored: tuple[int, ...], kept: tuple[int, ...]) -> str:
    letters = axes.strip().upper()
    if len(letters) == len(stored) and set(letters) <= set(AXES):
        return "".join(letters[position] for position in kept)
    return letters
