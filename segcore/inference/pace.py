"""How far a segmentation is: pieces of an image, images of a folder; breaks off when asked to."""

from __future__ import annotations

import time
from collections.abc import Callable

from segcore.events import Progress, Reporter


class Stopped(Exception):
    """Somebody asked the job to stop."""


class Pace:
    """Counts planes, tiles and images and reports progress with the time left.

    Parameters
    ----------
    images : int
        Images in all; with more than one, they are what is counted.
    report : Reporter
        Told of progress.
    should_stop : callable
        Asked after every tile.
    """

    def __init__(self, images: int, report: Reporter, should_stop: Callable[[], bool]) -> None:
        self._images = images
        self._report = report
        self._should_stop = should_stop
        self._began = time.monotonic()
        self._image = 0
        self._pieces, self._piece = 1, 0
        self._planes, self._plane = 1, 0

    def image_begun(self, pieces: int, planes: int) -> None:
        """Take note of an image of so many planes that is predicted in so many pieces."""
        self._pieces, self._piece = pieces, 0
        self._planes, self._plane = planes, 0

    def tile_done(self, done: int, tiles: int) -> None:
        """Take note of a tile of the current piece.

        Raises
        ------
        Stopped
            Somebody asked for it.
        """
        if self._should_stop():
            raise Stopped
        if done == tiles:
            self._piece += 1
        elif self._images == 1:  # a piece counts when its planes are written
            self._tell(self._piece * tiles + done, self._pieces * tiles, "tile")

    def plane_done(self) -> None:
        """Take note of a plane that has been written."""
        self._plane += 1
        if self._images == 1:
            self._tell(self._plane, self._planes, "slice")

    def image_done(self) -> None:
        """Take note of an image that is finished, or cannot be."""
        self._image += 1
        if self._images > 1:
            self._tell(self._image, self._images, "image")

    def _tell(self, done: int, total: int, unit: str) -> None:
        left = (time.monotonic() - self._began) / done * (total - done)
        self._report(Progress(stage="segmenting", done=done, total=total, unit=unit, seconds_left=left))
