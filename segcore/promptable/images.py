"""All objects of images: every slice by prompts on a grid, written as stacks of labels; goes on where it was.

What is done is kept in the folder of the results until all is written::

    .slices/key.json        which network, how it was asked, and about which images
    .slices/3/00012.png     numbers of objects of slice 12 of image 3
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from segcore.data.collection import Collection, reading
from segcore.events import Progress, Reporter
from segcore.files import sha256_of_all, write_atomic
from segcore.promptable.everything import find_everything
from segcore.promptable.kept import keep_numbers, kept_numbers
from segcore.promptable.promptable import Everything, Promptable
from segcore.promptable.stack import Numbering, numbering, stack_names, write_stack

FOLDER = ".slices"


def find_in_images(
    collection: Collection,
    network: Promptable,
    options: Everything,
    output: Path,
    report: Reporter = lambda event: None,
) -> tuple[tuple[Path, ...], Numbering]:
    """Find all objects of images and write them as stacks of labels; return these and how they are numbered.

    Parameters
    ----------
    collection : Collection
        The images.
    network : Promptable
        What finds objects.
    options : Everything
        How they are found.
    output : Path
        The folder of the results; made if missing. Stacks that are there already are replaced.
    report : callable
        Told of the progress.

    Raises
    ------
    DataError
        A slice cannot be read, or has too many objects.
    OSError
        The disk is full, or the like.
    """
    names = stack_names(collection)
    parts = output / FOLDER
    _begin(parts, collection, f"{network.key} {json.dumps(asdict(options))}")
    places = [collection.locate(index) for index in range(collection.count)]
    missing = [(number, plane) for number, plane in places if not _part(parts, number, plane).is_file()]
    clock = _Clock(report, options.side**2, len(missing))
    for at, (number, plane) in enumerate(missing):
        embedding = network.embed(collection.open(number).images.read(plane))
        found = find_everything(network, embedding, options, partial(clock, at))
        keep_numbers(_part(parts, number, plane), found.labels)
    slices = [partial(_read, parts, number) for number in range(len(names))]
    how = numbering([(entry.planes, read) for entry, read in zip(collection.entries, slices, strict=True)])
    for number, name in enumerate(names):
        write_stack(output / name, collection.open(number).images, slices[number], how)
    shutil.rmtree(parts)
    return tuple(output / name for name in names), how


def _part(parts: Path, number: int, plane: int) -> Path:
    return parts / str(number) / f"{plane:05d}.png"


def _read(parts: Path, number: int, plane: int) -> np.ndarray | None:
    return kept_numbers(_part(parts, number, plane))


def _begin(parts: Path, collection: Collection, asked: str) -> None:
    """Keep what is done already if it was asked in the same way about the same images; else begin anew."""
    files = sha256_of_all([address for entry in collection.entries for address in entry.item.images])
    reads = reading(collection.data, collection.entries[0].item)
    digest = hashlib.sha256(f"{asked} {files} {reads}".encode())
    key = parts / "key.json"
    if not (key.is_file() and key.read_text() == json.dumps(digest.hexdigest())):
        shutil.rmtree(parts, ignore_errors=True)
        write_atomic(key, json.dumps(digest.hexdigest()))


class _Clock:
    """Tells how many prompts were answered, and how long the rest will take at this pace."""

    def __init__(self, report: Reporter, prompts: int, slices: int) -> None:
        self._report, self._prompts, self._total = report, prompts, prompts * slices
        self._began = time.monotonic()

    def __call__(self, slices: int, asked: int, prompts: int) -> None:
        done = slices * self._prompts + asked
        left = (time.monotonic() - self._began) / done * (self._total - done)
        self._report(
            Progress(stage="finding objects", done=done, total=self._total, unit="prompt", seconds_left=left)
        )
