"""MaskStore: objects that a person accepted on slices, kept in the workspace, and labels made of them."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePath

import numpy as np
from filelock import FileLock

from segcore.addresses import is_url, join_address, split_address
from segcore.data.collection import Collection
from segcore.errors import DataError
from segcore.files import sha256
from segcore.promptable.kept import keep_numbers, kept_numbers
from segcore.promptable.stack import Numbering, numbering, plain_name, stack_names, write_stack
from segcore.workspace import Workspace

PLACE = "drawn"
"""Folder below `data/` of the labels that are made of accepted objects."""

Window = tuple[slice, slice]
"""Rows and columns of a slice."""
WHOLE: Window = (slice(None), slice(None))


class MaskStore:
    """The accepted objects of every slice, one PNG of numbers per slice, replaced atomically.

    They belong to an image by its place in the workspace and its size, so they are found again when it is
    chosen alone or in a folder, by another page, or after a restart.

    Parameters
    ----------
    workspace : Workspace
        The folder the app serves.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._root = workspace.state / "masks"

    def numbers(self, images: Collection, index: int) -> np.ndarray:
        """Return the numbers of the accepted objects of slice `index`, `(Y, X)` int32; 0 is none.

        Raises
        ------
        DataError
            They cannot be read.
        """
        found = kept_numbers(self._path(images, index))
        return np.zeros(images.size(index), np.int32) if found is None else found

    def worked(self, images: Collection) -> tuple[int, ...]:
        """Return the slices that have accepted objects."""
        known = set(os.listdir(self._root)) if self._root.is_dir() else set()
        found = []
        for number, entry in enumerate(images.entries):
            folder = self._folder(images, number)
            if folder.name in known:
                planes = [int(path.stem) for path in folder.glob("*.png")]
                found += [images.position(number, plane) for plane in planes if plane < entry.planes]
        return tuple(sorted(found))

    def add(self, images: Collection, index: int, mask_YX: np.ndarray, window: Window = WHOLE) -> int:
        """Accept an object in some rows and columns, as far as no other has its pixels; return its number.

        Raises
        ------
        DataError
            All of its pixels belong to others, or there are too many objects.
        """
        with self._changing(images, index) as numbers_YX:
            part_YX = numbers_YX[window]
            free_YX = mask_YX & (part_YX == 0)
            if not free_YX.any():
                raise DataError(
                    "Accepted objects have all of this mask's pixels.",
                    "Remove the object that is in the way, or click elsewhere.",
                )
            number = int(numbers_YX.max(initial=0)) + 1
            part_YX[free_YX] = number
        return number

    def add_all(self, images: Collection, index: int, found_YX: np.ndarray, window: Window = WHOLE) -> int:
        """Accept the objects of `found_YX` that are mostly on free pixels; return how many these are."""
        with self._changing(images, index) as numbers_YX:
            part_YX = numbers_YX[window]
            size = np.bincount(found_YX.ravel())
            free = np.bincount(found_YX[part_YX == 0], minlength=len(size))
            taken = (free > 0) & (2 * free >= size)
            taken[0] = False
            first = int(numbers_YX.max(initial=0))
            table = np.where(taken, np.cumsum(taken) + first, 0)
            fresh_YX = np.where(part_YX == 0, table[found_YX], 0)
            part_YX += fresh_YX.astype(np.int32)
        return int(taken.sum())

    def remove(self, images: Collection, index: int, row: int, column: int) -> bool:
        """Take away the object at a pixel; False if there is none."""
        with self._changing(images, index) as numbers_YX:
            rows, columns = numbers_YX.shape
            inside = 0 <= row < rows and 0 <= column < columns
            number = int(numbers_YX[row, column]) if inside else 0
            if number:
                numbers_YX[numbers_YX == number] = 0
        return bool(number)

    def clear(self, images: Collection, index: int) -> None:
        """Take away all objects of a slice: nobody has worked on it then."""
        with self._changing(images, index) as numbers_YX:
            numbers_YX[:] = 0

    def write_labels(self, images: Collection, source: str) -> tuple[str, Numbering]:
        """Write the accepted objects as labels into `data/drawn/`; return their workspace path and numbering.

        One image becomes a TIFF, several become a folder with one for each that was worked on.
        Labels that are there stay: trainings may read them.

        Parameters
        ----------
        images : Collection
            The images.
        source : str
            Where they are, as the page shows it: what the labels are named after.

        Raises
        ------
        DataError
            No object was accepted, or a slice cannot be read.
        """
        numbers = sorted({images.locate(index)[0] for index in self.worked(images)})
        if not numbers:
            raise DataError("No object was accepted yet.", "Click one and accept it.")
        folders = {number: self._folder(images, number) for number in numbers}
        slices = {number: partial(_slice, folder) for number, folder in folders.items()}
        how = numbering([(images.entries[number].planes, slices[number]) for number in numbers])
        name = f"{PurePath(plain_name(source.split(';')[0].strip())).name or 'images'}_labels"
        single = len(images.entries) == 1
        names = (f"{name}.tif",) if single else stack_names(images)
        place = self._workspace.data / PLACE
        with FileLock(self._root / "write.lock"):
            target = place / (f".{name}.part.tif" if single else f".{name}.part")
            _delete(target)
            for number in numbers:
                path = target if single else target / names[number]
                write_stack(path, images.open(number).images, slices[number], how)
            return self._workspace.relative(_settle(target, place / name, ".tif" if single else "")), how

    def _folder(self, images: Collection, number: int) -> Path:
        entry = images.entries[number]
        facts = [
            [self._place(address) for address in entry.item.images], entry.planes, entry.height, entry.width
        ]  # fmt: skip
        return self._root / hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]

    def _place(self, address: str) -> str:
        """Return an address that stays the same when the workspace is moved."""
        if is_url(address):
            return address
        file, name = split_address(address)
        return join_address(self._workspace.relative(file), name)

    def _path(self, images: Collection, index: int) -> Path:
        number, plane = images.locate(index)
        return self._folder(images, number) / f"{plane:05d}.png"

    @contextmanager
    def _changing(self, images: Collection, index: int) -> Iterator[np.ndarray]:
        """Yield the numbers of a slice, to be changed; then they are kept, or nothing if there are none."""
        path = self._path(images, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / ".lock"):
            numbers_YX = self.numbers(images, index)
            yield numbers_YX
            if numbers_YX.any():
                keep_numbers(path, numbers_YX)
            else:
                path.unlink(missing_ok=True)


def _slice(folder: Path, plane: int) -> np.ndarray | None:
    return kept_numbers(folder / f"{plane:05d}.png")


def _settle(made: Path, wanted: Path, ending: str) -> Path:
    """Give what was made the first free name, unless the last one taken is the same; return its place."""
    last: Path | None = None
    for count in itertools.count(1):
        place = wanted.with_name(f"{wanted.name}{f'-{count}' if count > 1 else ''}{ending}")
        if not place.exists():
            break
        last = place
    if last is not None and sha256(last) == sha256(made):
        _delete(made)
        return last
    os.replace(made, place)
    return place


def _delete(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
