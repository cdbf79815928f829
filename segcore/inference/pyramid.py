"""The pyramid of an OME-Zarr image, built from chunks in bounded memory; goes on where it was interrupted."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from segcore.files import write_atomic
from segcore.inference.sink_spec import SinkSpec, told_of_disk
from segcore.inference.zarr_layout import chunk_shape, level_shapes
from segcore.inference.zarr_sink import Level

RECORD = ".pyramid"
"""File in the image's folder that says how many strips are on the disk."""
_SECONDS = 5
"""Work that is lost at most when the process is killed; every record costs flushes of the disk."""


def build_pyramid(
    path: Path,
    spec: SinkSpec,
    progress: Callable[[int, int], None] | None = None,
    check: Callable[[], object] = lambda: None,
) -> None:
    """Fill all levels of an OME-Zarr image below the full resolution, each from the one above it.

    Labels keep every second pixel, so that no value arises that nobody predicted; probabilities are means of
    2 × 2 pixels. Planes are not merged. Memory: four chunks and what becomes of them.

    Parameters
    ----------
    path : Path
        The folder, with a complete full resolution.
    spec : SinkSpec
        What it holds.
    progress : callable, optional
        Told how many strips of how many are done.
    check : callable
        Called before every chunk; breaks off by raising, and another call goes on from there.

    Raises
    ------
    JobError
        The disk is full or gone.
    """
    total = sum(1 for _ in _strips(spec))
    done = _recorded(path)
    for number, strips in itertools.groupby(itertools.islice(_strips(spec), done, None), lambda at: at[0]):
        finer, level = Level(path, spec, number - 1), Level(path, spec, number)
        recorded = time.monotonic()
        for _, strip in strips:
            for region in _chunks(strip, level):
                check()
                level.write(region, shrink(finer.read(_above(region, finer.shape)), mean=spec.classes > 0))
            done += 1
            if time.monotonic() - recorded > _SECONDS:
                _record(path, level, done)
                recorded = time.monotonic()
            if progress:
                progress(done, total)
        _record(path, level, done)


def shrink(pixels: np.ndarray, mean: bool) -> np.ndarray:
    """Return half of the rows and columns, rounded up: every second pixel, or means of 2 × 2.

    Examples
    --------
    >>> shrink(np.array([[1, 2, 3], [4, 5, 6]]), mean=False)
    array([[1, 3]])
    >>> shrink(np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), mean=True)
    array([[3. , 4.5]])
    """
    if not mean:
        return pixels[..., ::2, ::2]
    height, width = pixels.shape[-2:]
    border = [(0, 0)] * (pixels.ndim - 2) + [(0, height % 2), (0, width % 2)]
    even = np.pad(pixels, border, mode="edge") if height % 2 or width % 2 else pixels
    rows = even[..., ::2, :] + even[..., 1::2, :]
    return (rows[..., ::2] + rows[..., 1::2]) * even.dtype.type(0.25)


def _strips(spec: SinkSpec) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Yield level and region of every row of chunks, level by level."""
    for number, shape in enumerate(level_shapes(spec)):
        if number:
            steps = (*chunk_shape(spec, shape)[:-1], shape[-1])
            yield from ((number, region) for region in _grid(tuple(slice(0, size) for size in shape), steps))


def _chunks(strip: tuple[slice, ...], level: Level) -> Iterator[tuple[slice, ...]]:
    return _grid(strip, level.chunks)


def _grid(region: tuple[slice, ...], steps: tuple[int, ...]) -> Iterator[tuple[slice, ...]]:
    return itertools.product(
        *(
            [slice(start, min(start + step, part.stop)) for start in range(part.start, part.stop, step)]
            for part, step in zip(region, steps, strict=True)
        )
    )


def _above(region: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the part of the finer level that a region is made of."""
    *outer, rows, columns = region
    inner = (
        slice(2 * part.start, min(2 * part.stop, size))
        for part, size in zip((rows, columns), shape[-2:], strict=True)
    )
    return (*outer, *inner)


def _record(path: Path, level: Level, done: int) -> None:
    level.flush()  # what is recorded must be there after a power cut
    with told_of_disk(path):
        write_atomic(path / RECORD, str(done))


def _recorded(path: Path) -> int:
    record = path / RECORD
    return int(record.read_text()) if record.exists() else 0
