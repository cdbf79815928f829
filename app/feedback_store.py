"""FeedbackStore: what a training predicted of one part of a slice, epoch by epoch, and pictures of it."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from app.film import Frame, Look, film, still
from segcore.config import DataConfig
from segcore.data.collection import open_collection
from segcore.errors import DataError, JobError
from segcore.events import EpochEvent
from segcore.jobs.feedback import Scene, Shot, Window, read_scene, shots, want, wanted
from segcore.jobs.journal import read_history
from segcore.jobs.store import Job, State, find_job
from segcore.workspace import Workspace

MOST_AT_ONCE = 100
"""Pictures handed out in one go."""
MOST_FRAMES, MOST_PIXELS = 250, 24_000_000
"""Of more epochs, evenly spread ones are in the animation, which would else be too large to send."""


@dataclass(frozen=True)
class Stack:
    """How the images of a run are read, and how many slices and px there are."""

    data: DataConfig
    planes: int
    height: int
    width: int


@dataclass(frozen=True)
class Recording:
    """All that was saved of a run, without the pictures.

    Parameters
    ----------
    run : str
        Id of the run.
    state : State
        Of the run.
    scenes : dict of str to Scene
        The parts that were watched, by the name of their folder.
    shots : list of Shot
        One per epoch, ascending; each belongs to one of the scenes.
    wanted : str or None
        The part that somebody asked for, see `segcore.jobs.feedback.wanted`.
    """

    run: str
    state: State
    scenes: dict[str, Scene]
    shots: list[Shot]
    wanted: str | None

    @property
    def pending(self) -> bool:
        """True while another part than the last one shown is asked for."""
        if self.state.final or not self.wanted or not self.shots:
            return False
        return self.scenes[self.shots[-1].folder.name].window.text != self.wanted


class FeedbackStore:
    """What the page may ask about the visual feedback of a run; everything is read from the run folder.

    Parameters
    ----------
    workspace : Workspace
        The folder the app serves.
    history : callable
        Returns the epochs that the run in a folder has reported.
    """

    def __init__(
        self, workspace: Workspace, history: Callable[[Path], Sequence[EpochEvent]] = read_history
    ) -> None:
        self.workspace = workspace
        self._history = history

    def recording(self, run: str) -> Recording:
        """Return what there is of a run; JobError if there is no such run."""
        job = self._training(run)
        reported = self._history(job.folder)
        last = reported[-1].epoch if reported else math.inf
        scenes: dict[str, Scene] = {}
        seen: list[Shot] = []
        for shot in shots(job.folder):
            name = shot.folder.name
            scene = scenes.get(name) or read_scene(shot.folder)
            # What lies beyond the last epoch is from before the run went back: it will be done again.
            if scene is not None and shot.epoch <= last:
                scenes[name] = scene
                seen.append(shot)
        return Recording(run, job.state, scenes, seen, wanted(job.folder))

    def backdrop(self, run: str, scene: str) -> dict[str, str]:
        """Return image and annotation of a scene as `data:` URIs; DataError if there is none of that name."""
        recording = self.recording(run)
        if scene not in recording.scenes:
            raise DataError("This part of the slice was not saved.", "Reload the page.")
        folder = next(shot.folder for shot in recording.shots if shot.folder.name == scene)
        return {name: _uri(folder / f"{name}.png") for name in ("image", "label")}

    def pictures(self, run: str, epochs: Sequence[int]) -> dict[str, str]:
        """Return the predictions after the given epochs as `data:` URIs, by epoch; at most 100 at a time."""
        asked = set(epochs[:MOST_AT_ONCE])
        return {str(shot.epoch): _uri(shot.path) for shot in self.recording(run).shots if shot.epoch in asked}

    def still(self, run: str, epoch: int, look: Look) -> bytes:
        """Return the prediction after one epoch over its image, as PNG.

        Raises
        ------
        JobError
            That epoch was not saved.
        """
        recording = self.recording(run)
        for shot in recording.shots:
            if shot.epoch == epoch:
                return still(_frame(recording, shot), look)
        raise JobError(f"The prediction of epoch {epoch} was not saved.", "Choose another epoch.")

    def film(self, run: str, look: Look) -> bytes:
        """Return the predictions after all epochs, of very many an even choice, as an animated GIF.

        Raises
        ------
        JobError
            No epoch was saved.
        """
        recording = self.recording(run)
        if not recording.shots:
            raise JobError("No epoch has been saved yet.", "Wait for the first one.")
        count = len(recording.shots)
        largest = max(scene.window.height * scene.window.width for scene in recording.scenes.values())
        most = min(count, MOST_FRAMES, max(2, MOST_PIXELS // largest))
        picked = np.unique(np.linspace(0, count - 1, most).round().astype(int))
        return film([_frame(recording, recording.shots[index]) for index in picked], look)

    def images(self, run: str) -> Stack:
        """Return the images a run was trained on, with the axes as the training read them.

        Raises
        ------
        DataError
            They are gone, or lie outside the workspace.
        """
        data = self._training(run).config.data.with_addresses(self.workspace.address)
        try:
            collection = open_collection(data)
        except DataError as error:
            raise DataError(
                f"The images of this run cannot be read any more. {error.message}",
                "Put them back to draw another part on them.",
            ) from error
        return Stack(data, collection.count, collection.entries[0].height, collection.entries[0].width)

    def want(self, run: str, region: str) -> str:
        """Ask a run to watch another part from its next epoch on; "" leaves the choice to it.

        Returns
        -------
        str
            The part as it will be shown.

        Raises
        ------
        JobError
            The run is over.
        DataError
            The part does not exist in its images.
        """
        job = self._training(run)
        if job.state.final:
            raise JobError(
                f"The run is {job.state}: no further epoch will be saved.", "Draw it for the next run."
            )
        window = self._fitted(run, region) if region else None
        try:
            want(job.folder, window)
        except OSError as error:
            raise JobError(
                f"The choice cannot be saved: {error.strerror}.", "Free some disk space, then try again."
            ) from error
        return window.text if window else ""

    def _fitted(self, run: str, region: str) -> Window:
        stack, window = self.images(run), Window.parse(region)
        if not 0 <= window.plane < stack.planes:
            raise DataError(f"There is no slice {window.plane}.", f"Choose one from 0 to {stack.planes - 1}.")
        return window.fitted(stack.height, stack.width)

    def _training(self, run: str) -> Job:
        job = find_job(self.workspace, run)
        if job.kind != "train":
            raise JobError(f"{run} is a segmentation, not a training.", "Choose a training.")
        return job


def _frame(recording: Recording, shot: Shot) -> Frame:
    image, label, prediction = (
        _pixels(path) for path in (shot.folder / "image.png", shot.folder / "label.png", shot.path)
    )
    return Frame(shot.epoch, image, label, prediction, len(recording.scenes[shot.folder.name].class_values))


def _pixels(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as picture:
            return np.asarray(picture)
    except OSError as error:
        raise DataError(
            f"{path.name} of the visual feedback cannot be read.", "Choose another epoch."
        ) from error


def _uri(path: Path) -> str:
    """Return a picture as a `data:` URI, "" if it is gone or being replaced."""
    try:
        return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
    except OSError:
        return ""
