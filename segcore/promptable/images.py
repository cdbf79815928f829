"""All objects of images: every slice by prompts on a grid, written as stacks of labels; goes on where it was.

What is done is kept in the folder of the results until all is written::

    .slices/key.json        which network, how it was asked, and about which images
    .slices/3/00012.png     numbers of objects of slice 12 of image 3
    .slices/3/00012.cut     how many of them may be cut; only if any is
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
from segcore.events import NoteEvent, Progress, Reporter
from segcore.files import sha256_of_all, write_atomic
from segcore.postprocess.stitch import Stitcher
from segcore.promptable.everything import find_everything
from segcore.promptable.kept import keep_numbers, kept_numbers
from segcore.promptable.promptable import Everything, Promptable
from segcore.promptable.stack import Numbering, numbering, stack_names, write_stack
from segcore.tiling import Tile, tile_grid

FOLDER = ".slices"
CUT = ".cut"


def find_in_images(
    collection: Collection,
    network: Promptable,
    options: Everything,
    output: Path,
    tile: int = 0,
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
    tile : int
        Larger slices are looked at in overlapping pieces of so many rows and columns, px; 0: whole. Of
        objects longer than a quarter of it parts may be missing, which is told.
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
    _begin(parts, collection, f"{network.key} {json.dumps(asdict(options))} {tile}")
    places = [collection.locate(index) for index in range(collection.count)]
    missing = [(number, plane) for number, plane in places if not _part(parts, number, plane).is_file()]
    pieces = [_tiles(entry.height, entry.width, tile) for entry in collection.entries]
    clock = _Clock(report, options.side**2 * sum(len(pieces[number]) for number, _ in missing))
    for number, plane in missing:
        images = collection.open(number).images
        labels_YX = np.zeros((images.height, images.width), np.int32)
        stitcher = Stitcher(labels_YX)
        for piece in pieces[number]:
            embedding = network.embed(images.window(plane, *piece.read))
            stitcher.add(piece, find_everything(network, embedding, options, clock).labels)
            clock.next(options.side**2)
        part = _part(parts, number, plane)
        if stitcher.cut:
            write_atomic(part.with_suffix(CUT), str(stitcher.cut))
        keep_numbers(part, labels_YX)
    if cut := sum(int(path.read_text()) for path in parts.rglob(f"*{CUT}")):
        text = f"{cut} objects reach beyond the pieces in which slices are looked at: parts may be missing."
        report(NoteEvent(level="warning", text=text, remedy="Choose larger pieces."))
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


def _tiles(height: int, width: int, tile: int) -> list[Tile]:
    """Return the pieces of a slice: one if it is no larger than a tile, or tiles are not asked for."""
    if tile == 0 or max(height, width) <= tile:
        return tile_grid((height, width), (height, width), (0, 0), (1, 1))
    # Half of what a tile sees is its own; an object in the middle of its owner is seen whole.
    return tile_grid((height, width), (tile - 2 * (tile // 4),) * 2, (tile // 4,) * 2, (1, 1))


class _Clock:
    """Tells how many prompts were answered, and how long the rest will take at this pace."""

    def __init__(self, report: Reporter, total: int) -> None:
        self._report, self._total, self._before = report, total, 0
        self._began = time.monotonic()

    def next(self, prompts: int) -> None:
        """Note that a piece is done."""
        self._before += prompts

    def __call__(self, asked: int, prompts: int) -> None:
        """Tell how many prompts of this piece were answered."""
        done = self._before + asked
        left = (time.monotonic() - self._began) / done * (self._total - done)
        self._report(
            Progress(stage="finding objects", done=done, total=self._total, unit="prompt", seconds_left=left)
        )
