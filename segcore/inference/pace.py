"""How far a segmentation is: blocks of an image, images of a folder; breaks off when asked to."""

from __future__ import annotations

import time
from collections.abc import Callable

from segcore.events import Progress, Reporter, Request


class Stopped(Exception):
    """Somebody asked the job to stop; `request` says for what."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.request = request


class Pace:
    """Counts blocks and images and reports progress with the time left.

    Parameters
    ----------
    images : int
        Images in all; with more than one, they are what is counted.
    report : Reporter
        Told of progress.
    asked : callable
        Asked before every group of blocks what somebody wants.
    """

    def __init__(self, images: int, report: Reporter, asked: Callable[[], Request | None]) -> None:
        self.images = images
        self._report = report
        self._asked = asked
        self._image = 0
        self._total, self._unit = 1, "slice"
        self._done = self._new = 0
        self._began = time.monotonic()

    def check(self) -> None:
        """Go on, or raise.

        Raises
        ------
        Stopped
            Somebody asked for it.
        """
        if request := self._asked():
            raise Stopped(request)

    def asks(self) -> bool:
        """Say whether somebody wants the job to end."""
        return self._asked() is not None

    def reading(self, done: int, total: int) -> None:
        """Tell how far the grey values of an image are read, before it is segmented, or raise.

        Raises
        ------
        Stopped
            Somebody asked for it.
        """
        self.check()
        if self.images == 1 and total > 1:
            if done == 1:
                self._began = time.monotonic()
            self._tell_of("reading grey values", done, total, "part", done - 1)

    def image_begun(self, blocks: int, done: int, unit: str) -> None:
        """Take note of an image of so many blocks, some of which were done before."""
        self._total, self._done, self._unit = blocks, done, unit
        if self.images == 1:
            self._new, self._began = 0, time.monotonic()

    def blocks_done(self, blocks: int) -> None:
        """Take note of blocks that have been predicted."""
        self._done += blocks
        if self.images == 1:
            self._new += blocks
            self._tell(self._done, self._total, self._unit)

    def finishing(self, done: int, total: int) -> None:
        """Tell how far the pyramid of the result is."""
        self._report(Progress(stage="finishing", done=done, total=total, unit="part", seconds_left=None))

    def image_done(self, before: bool = False) -> None:
        """Take note of an image that is finished, or cannot be, perhaps `before` this process began."""
        self._image += 1
        self._new += not before
        if self.images > 1 and not before:
            self._tell(self._image, self.images, "image")

    def _tell(self, done: int, total: int, unit: str) -> None:
        self._tell_of("segmenting", done, total, unit, self._new)

    def _tell_of(self, stage: str, done: int, total: int, unit: str, new: int) -> None:
        """Report progress; `new` of the `done` were done since the clock was set."""
        left = (time.monotonic() - self._began) / new * (total - done) if new else None
        self._report(Progress(stage=stage, done=done, total=total, unit=unit, seconds_left=left))
