"""What a sink takes: the size and type of a result, and the protocol by which blocks of it are written."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from segcore.card import PixelSize
from segcore.errors import JobError


@dataclass(frozen=True)
class SinkSpec:
    """A result of known size: labels, or the probabilities of every class.

    Parameters
    ----------
    axes : str
        Axes of the image, ending in YX, without channels.
    shape : tuple of int
        Sizes of the axes, px.
    dtype : dtype
        Type of the labels; probabilities are float32 always.
    pixel_size : PixelSize
        Written into the file as far as known, µm.
    classes : int
        0 for labels, else the number of probabilities of every pixel: an axis C before YX.
    format : str
        "tiff" or "ome-zarr".
    chunk : tuple of int
        Planes, rows and columns: blocks are written in multiples of it, or up to the image's border.
    names : tuple of (int, str)
        Value and name of every class, as far as the format has room for them (OME-Zarr).
    """

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pixel_size: PixelSize
    classes: int = 0
    format: str = "tiff"
    chunk: tuple[int, int, int] = (1, 512, 512)
    names: tuple[tuple[int, str], ...] = ()

    @property
    def stored_axes(self) -> str:
        """Axes of the file: with C before YX for probabilities."""
        return f"{self.axes[:-2]}C{self.axes[-2:]}" if self.classes else self.axes

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Sizes of `stored_axes`."""
        return (*self.shape[:-2], self.classes, *self.shape[-2:]) if self.classes else self.shape

    @property
    def stored_dtype(self) -> np.dtype[Any]:
        """Type of the file's pixels."""
        return np.dtype(np.float32) if self.classes else np.dtype(self.dtype)

    @property
    def planes(self) -> int:
        """Planes of the image, counted through all axes before YX."""
        return math.prod(self.shape[:-2])

    @property
    def pages(self) -> int:
        """Images of rows and columns in the file: one for every plane, or for every class of every plane."""
        return self.planes * max(self.classes, 1)

    @property
    def bytes(self) -> int:
        """Bytes of all pixels."""
        return math.prod(self.stored_shape) * self.stored_dtype.itemsize


class Sink(Protocol):
    """Takes disjoint blocks in any order; several processes and threads may write to one result at once."""

    def write(self, planes: range, rows: slice, columns: slice, values: np.ndarray) -> None:
        """Put a block at its place.

        Parameters
        ----------
        planes : range
            Consecutive planes, counted through all axes before YX.
        rows, columns : slice
            What part of the planes.
        values : ndarray
            Labels `(Z, Y, X)` or probabilities `(Z, K, Y, X)` of the type in the specification.

        Raises
        ------
        JobError
            The disk is full or gone.
        """
        ...

    def flush(self) -> None:
        """Return when all that this sink wrote is on the disk, also after a power cut.

        Raises
        ------
        JobError
            The disk is full or gone.
        """
        ...

    def close(self) -> None:
        """Flush, and let go of the file."""
        ...


@contextmanager
def told_of_disk(path: Path) -> Iterator[None]:
    """Turn what a disk complains of into a JobError."""
    try:
        yield
    except OSError as error:
        raise JobError(
            f"{path} cannot be written: {error.strerror or error}.",
            "Free some disk space, or choose a workspace on another disk, and start again; "
            "what is done so far is kept.",
        ) from error


def check_block(spec: SinkSpec, planes: range, rows: slice, columns: slice, values: np.ndarray) -> None:
    """Assert that a block lies within the result and has its type."""
    inside = (0 <= start <= stop <= size for start, stop, size in (
        (planes.start, planes.stop, spec.planes),
        (rows.start, rows.stop, spec.shape[-2]),
        (columns.start, columns.stop, spec.shape[-1]),
    ))  # fmt: skip
    assert all(inside), (planes, rows, columns, spec.shape)
    assert planes.step == 1, planes
    channels = (spec.classes,) if spec.classes else ()
    size = (len(planes), *channels, rows.stop - rows.start, columns.stop - columns.start)
    assert (values.shape, values.dtype) == (size, spec.stored_dtype), (values.shape, values.dtype, size)


def damaged(path: Path) -> JobError:
    """Return the error for a work file that is not what was created."""
    return JobError(
        f"{path} is missing or cut off: what was segmented so far cannot be used.",
        "Delete it and start the segmentation again.",
    )
