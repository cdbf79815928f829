"""What an evaluation found slice by slice, as it lies in its run folder.

Torch-free, so that the page can read it::

    comparison/slices.csv       the scores of every slice that counted, in the order of scoring
    comparison/index.json       the slices that have a picture, the worst first
    comparison/slice-000012.png predicted and annotated class of the pixels, of a large slice every n-th
"""

from __future__ import annotations

import bisect
import csv
import math
import secrets
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from segcore.config import DataConfig
from segcore.files import atomic_path, write_atomic
from segcore.jobs.job import COMPARISON, UNFINISHED

UNANNOTATED = 255
"""Value of both classes where a pixel did not count."""
LONGEST_SIDE = 1024
"""Rows and columns of a picture at most: it is made for the page."""
MOST_PICTURES = 100
"""So many of the worst slices have a picture: a set may have 100,000."""
TABLE = "slices.csv"
_INDEX = "index.json"


class ScoredSlice(BaseModel):
    """Scores of one slice.

    Parameters
    ----------
    index : int
        Its number among all slices of the images, from 0.
    name : str
        What a person calls it.
    mean_dice : float
        Mean over the classes that are there; nan if nothing counted.
    dice, iou : dict
        By label value; a class that is neither annotated nor predicted is left out.
    f1 : float or None
        F1 of the objects at an IoU of 0.5, where they are told apart; nan where there are none.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    index: int
    name: str
    mean_dice: float
    dice: dict[str, float]
    iou: dict[str, float]
    f1: float | None = None


class Comparison(BaseModel):
    """What the page shows of an evaluation.

    Parameters
    ----------
    data : DataConfig
        The images as they were read.
    class_values : tuple of int
        Label value of every class index.
    worst : tuple of ScoredSlice
        Those that have a picture, the worst first.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="constants")

    data: DataConfig
    class_values: tuple[int, ...]
    worst: tuple[ScoredSlice, ...]


class ComparisonWriter:
    """Writes the folder, slice by slice, in a place of its own; once complete, it replaces what was there.

    A process that was believed dead thus never spoils what the one that took over the job writes.

    Parameters
    ----------
    run : Path
        The run folder.
    class_values : sequence of int
        Label value of every class index.
    objects : bool
        Whether objects are told apart.
    """

    def __init__(self, run: Path, class_values: Sequence[int], objects: bool = False) -> None:
        self._target = run / COMPARISON
        self._folder = run / f"{UNFINISHED}{secrets.token_hex(4)}"
        self._values, self._objects = tuple(class_values), objects
        self._worst: list[ScoredSlice] = []
        self._folder.mkdir(parents=True)
        self._table: IO[str] = (self._folder / TABLE).open("w", encoding="utf-8", newline="")
        self._rows = csv.writer(self._table)
        values = [str(value) for value in self._values]
        columns = [f"{score} {value}" for score in ("dice", "iou") for value in values]
        self._rows.writerow(["slice", "name", "mean dice", *columns, *(["f1 of objects"] if objects else [])])

    def add(self, scored: ScoredSlice, shown_2YX: NDArray[np.uint8]) -> None:
        """Take a slice with its predicted and its annotated classes, as many pixels as `thin_step` leaves."""
        cells = [_cell(by, value) for by in (scored.dice, scored.iou) for value in self._values]
        cells += [scored.f1] if self._objects else []
        self._rows.writerow([scored.index, scored.name, scored.mean_dice, *cells])
        bisect.insort(self._worst, scored, key=_badness)
        # Of 256 classes the last would look as what nobody annotated: there are no pictures then.
        shows = len(self._values) <= UNANNOTATED
        if shows and (len(self._worst) <= MOST_PICTURES or self._worst[-1] is not scored):
            _write_picture(_picture(self._folder, scored.index), shown_2YX)
        for left in self._worst[MOST_PICTURES:]:
            _picture(self._folder, left.index).unlink(missing_ok=True)
        del self._worst[MOST_PICTURES:]

    def close(self, data: DataConfig) -> None:
        """Complete the folder: the images were read as `data` says."""
        self._table.close()
        found = Comparison(data=data, class_values=self._values, worst=tuple(self._worst))
        write_atomic(self._folder / _INDEX, found.model_dump_json(indent=1))
        shutil.rmtree(self._target, ignore_errors=True)
        self._folder.replace(self._target)

    def give_up(self) -> None:
        """Leave nothing of it behind."""
        self._table.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def read_comparison(run: Path) -> Comparison | None:
    """Return what an evaluation found, or None where that is not there or cannot be read."""
    try:
        return Comparison.model_validate_json((run / COMPARISON / _INDEX).read_bytes())
    except (OSError, ValidationError):
        return None


def read_picture(run: Path, index: int) -> NDArray[np.uint8] | None:
    """Return predicted and annotated classes of a slice, `(2, Y, X)`, or None where there is no picture."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(_picture(run / COMPARISON, index)) as picture:
            return np.moveaxis(np.asarray(picture.convert("LA")), -1, 0)
    except (OSError, UnidentifiedImageError):
        return None


def thin_step(height: int, width: int) -> int:
    """Return which n-th row and column of a slice its picture has.

    Examples
    --------
    >>> thin_step(512, 1024), thin_step(100, 1025)
    (1, 2)
    """
    return max(1, math.ceil(max(height, width) / LONGEST_SIDE))


def _picture(folder: Path, index: int) -> Path:
    return folder / f"slice-{index:06d}.png"


def _write_picture(path: Path, shown_2YX: NDArray[np.uint8]) -> None:
    from PIL import Image

    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(np.moveaxis(shown_2YX, 0, -1)), "LA").save(temporary, "PNG")


def _badness(scored: ScoredSlice) -> tuple[float, int]:
    score = scored.mean_dice if scored.f1 is None else scored.f1
    return (math.inf if math.isnan(score) else score, scored.index)


def _cell(scores: Mapping[str, float], value: int) -> Any:
    return scores.get(str(value), "")
