"""Where results go: files that any process fills block by block, and that appear when they are whole."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from segcore.errors import JobError
from segcore.files import sync_file, sync_folder
from segcore.inference.pyramid import RECORD, build_pyramid
from segcore.inference.sink_spec import Sink, SinkSpec, damaged, told_of_disk
from segcore.inference.tiff_sink import PlainSink, create_plain, plain_bytes
from segcore.inference.tiled_tiff import TiledSink, create_tiled, tiled_bytes
from segcore.inference.zarr_layout import create_zarr, zarr_bytes
from segcore.inference.zarr_sink import ZarrSink, remove_partial, replace_folder

__all__ = [
    "Sink",
    "SinkSpec",
    "check_space",
    "create_sink",
    "finish_sink",
    "reopen_sink",
    "required_bytes",
    "result_bytes",
]

LABELS_SHRINK = 4
"""Times that compressed labels are smaller, to be on the safe side."""
LARGE_PLANE = 4096**2
"""Pixels of a plane above which a TIFF has tiles: rows would be scattered over too much of the file."""


def create_sink(path: Path, spec: SinkSpec) -> Sink:
    """Begin a result: make its work file and take the disk space, where the disk can promise it.

    Parameters
    ----------
    path : Path
        The work file, or folder for OME-Zarr; what lies there is replaced. It survives a killed process.
    spec : SinkSpec
        What it will hold.

    Raises
    ------
    JobError
        The disk is full.
    """
    fresh = path.with_name(f"{path.name}.new")  # so that a work file with half its tags is never met
    with told_of_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove(fresh)
        try:
            _format(spec).create(fresh, spec)
            remove(path)
            os.replace(fresh, path)
        except BaseException:
            remove(fresh)
            raise
        sync_folder(path.parent)
    return reopen_sink(path, spec)


def reopen_sink(path: Path, spec: SinkSpec) -> Sink:
    """Go on writing to what `create_sink` made, in this or another process.

    Raises
    ------
    JobError
        It is missing or cut off.
    """
    return _format(spec).open(path, spec)


def finish_sink(
    path: Path,
    spec: SinkSpec,
    target: Path,
    progress: Callable[[int, int], None] | None = None,
    check: Callable[[], object] = lambda: None,
) -> None:
    """Make the work file the result, in one step; nothing happens if that has been done already.

    Parameters
    ----------
    path : Path
        The work file; all sinks that wrote to it are closed.
    spec : SinkSpec
        What it holds.
    target : Path
        The result's place; what lies there is replaced.
    progress : callable, optional
        Told how many of how many pieces of the pyramid are done (OME-Zarr).
    check : callable
        Called between pieces of the pyramid; breaks off by raising, and another call goes on from there.

    Raises
    ------
    JobError
        The disk is full or gone; the work file stays.
    """
    if not path.exists() and not target.exists():
        raise damaged(path)
    with told_of_disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            build_pyramid(path, spec, progress, check)
            remove_partial(path)
            replace_folder(path, target)
        elif path.exists():
            sync_file(path)
            os.replace(path, target)
        if target.is_dir():
            (target / RECORD).unlink(missing_ok=True)  # only now: a move that fails costs no second pyramid
        sync_folder(target.parent)


def result_bytes(spec: SinkSpec) -> int:
    """Return the disk space that a result takes at most."""
    return _format(spec).bytes(spec)


def required_bytes(spec: SinkSpec) -> int:
    """Return the disk space that must be free to begin; less than `result_bytes` where that is compressed.

    Label images shrink to a tenth and less; a disk that gets full all the same loses nothing of what is done.
    """
    compressed = spec.format == "ome-zarr" and not spec.classes
    return result_bytes(spec) // (LABELS_SHRINK if compressed else 1)


def remove(path: Path) -> None:
    """Remove a work file or folder, if there is one."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Format:
    create: Callable[[Path, SinkSpec], None]
    open: Callable[[Path, SinkSpec], Sink]
    bytes: Callable[[SinkSpec], int]


_FORMATS = {
    "tiff": _Format(create_plain, PlainSink, plain_bytes),
    "tiled": _Format(create_tiled, TiledSink, tiled_bytes),
    "ome-zarr": _Format(create_zarr, ZarrSink, zarr_bytes),
}


def _format(spec: SinkSpec) -> _Format:
    tiled = spec.format == "tiff" and math.prod(spec.shape[-2:]) > LARGE_PLANE
    return _FORMATS["tiled" if tiled else spec.format]


def check_space(folder: Path, needed: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises
    ------
    JobError
        Fewer than `needed` bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise JobError(
            f"The result needs {_gigabytes(needed)}, but only {_gigabytes(free)} are free in {folder}.",
            "Free some disk space, or leave out the probabilities.",
        )


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
