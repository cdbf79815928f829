"""Queue panel: what runs where, what waits in which order, what is paused; and the buttons to change it."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app import controls, watch
from app.control import KINDS
from app.jobview import JobView
from app.services import Services
from app.session import Problem, attempt
from app.views import duration_text, mark_html
from segcore.jobs.store import Job, Kind, State

HERE = Path(__file__).parent
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
TICK_SECONDS = 2
MOST_HELD = 8
"""So many paused and interrupted jobs are listed; the table of runs has all."""
EMPTY = "Nothing runs and nothing waits."
LINES: dict[Kind, str] = {"train": "Waiting trainings", "predict": "Waiting segmentations"}


@dataclass(frozen=True)
class QueuePanel:
    """The components; `known` changes whenever the panel shows something new."""

    lines: gr.HTML
    message: gr.HTML
    timer: gr.Timer
    known: gr.State


def build(services: Services) -> QueuePanel:
    """Build the panel in the current layout and connect it; it refreshes itself from the first `start` on."""
    css, script = ((HERE / f"queue_panel.{suffix}").read_text("utf-8") for suffix in ("css", "js"))
    lines = gr.HTML(
        {"groups": [], "empty": EMPTY, "stamp": 0},
        html_template='<div class="queue"></div>', css_template=css, js_on_load=script,
        apply_default_css=False, elem_id="queue",
    )  # fmt: skip
    panel = QueuePanel(
        lines,
        gr.HTML(elem_id="queue-message", elem_classes="when-said"),
        gr.Timer(TICK_SECONDS, active=False),
        gr.State(""),
    )
    panel.timer.tick(
        lambda known: read(services, known), panel.known, [lines, panel.known], concurrency_limit=8, **QUIET
    )

    def clicked(event: gr.EventData) -> tuple[Any, ...]:
        text = act(services, str(event.id), str(event.action))
        return (*read(services, ""), text)

    lines.apply(clicked, outputs=[lines, panel.known, panel.message], concurrency_limit=8, **QUIET)
    return panel


def start(services: Services) -> tuple[Any, ...]:
    """Return updates of lines, signature and timer of the panel: it is looked at from now on."""
    return (*read(services, ""), gr.Timer(active=True))


def read(services: Services, known: str) -> tuple[Any, Any]:
    """Return updates of the lines and their signature; none if nothing changed since `known`."""
    groups = attempt(lambda: groups_of(services))
    if isinstance(groups, Problem):
        return gr.skip(), gr.skip()
    now = hashlib.sha256(json.dumps(groups).encode()).hexdigest()[:16]
    if now == known:
        return gr.skip(), gr.skip()
    # The stamp makes every answer a new one, so that the page drops what it said meanwhile.
    return {"groups": groups, "empty": EMPTY, "stamp": time.time()}, now


def groups_of(services: Services) -> list[dict[str, Any]]:
    """Return what the panel lists: jobs at work, each line that is not empty, paused and interrupted ones."""
    control = services.control
    groups: list[tuple[str, list[dict[str, Any] | None]]] = [
        ("At work", [_at_work(services, job) for job in control.running()])
    ]
    for kind in KINDS:
        waiting = control.waiting(kind)
        places = enumerate(waiting, start=1)
        groups.append((LINES[kind], [_in_line(services, job, place, len(waiting)) for place, job in places]))
    held = control.held()
    rest = f" (the last {MOST_HELD} of {len(held)})" if len(held) > MOST_HELD else ""
    groups.append(("Paused or interrupted" + rest, [_held(services, job) for job in held[:MOST_HELD]]))
    shown = ((title, [job for job in jobs if job]) for title, jobs in groups)
    return [{"title": title, "jobs": jobs} for title, jobs in shown if jobs]


def act(services: Services, identity: str, action: str) -> str:
    """Do what a button says and return what stands in the way, or ""."""
    control = services.control
    actions = {
        "pause": lambda: control.pause(identity),
        "stop": lambda: control.stop(identity),
        "discard": lambda: control.discard(identity),
        "resume": lambda: control.resume(identity),
        "drop": lambda: control.drop(identity),
        "first": lambda: control.move(identity, 1),
        "up": lambda: control.shift(identity, -1),
        "down": lambda: control.shift(identity, 1),
    }
    done = attempt(actions[action]) if action in actions else Problem(f"There is no action {action!r}.")
    return mark_html("error", done.message, done.remedy) if isinstance(done, Problem) else ""


def _at_work(services: Services, job: Job) -> dict[str, Any] | None:
    view = _view(services, job)
    if view is None or view.state is not State.RUNNING:
        return None
    parts = [watch.headline(view), place_text(job)]
    if view.seconds_left is not None and view.request is None:
        parts.insert(1, f"{duration_text(view.seconds_left)} left")
    actions = []
    if view.request is None:
        actions.append(_action("pause", "Pause", said="Pausing …"))
    if controls.can_stop(view):
        actions.append(_stop(view))
    if controls.can_discard(view):
        actions.append(_discard(view))
    return _entry(job, " · ".join(filter(None, parts)), actions, watch.fraction_done(view))


def _in_line(services: Services, job: Job, place: int, count: int) -> dict[str, Any]:
    first, last = place == 1, place == count
    actions = [
        _action("first", "⤒", aria="Make it the first", off=first),
        _action("up", "↑", aria="Move up", off=first),
        _action("down", "↓", aria="Move down", off=last),
        _action("pause", "Pause", said="Pausing …"),
    ]
    view = _view(services, job) if job.attempts else None
    if view is None:
        lost = "It only waits: nothing is lost."
        actions.append(_action("drop", "Drop", "discard", f"Take it out of the line? {lost}", "Dropping …"))
    else:
        actions += [*([_stop(view)] if controls.can_stop(view) else []), _discard(view)]
    where = "next in line" if first else f"place {place}"
    return _entry(job, " · ".join(filter(None, [where, task_text(job)])), actions)


def _held(services: Services, job: Job) -> dict[str, Any] | None:
    view = _view(services, job)
    if view is None or view.state not in (State.PAUSED, State.INTERRUPTED):
        return None
    actions = [_action("resume", "Resume", said="Resuming …")]
    if controls.can_stop(view):
        actions.append(_stop(view))
    actions.append(_discard(view))
    why = view.message if view.state is State.INTERRUPTED else ""
    return _entry(job, " · ".join(filter(None, [watch.headline(view), why])), actions)


def _view(services: Services, job: Job) -> JobView | None:
    """Return all about a job; None if it is gone since it was listed."""
    view = attempt(lambda: services.job(job.id))
    return view if isinstance(view, JobView) else None


def _entry(
    job: Job, text: str, actions: list[dict[str, Any]], fraction: float | None = None
) -> dict[str, Any]:
    name = f"{job.noun.capitalize()} {job.session}"
    return {"id": job.id, "name": name, "text": text, "fraction": fraction, "actions": actions}


def _stop(view: JobView) -> dict[str, Any]:
    return _action("stop", "Stop and keep", ask=controls.stop_question(view), said="Stopping …")


def _discard(view: JobView) -> dict[str, Any]:
    return _action("discard", "Discard", ask=controls.discard_question(view), said="Discarding …")


def _action(
    name: str, label: str, icon: str = "", ask: str = "", said: str = "Moving …", aria: str = "",
    off: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Return a button: one with words has an icon, one with a sign has words for those who do not see it."""
    shape = icon or ("" if aria else name)
    return {
        "name": name, "label": label, "icon": shape, "ask": ask, "said": said, "aria": aria, "off": off
    }  # fmt: skip


def place_text(job: Job) -> str:
    """Return where a job runs: `cuda:0 of gpu-server`."""
    return " of ".join(filter(None, [job.device, job.host]))


def task_text(job: Job) -> str:
    """Return what a job that waits is going to do, in a few words."""
    config = attempt(lambda: job.config)
    if isinstance(config, Problem):
        return ""
    images = (config.data.images or "").rpartition("/")[2]
    again = job.resumption if job.attempts else ""
    epochs = f"{config.training.epochs} epochs" if job.kind == "train" else ""
    return ", ".join(filter(None, [epochs, f"on {images}" if images else "", again]))
