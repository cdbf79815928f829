"""History: what a run has told of itself, read from its folder once and then only what is new."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segcore.events import EpochEvent, Event, InterventionEvent, NoteEvent, ResumeEvent, StageEvent
from segcore.jobs.journal import EventTail

LONGEST_ANCHOR = 128
"""Bytes before the place of reading that must still be the same, or the file is another one."""


@dataclass(frozen=True)
class Record:
    """What the events of a run say, as it counts now.

    Parameters
    ----------
    epochs : tuple of EpochEvent
        Ascending; each counts once, as last reported, and none that a resumed run has undone.
    notes : tuple of NoteEvent
        What the run had to say.
    interventions : tuple of InterventionEvent
        What the autopilot changed.
    resumes : tuple of ResumeEvent
        Where the run went on from a checkpoint.
    stage : str
        What it does at the moment, in the user's words.
    whole : bool
        False if the file could not be read.
    """

    epochs: tuple[EpochEvent, ...] = ()
    notes: tuple[NoteEvent, ...] = ()
    interventions: tuple[InterventionEvent, ...] = ()
    resumes: tuple[ResumeEvent, ...] = ()
    stage: str = ""
    whole: bool = True

    @property
    def missing(self) -> list[int]:
        """Epochs between the first and the last of which no line can be read."""
        return missing_epochs(self.epochs)


def missing_epochs(epochs: Sequence[EpochEvent]) -> list[int]:
    """Return the numbers that are left out between the first and the last epoch."""
    if not epochs:
        return []
    there = {event.epoch for event in epochs}
    return [number for number in range(epochs[0].epoch, epochs[-1].epoch) if number not in there]


class History:
    """Keeps the records of the runs that were looked at last; safe to use from many threads.

    Parameters
    ----------
    runs : int
        How many runs are kept at most; one that was dropped is simply read again.
    """

    def __init__(self, runs: int = 64) -> None:
        self._runs = runs
        self._readers: OrderedDict[Path, _Reader] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, folder: Path) -> Record:
        """Return what the run in `folder` has told so far; a damaged line is missing, nothing is raised."""
        with self._lock:
            reader = self._readers.setdefault(folder, _Reader(folder))
            self._readers.move_to_end(folder)
            while len(self._readers) > self._runs:
                self._readers.popitem(last=False)
        return reader.read()


class _Reader:
    """One run: how far its events are read, and what they amount to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._tail = EventTail(self._folder)
        self._seen: tuple[int, int, int] | None = None
        self._inode = 0
        self._anchor = b""
        self._epochs: dict[int, EpochEvent] = {}
        self._interventions: dict[int, InterventionEvent] = {}
        self._notes: list[NoteEvent] = []
        self._resumes: list[ResumeEvent] = []
        self._stage = ""
        self._record = Record()

    def read(self) -> Record:
        with self._lock:
            try:
                status = self._tail.path.stat()
                seen = (status.st_ino, status.st_size, status.st_mtime_ns)
                if seen != self._seen:
                    if not self._is_continued(status.st_ino, status.st_size):
                        self._begin()
                    self._take(self._tail.new())
                    self._inode, self._seen = status.st_ino, seen
                    self._anchor = self._before(self._tail.offset)
            except OSError:
                self._seen = None
                return Record(whole=False)
            return self._record

    def _is_continued(self, inode: int, size: int) -> bool:
        """Say whether the file is the one read so far, only longer."""
        if self._seen is None:
            return False
        same = inode == self._inode and size >= self._tail.offset
        return same and self._before(self._tail.offset) == self._anchor

    def _before(self, offset: int) -> bytes:
        with self._tail.path.open("rb") as stream:
            start = max(0, offset - LONGEST_ANCHOR)
            stream.seek(start)
            return stream.read(offset - start)

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, EpochEvent):
                self._epochs[event.epoch] = event
            elif isinstance(event, ResumeEvent):
                self._go_back(event)
            elif isinstance(event, InterventionEvent):
                self._interventions[event.number] = event
            elif isinstance(event, NoteEvent):
                self._notes.append(event)
            elif isinstance(event, StageEvent):
                self._stage = event.text
        self._record = Record(
            epochs=tuple(self._epochs[number] for number in sorted(self._epochs)),
            notes=tuple(self._notes),
            interventions=tuple(self._interventions[number] for number in sorted(self._interventions)),
            resumes=tuple(self._resumes),
            stage=self._stage,
        )

    def _go_back(self, event: ResumeEvent) -> None:
        """Forget what happened after the checkpoint: it is done again."""
        self._resumes.append(event)
        self._epochs = {number: one for number, one in self._epochs.items() if number <= event.epoch}
        self._interventions = {
            number: one for number, one in self._interventions.items() if one.epoch <= event.epoch
        }
