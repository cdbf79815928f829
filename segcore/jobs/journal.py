"""The journal of a job: what it has written of itself (events, progress, results, log), and the writer."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import ValidationError

from segcore.events import EpochEvent, Event, Progress, ResumeEvent, parse_event
from segcore.files import write_atomic
from segcore.jobs.store import Job


def read_events(folder: Path) -> Iterator[Event]:
    """Yield the job's events in order; a last line that is still being written is left out.

    A folder that is being deleted, or was put together by hand, has none: it may not keep others from being
    read.
    """
    try:
        return iter(EventTail(folder).new())
    except FileNotFoundError:
        return iter(())


class EventTail:
    """Reads the events of a job as they come: every call of `new` returns those since the call before.

    Parameters
    ----------
    folder : Path
        The run folder.
    offset : int
        Where to begin, in bytes; afterwards it stands behind the last whole line that was read.
    """

    def __init__(self, folder: Path, offset: int = 0) -> None:
        self.path = folder / "events.jsonl"
        self.offset = offset

    def new(self) -> list[Event]:
        """Return the events since the last call; a line still being written comes with the next.

        A line that a killed process left unfinished, and another went on with, is passed over.
        """
        events = []
        with self.path.open("rb") as stream:
            stream.seek(self.offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    break
                self.offset += len(line)
                with suppress(ValidationError):
                    events.append(parse_event(line))
        return events


def read_history(folder: Path) -> list[EpochEvent]:
    """Return the epochs so far.

    Epochs after the checkpoint from which a run went on are done again: they count once, as last reported.
    """
    epochs: dict[int, EpochEvent] = {}
    for event in read_events(folder):
        if isinstance(event, EpochEvent):
            epochs[event.epoch] = event
        elif isinstance(event, ResumeEvent):
            epochs = {number: epoch for number, epoch in epochs.items() if number <= event.epoch}
    return [epochs[number] for number in sorted(epochs)]


def read_progress(folder: Path) -> Progress | None:
    """Return where the job stands, or None before it began."""
    try:
        return Progress.model_validate_json((folder / "progress.json").read_bytes())
    except (OSError, ValidationError):
        return None


def read_results(job: Job) -> dict[str, Any]:
    """Return what the job left: metadata.json of a segmentation, else results.json; empty before its end."""
    name = "metadata.json" if job.noun == "segmentation" else "results.json"
    try:
        content = json.loads((job.folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def read_log(folder: Path, lines: int = 50) -> str:
    """Return the last lines of the log, none if there is no log; reads at most the last 64 KiB."""
    try:
        with (folder / "log.txt").open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - 65536))
            content = stream.read()
    except FileNotFoundError:
        return ""
    return "\n".join(content.decode("utf-8", "replace").splitlines()[-lines:])


class FolderReporter:
    """Writes events into the run folder: history is appended, progress replaced at most twice a second."""

    def __init__(self, folder: Path, interval: float = 0.5) -> None:
        self.folder = folder
        self.interval = interval
        self._last = 0.0

    def __call__(self, event: Event) -> None:
        """Write one event."""
        if isinstance(event, Progress):
            now = time.monotonic()
            if now - self._last >= self.interval or event.done >= event.total:
                self._last = now
                write_atomic(self.folder / "progress.json", event.model_dump_json())
            return
        line = event.model_dump_json().encode() + b"\n"
        with (self.folder / "events.jsonl").open("a+b") as stream:
            # A process killed in mid-write left a line without an end, which may not swallow this one.
            stream.write(line if _ends_a_line(stream) else b"\n" + line)


def _ends_a_line(stream: BinaryIO) -> bool:
    if not stream.seek(0, os.SEEK_END):
        return True
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) == b"\n"
