"""OME-Zarr 0.5: blocks are written as whole chunks, so that no two processes ever share a file."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from segcore.errors import JobError
from segcore.files import sync_file, sync_folder
from segcore.inference.sink_spec import SinkSpec, check_block, damaged, told_of_disk
from segcore.inference.zarr_layout import stored_order


class ZarrSink:
    """Writes the full resolution of an OME-Zarr image chunk by chunk; a `Sink`.

    A chunk is a file, replaced at once: a killed process leaves none half-written. Chunks of zeros only are
    not stored.

    Parameters
    ----------
    path : Path
        A folder made by `create_zarr`.
    spec : SinkSpec
        What it holds.

    Raises
    ------
    JobError
        The folder is missing or damaged.
    """

    def __init__(self, path: Path, spec: SinkSpec) -> None:
        self._spec = spec
        self._level = Level(path, spec, 0)

    def write(self, planes: range, rows: slice, columns: slice, values: np.ndarray) -> None:
        """Put a block of whole chunks at its place; see `Sink.write`."""
        spec = self._spec
        check_block(spec, planes, rows, columns, values)
        assert _whole(rows, spec.chunk[1], spec.shape[-2]), (rows, spec.chunk)
        assert _whole(columns, spec.chunk[2], spec.shape[-1]), (columns, spec.chunk)
        for outer, depth, part in _runs(spec, planes):
            if spec.axes[:-2]:
                assert _whole(depth, spec.chunk[0], spec.shape[-3]), (depth, spec.chunk)
            inner = (slice(0, spec.classes),) if spec.classes else ()
            stack = (depth,) if spec.axes[:-2] else ()
            block = values[part] if stack else values[0]
            region = (*(slice(index, index + 1) for index in outer), *stack, *inner, rows, columns)
            self._level.write(region, block[(None,) * len(outer)])

    def flush(self) -> None:
        """Return when all chunks that were written are on the disk; see `Sink.flush`."""
        self._level.flush()

    def close(self) -> None:
        """Flush."""
        self.flush()


class Level:
    """One resolution of an OME-Zarr image; regions and pixels are in the specification's order of axes.

    Parameters
    ----------
    path : Path
        The image's folder.
    spec : SinkSpec
        What it holds.
    number : int
        0 for the full resolution.
    """

    def __init__(self, path: Path, spec: SinkSpec, number: int) -> None:
        import zarr

        self.path = path
        self._folder = path / str(number)
        self._order = stored_order(spec)
        self._pending: set[Path] = set()
        self._lock = threading.Lock()
        with told_of_disk(path):
            try:
                self._array: Any = zarr.open_array(str(self._folder), mode="r+", zarr_format=3)
            except (FileNotFoundError, ValueError) as error:
                raise damaged(path) from error
        back = np.argsort(self._order)
        self.shape: tuple[int, ...] = tuple(int(self._array.shape[axis]) for axis in back)
        self.chunks: tuple[int, ...] = tuple(int(self._array.chunks[axis]) for axis in back)

    def read(self, region: tuple[slice, ...]) -> np.ndarray:
        """Return the pixels of a region."""
        stored = np.asarray(self._array[tuple(region[axis] for axis in self._order)])
        return stored.transpose(np.argsort(self._order))

    def write(self, region: tuple[slice, ...], pixels: np.ndarray) -> None:
        """Write a region of whole chunks."""
        stored = tuple(region[axis] for axis in self._order)
        with told_of_disk(self.path):
            self._array[stored] = np.ascontiguousarray(pixels.transpose(self._order))
        files = {self._folder / self._array.metadata.encode_chunk_key(key) for key in self._keys(stored)}
        with self._lock:
            self._pending |= files

    def flush(self) -> None:
        """Return when all chunks that were written are on the disk, with the names of their folders."""
        with self._lock:
            files, self._pending = self._pending, set()
        try:
            with told_of_disk(self.path):
                self._sync(files)
        except JobError:
            with self._lock:
                self._pending |= files
            raise

    def _sync(self, files: set[Path]) -> None:
        for file in files:
            if file.exists():  # chunks of zeros are none
                sync_file(file)
        inside = {folder for file in files for folder in file.parents if self._folder in folder.parents}
        for folder in (*inside, self._folder):
            if folder.exists():
                sync_folder(folder)

    def _keys(self, stored: tuple[slice, ...]) -> Iterator[tuple[int, ...]]:
        chunks = self._array.chunks
        return itertools.product(
            *(
                range(part.start // size, -(-part.stop // size))
                for part, size in zip(stored, chunks, strict=True)
            )
        )


def remove_partial(path: Path) -> None:
    """Remove what killed processes were just about to write."""
    for parent, _, names in os.walk(path):
        for name in names:
            if name.endswith(".partial"):
                os.unlink(os.path.join(parent, name))


def replace_folder(path: Path, target: Path) -> None:
    """Move a folder to the place of another, which then is gone."""
    former = target.with_name(f".{target.name}.former")
    shutil.rmtree(former, ignore_errors=True)
    if target.exists():
        os.replace(target, former)
    os.replace(path, target)
    shutil.rmtree(former, ignore_errors=True)


def _runs(spec: SinkSpec, planes: range) -> Iterator[tuple[tuple[int, ...], slice, slice]]:
    """Yield what lies in one volume: its indices, the planes within it, and which of `planes` they are."""
    leading, depth = spec.shape[:-3], spec.shape[-3] if len(spec.shape) > 2 else 1
    start = planes.start
    while start < planes.stop:
        volume, first = divmod(start, depth)
        stop = min(planes.stop, (volume + 1) * depth)
        outer = tuple(map(int, np.unravel_index(volume, leading))) if leading else ()
        yield outer, slice(first, first + stop - start), slice(start - planes.start, stop - planes.start)
        start = stop


def _whole(part: slice, chunk: int, size: int) -> bool:
    return part.start % chunk == 0 and (part.stop % chunk == 0 or part.stop == size)
