"""RunBook: the trainings of a workspace as tables; ended ones are read once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from app.jobview import JobView
from app.services import Services
from app.views import count_text, duration_text
from app.watch import position, waiting_text
from segcore.config import SECTIONS, RunConfig
from segcore.config.secret import shown_address
from segcore.errors import SegcoreError
from segcore.events import Request
from segcore.jobs.store import State

HEADER = ("Run", "Session", "Status", "Epoch", "Best score", "Duration", "Started", "Parameters", "Options")
WORDS = {
    State.QUEUED: "waiting",
    State.RUNNING: "running",
    State.FINISHED: "finished",
    State.FAILED: "failed",
    State.CANCELLED: "stopped",
    State.INTERRUPTED: "interrupted",
    State.PAUSED: "paused",
    State.DISCARDED: "discarded",
}
SIGNS = {
    State.QUEUED: "…",
    State.RUNNING: "▶",
    State.FINISHED: "✓",
    State.FAILED: "✗",
    State.CANCELLED: "■",
    State.INTERRUPTED: "⚠",
    State.PAUSED: "‖",
    State.DISCARDED: "–",
}
ASKED = {Request.PAUSE: "pausing", Request.STOP: "stopping", Request.DISCARD: "discarding"}


class RunBook:
    """Reads the trainings for the page.

    Parameters
    ----------
    services : Services
        The door to the run folders.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._ended: dict[tuple[str, int], JobView] = {}
        self._lock = threading.Lock()

    def runs(self, discarded: bool = True) -> list[JobView]:
        """Return all trainings, newest first, discarded ones too or not.

        An ended one is read again only if its `job.json` changed.
        """
        views = []
        kept: dict[tuple[str, int], JobView] = {}
        for job in self._services.jobs("train"):
            try:
                key = (job.id, (job.folder / "job.json").stat().st_mtime_ns)
                with self._lock:
                    view = self._ended.get(key)
                view = view or self._services.job(job.id)
            except (SegcoreError, OSError):
                continue  # deleted since it was listed
            if view.state.ended:
                kept[key] = view
            views.append(view)
        with self._lock:
            self._ended = kept
        return [view for view in views if discarded or view.state is not State.DISCARDED]

    def find(self, identities: Sequence[str]) -> list[JobView]:
        """Return these runs in the order of the table; unknown ones are left out."""
        return [view for view in self.runs() if view.id in identities]


def row(view: JobView) -> list[str]:
    """Return a line of the table of runs, see `HEADER`."""
    best = view.best
    epochs = f"{view.last.epoch}/{view.last.epochs}" if view.last else f"0/{view.config.training.epochs}"
    return [
        view.id,
        view.session,
        status_text(view),
        epochs,
        best.score_text if best else "–",
        duration_text(view.elapsed) if view.elapsed is not None else "–",
        moment_text(view.started or view.created),
        count_text(view.card.parameters) if view.card and view.card.parameters else "–",
        options_text(view.config),
    ]


def status_text(view: JobView) -> str:
    """Return the state as a sign and words."""
    words = WORDS[view.state]
    if view.state is State.QUEUED:
        words = waiting_text(view.place, "training")
    elif view.state is State.RUNNING:
        words = ASKED[view.request] if view.request else position(view) or view.stage or words
    return f"{SIGNS[view.state]} {words}"


def options_text(config: RunConfig) -> str:
    """Return the options that people compare first."""
    return (
        f"patch {config.data.patch_size}, {config.model.text}, "
        f"batch {config.training.batch_size}, rate {config.training.learning_rate:g}"
    )


def signature(views: Sequence[JobView]) -> str:
    """Return a text that changes when the table or the curves would; cheap to compare."""
    return "|".join(
        f"{view.id} {view.state} {view.request} {len(view.history)} {view.place}" for view in views
    )


def differing(views: Sequence[JobView]) -> list[list[str]]:
    """Return `[option, value in the first run, …]` for every option in which the runs differ."""
    flat = [_flat(view.config) for view in views]
    return [
        [name, *(_text(options[name]) for options in flat)]
        for name in (flat[0] if flat else {})
        if len({_text(options[name]) for options in flat}) > 1
    ]


def options_rows(config: RunConfig) -> list[tuple[str, str]]:
    """Return all options of a run with their values; a star marks those that differ from the default."""
    default = _flat(RunConfig(session=config.session))
    return [
        (name, _text(value) + ("" if value == default[name] else " *"))
        for name, value in _flat(config).items()
    ]


def moment_text(seconds: float) -> str:
    """Return a point in time as people write it, in the server's time zone."""
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%d %H:%M}"


def _flat(config: RunConfig) -> dict[str, Any]:
    values: dict[str, Any] = {"session": config.session}
    for section in SECTIONS:
        part = getattr(config, section)
        values |= {f"{section}.{name}": getattr(part, name) for name in type(part).model_fields}
    webhook = config.notify.webhook
    return values | {"notify.webhook": shown_address(webhook) if webhook else None}


def _text(value: Any) -> str:
    if value is None or value == []:
        return "–"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str) and value.startswith("/"):
        return "/".join(Path(value).parts[-2:])  # the folder too: files of two data sets often share a name
    return str(value)
