"""CheckpointStore: the kept epochs of a run; look at what they predict, make one the model, register one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.glance_process import GlanceProcess
from app.registry import Registry
from segcore.addresses import is_url, split_address
from segcore.card import ModelCard
from segcore.data.collection import Collection, extents, open_collection
from segcore.data.colouring import coloured
from segcore.data.items import list_items
from segcore.data.split_file import load_split
from segcore.data.splits import split_images
from segcore.data.targets import LabelRule, encode_plane, number_plane
from segcore.errors import JobError, ModelError
from segcore.events import EpochEvent
from segcore.jobs.epochs import KeptEpoch, find_epoch, kept_epochs, use_epoch
from segcore.jobs.journal import read_history
from segcore.jobs.store import Job, find_job
from segcore.workspace import Workspace

if TYPE_CHECKING:
    from segcore.tracking.registry import ModelVersion

LONGEST_SIDE = 1024
"""Of a larger slice the middle part of this side is looked at, px: a glance must stay a matter of seconds."""
MOST_FILES = 200
MOST_BYTES = 50_000_000
"""How much is kept of what was looked at, per run; the oldest goes first."""


@dataclass(frozen=True)
class Slices:
    """How many slices there are, and which of them the training validated on, counted from 0."""

    count: int
    validation: tuple[int, ...]

    def role(self, plane: int) -> str:
        """Return in words whether the network learned from a slice."""
        if self.count == 1:
            return "slice with training and validation rows"
        return "validation slice" if plane in self.validation else "training slice: the network has seen it"


@dataclass(frozen=True)
class Glance:
    """What an epoch makes of a part of a slice.

    Parameters
    ----------
    epoch, plane : int
        The epoch, from 1, and the slice, from 0.
    name : str
        What the slice is called.
    image_CYX : array
        Grey values as in the file.
    label_YX : array or None
        Annotated class indices, or where objects are told apart, `coloured` objects; None without an
        annotation.
    prediction_YX : array or None
        The same as predicted; None until it is there.
    card : ModelCard
        Of the model: its classes.
    part : str
        Which part of the slice it is; "" for all of it.
    role : str
        Whether the training learned from the slice.
    waited : float
        Seconds since the prediction was asked for.
    starting : bool
        The process that predicts is still starting.
    """

    epoch: int
    plane: int
    name: str
    image_CYX: NDArray[np.generic]
    label_YX: NDArray[np.int16] | None
    prediction_YX: NDArray[np.generic] | None
    card: ModelCard
    part: str
    role: str
    waited: float = 0.0
    starting: bool = False

    @property
    def differing_YX(self) -> NDArray[np.bool_] | None:
        """Where prediction and annotation differ; None while one of them is missing."""
        if self.label_YX is None or self.prediction_YX is None:
            return None
        found_YX, right_YX = self.prediction_YX, self.label_YX
        if self.card.head is not None:  # colours say nothing: those of two pictures need not agree
            found_YX, right_YX = found_YX.astype(bool), np.minimum(right_YX, 1)
        return (right_YX >= 0) & (found_YX != right_YX)


class CheckpointStore:
    """What the page may ask about kept epochs.

    Parameters
    ----------
    workspace : Workspace
        The folder the app serves.
    registry : Registry
        Where epochs are registered.
    history : callable
        Returns the epochs that the run in a folder has reported.
    """

    def __init__(
        self,
        workspace: Workspace,
        registry: Registry,
        history: Callable[[Path], Sequence[EpochEvent]] = read_history,
    ) -> None:
        self.workspace = workspace
        self._registry = registry
        self._history = history
        self._process = GlanceProcess(workspace.state / "glances")

    def epochs(self, run: str) -> list[KeptEpoch]:
        """Return the kept epochs of a run, ascending."""
        job = self._training(run)
        return kept_epochs(job.folder, self._history(job.folder))

    def slices(self, run: str) -> Slices:
        """Return the slices of the run's images.

        Raises
        ------
        DataError
            The images are gone, or lie outside the workspace.
        """
        job = self._training(run)
        return _slices(job, self._material(job))

    def use(self, run: str, epoch: int) -> KeptEpoch:
        """Make a kept epoch the model of the run; the one before it is kept."""
        return use_epoch(self._training(run).folder, epoch)

    def register(self, run: str, epoch: int, name: str) -> ModelVersion:
        """Register a kept epoch under a name."""
        return self._registry.register(self._training(run), name, epoch)

    def glance(self, run: str, epoch: int, plane: int) -> Iterator[Glance]:
        """Yield a glance without prediction until the prediction is there, then with it.

        Raises
        ------
        SegcoreError
            The epoch was not kept, its images are gone, or it cannot be applied to them.
        """
        job = self._training(run)
        kept = find_epoch(job.folder, epoch, self._history(job.folder))
        card = job.card
        if card is None:
            raise ModelError(f"The run {run} has no model yet.", "Wait for its first epoch.")
        images = self._material(job)
        plane = min(max(plane, 0), images.count - 1)
        height, width = images.size(plane)
        rows, columns = middle(height), middle(width)
        label_YX = None
        if images.data.labels:
            number, inside = images.locate(plane)
            rule = LabelRule.of(job.config.data)
            window = slice(*rows), slice(*columns)
            if card.head is None:
                label_YX = encode_plane(images, number, inside, card.class_values, rule, *window)
            else:
                label_YX = coloured(number_plane(images, number, inside, rule, *window))
        empty = Glance(
            epoch,
            plane,
            images.name(plane),
            images.window(plane, slice(*rows), slice(*columns)),
            label_YX,
            None,
            card,
            part_text(height, width),
            _slices(job, images).role(plane),
        )
        out = job.folder / "previews" / "glances" / f"epoch-{epoch:04d}-slice-{plane:04d}.png"
        for waited, starting in self._predict(job, kept, images, out, (plane, rows, columns)):
            yield replace(empty, waited=waited, starting=starting)
        with Image.open(out) as picture:
            prediction_YX = np.asarray(picture)
        yield replace(empty, prediction_YX=prediction_YX)

    def close(self) -> None:
        """End the process that predicts."""
        self._process.close()

    def _predict(
        self,
        job: Job,
        kept: KeptEpoch,
        images: Collection,
        out: Path,
        part: tuple[int, tuple[int, int], tuple[int, int]],
    ) -> Iterator[tuple[float, bool]]:
        """Make `out`, unless it is there and younger than what it is made from."""
        number, _ = images.locate(part[0])
        sources = (kept.weights, images.open(number).images.source.path)
        with suppress(OSError):  # not there yet; missing weights are the process's to report
            if all(out.stat().st_mtime_ns > path.stat().st_mtime_ns for path in sources):
                return
        starting = not self._process.warm
        request = {
            "weights": str(kept.weights),
            "config": str(job.folder / "config.json"),
            "data": images.data.model_dump(mode="json"),
            "plane": part[0],
            "rows": part[1],
            "columns": part[2],
            "out": str(out),
        }
        for waited in self._process.ask(request):
            yield waited, starting
        _prune(out.parent)

    def _training(self, run: str) -> Job:
        job = find_job(self.workspace, run)
        if job.kind != "train":
            raise JobError(f"{run} is a segmentation, not a training.", "Choose a training.")
        return job

    def _material(self, job: Job) -> Collection:
        """Open the data as the training read them, without labels that are gone.

        A path outside the workspace is refused.
        """
        data = job.config.data.with_addresses(self.workspace.address)
        there = data.labels and all(_exists(item.labels) for item in list_items(data).items)
        if not there:
            data = data.model_copy(update={"labels": None, "mask": None, "sets": []})
        return open_collection(data, labelled=bool(there))


def _exists(address: str) -> bool:
    return is_url(address) or Path(split_address(address)[0]).exists()


def middle(size: int) -> tuple[int, int]:
    """Return start and end of the part of an axis that is looked at, px.

    Examples
    --------
    >>> middle(512), middle(4096)
    ((0, 512), (1536, 2560))
    """
    start = max(0, (size - LONGEST_SIDE) // 2)
    return start, start + min(size, LONGEST_SIDE)


def part_text(height: int, width: int) -> str:
    """Return which part of a slice is looked at, "" for all of it."""
    if max(height, width) <= LONGEST_SIDE:
        return ""
    rows, columns = min(height, LONGEST_SIDE), min(width, LONGEST_SIDE)
    return f"the middle {rows} × {columns} of {height} × {width} px"


def _slices(job: Job, images: Collection) -> Slices:
    split = load_split(job.folder, images) or split_images(extents(images), job.config.data)
    chosen = {
        images.position(region.item, plane) for region in split.validation for plane in range(*region.planes)
    }
    return Slices(images.count, tuple(sorted(chosen)))


def _prune(folder: Path) -> None:
    """Delete the oldest glances beyond the limits."""
    found = []
    for path in folder.glob("epoch-*.png"):
        with suppress(OSError):
            stat = path.stat()
            found.append((stat.st_mtime_ns, stat.st_size, path))
    total = 0
    for number, (_, size, path) in enumerate(sorted(found, reverse=True)):
        total += size
        if number and (number >= MOST_FILES or total > MOST_BYTES):
            with suppress(OSError):
                os.unlink(path)
