"""Console: shows a job's events on stderr, as a progress bar on a terminal and as plain lines elsewhere."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TextIO

from tqdm import tqdm

from segcore.events import EpochEvent, Event, NoteEvent, Progress, StageEvent
from segcore.jobs.journal import EventTail, read_progress

TENTHS = 10
"""A bar that is not drawn says a line for every tenth of a segmentation."""


class Console:
    """A reporter for people.

    Parameters
    ----------
    stream : text stream, optional
        By default stderr; stdout belongs to results.
    bar : bool, optional
        Draw a bar; by default if the stream is a terminal.
    """

    def __init__(self, stream: TextIO | None = None, bar: bool | None = None) -> None:
        self.stream = stream or sys.stderr
        drawn = self.stream.isatty() if bar is None else bar
        self._bar = (
            tqdm(
                total=100,
                file=self.stream,
                leave=False,
                bar_format="{desc} {percentage:3.0f} % {bar} {postfix}",
            )
            if drawn
            else None
        )
        self._left: float | None = None
        self._tenth = 0

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if isinstance(event, Progress):
            self._left = event.seconds_left
            self._show_progress(event)
        elif isinstance(event, EpochEvent):
            self.say(describe_epoch(event, self._left))
        elif isinstance(event, StageEvent):
            self._tenth = 0
            self.say(f"{event.text} …")
        elif isinstance(event, NoteEvent):
            self.say(" ".join(filter(None, [f"{event.level}:", event.text, event.remedy])))

    def say(self, text: str) -> None:
        """Write a line, above the bar if there is one."""
        if self._bar is None:
            self.stream.write(f"{text}\n")
            self.stream.flush()
        else:
            self._bar.write(text, file=self.stream)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def _show_progress(self, progress: Progress) -> None:
        share = overall(progress)
        if self._bar is not None:
            name = f"epoch {progress.epoch}/{progress.epochs}" if progress.epochs else progress.stage
            self._bar.set_description_str(name, refresh=False)
            self._bar.set_postfix_str(_left(progress.seconds_left), refresh=False)
            self._bar.n = round(100 * share, 1)
            self._bar.refresh()
        elif not progress.epochs and int(share * TENTHS) > self._tenth:
            self._tenth = int(share * TENTHS)
            parts = [
                f"{progress.stage}: {progress.unit} {progress.done}/{progress.total}",
                _left(progress.seconds_left),
            ]
            self.say(", ".join(filter(None, parts)))


class FolderWatch:
    """Passes the events of a run folder to a console, as the job's process writes them."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.console = console
        self._tail = EventTail(folder)
        self._seen: Progress | None = None

    def __call__(self) -> None:
        """Pass on what is new."""
        news = self._tail.new()
        progress = read_progress(self.folder)
        if progress is not None and progress != self._seen:
            self._seen = progress
            news.append(progress)
        for event in sorted(news, key=lambda event: event.time):
            self.console(event)


def overall(progress: Progress) -> float:
    """Return the share of the whole job that is done, 0 to 1."""
    within = progress.done / progress.total if progress.total else 0.0
    return min(1.0, (progress.epoch - 1 + within) / progress.epochs if progress.epochs else within)


def _known(score: float) -> str:
    """Return a score and a space, "" where there is none."""
    return "" if math.isnan(score) else f"{score:.3f} "


def describe_epoch(event: EpochEvent, seconds_left: float | None) -> str:
    """Return one line about an epoch."""
    parts = [
        f"epoch {event.epoch}/{event.epochs}",
        f"loss {event.train_loss:.3f} (validation {event.val_loss:.3f})",
        f"Dice {_known(event.train_dice)}(validation {event.val_dice:.3f}{', best' if event.best else ''})",
        "" if event.val_f1 is None else f"F1 of objects {event.val_f1:.3f}",
        f"{event.patches_per_second:.0f} patches/s",
        _left(seconds_left),
    ]
    return ", ".join(filter(None, parts))


def describe_seconds(seconds: float) -> str:
    """Return a duration for people: `45 s`, `3 min 10 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _left(seconds: float | None) -> str:
    return f"{describe_seconds(seconds)} left" if seconds is not None and seconds >= 0.5 else ""
