"""Controls: the buttons Pause, Stop and keep, Discard and Resume of one job, with what they have to ask."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app.confirm import Confirm, build_confirm
from app.jobview import JobView
from app.services import Services
from app.session import Problem, attempt
from app.views import mark_html
from segcore.errors import JobError
from segcore.events import Request
from segcore.jobs.store import Job, Kind, State

CSS = Path(__file__).with_name("controls.css")
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
NAMES: dict[Kind, str] = {"train": "training", "predict": "segmentation"}
SAID: dict[Kind, dict[Request, str]] = {
    "train": {
        Request.PAUSE: "Pausing: it saves where it stands, then the device is free. Resume goes on there.",
        Request.STOP: "Stopping: the best model so far is kept, and the results are being completed.",
        Request.DISCARD: "Discarding: the run ends, and its model, checkpoints and previews are deleted.",
    },
    "predict": {
        Request.PAUSE: "Pausing: what is done stays, then the device is free. Resume goes on there.",
        Request.STOP: "Stopping; nothing is kept of this segmentation.",
        Request.DISCARD: "Discarding: the segmentation ends, and nothing is kept of it.",
    },
}
EVALUATION: dict[Request, str] = SAID["predict"] | {
    Request.PAUSE: "Pausing: the device is made free. Resume begins it anew.",
    Request.STOP: "Stopping; nothing is kept of this evaluation.",
    Request.DISCARD: "Discarding: the evaluation ends, and nothing is kept of it.",
}
RESUMED = "Resuming: it goes on as soon as a device is free."


@dataclass(frozen=True)
class Controls:
    """The components.

    `said` acknowledges the last click until the job has obeyed; `trouble` keeps what stood in the way of it
    until the next one.
    """

    resume: gr.Button
    pause: gr.Button
    stop: gr.Button
    discard: gr.Button
    said: gr.HTML
    trouble: gr.HTML
    stopping: Confirm
    discarding: Confirm

    @property
    def shown(self) -> list[gr.blocks.Block]:
        """What `updates` updates."""
        boxes = [self.stopping.box, self.discarding.box]
        return [self.resume, self.pause, self.stop, self.discard, self.said, *boxes]


def build(kind: Kind, name: str = "") -> Controls:
    """Build the buttons in the current layout, all hidden.

    Parameters
    ----------
    kind : {"train", "predict"}
        What they act on; half a segmentation is not worth keeping, so there is no Stop and keep for it.
    name : str
        Ends the elements' ids, as in `pause-training`; by default the word for the kind.
    """
    name = name or NAMES[kind]
    with gr.Row(elem_classes="acts"):
        resume, pause, stop, discard = (
            gr.Button(
                label, size="sm", visible=False, scale=0, min_width=90, elem_id=f"{word}-{name}",
                elem_classes=["act", f"act-{word}"],
            )
            for word, label in (
                ("resume", "Resume"), ("pause", "Pause"), ("stop", "Stop and keep"), ("discard", "Discard"),
            )
        )  # fmt: skip
    stopping = build_confirm("Stop and keep", f"stop-{name}")
    discarding = build_confirm("Discard", f"discard-{name}")
    said = gr.HTML(elem_id=f"said-{name}", elem_classes="when-said")
    trouble = gr.HTML(elem_id=f"trouble-{name}", elem_classes="when-said")
    return Controls(resume, pause, stop, discard, said, trouble, stopping, discarding)


def wire(
    services: Services,
    controls: Controls,
    run: gr.Textbox,
    message: gr.HTML,
    after: dict[str, Any] | None = None,
) -> None:
    """Connect the buttons.

    Parameters
    ----------
    services : Services
        The door to the engine.
    controls : Controls
        The components.
    run : gr.Textbox
        Holds the id of the job.
    message : gr.HTML
        A click clears what it said before.
    after : dict, optional
        The event that follows a click, so that the rest of the view need not wait for its timer.
    """
    control = services.control

    def do(trigger: Callable[..., Any], act: Callable[[str], Job], text: str) -> None:
        # First in the page itself, so that it answers at once however long the server takes.
        at_once = json.dumps(_note(text))
        trigger(None, None, controls.said, js=f"() => {at_once}", **QUIET)
        done = trigger(
            lambda identity: act_on(services, act, identity), run,
            [*controls.shown, controls.trouble, message], concurrency_limit=8, **QUIET,
        )  # fmt: skip
        if after is not None:
            done.then(**after)

    do(controls.pause.click, control.pause, "Pausing …")
    do(controls.stopping.yes.click, control.stop, SAID["train"][Request.STOP])
    do(controls.discarding.yes.click, control.discard, "Discarding …")
    do(controls.resume.click, control.resume, RESUMED)
    controls.stopping.ask(controls.stop, lambda identity: stop_question(services.job(identity)), [run])
    controls.discarding.ask(
        controls.discard, lambda identity: discard_question(services.job(identity)), [run]
    )
    hide: dict[str, Any] = {"fn": lambda: gr.Column(visible=False), **QUIET}
    controls.stop.click(outputs=controls.discarding.box, **hide)
    controls.discard.click(outputs=controls.stopping.box, **hide)
    # A question about one run must not be answered for the next.
    run.change(
        lambda: (gr.Column(visible=False), gr.Column(visible=False), ""),
        outputs=[controls.stopping.box, controls.discarding.box, controls.trouble],
        trigger_mode="multiple", **QUIET,
    )  # fmt: skip


def updates(view: JobView | None) -> list[Any]:
    """Return updates of `Controls.shown` for a job, or for none."""
    if view is None:
        return [*(gr.Button(visible=False),) * 4, "", *(gr.Column(visible=False),) * 2]
    stops, discards, request = can_stop(view), can_discard(view), view.request
    words = EVALUATION if view.evaluates else SAID[view.kind]
    said = words[request] if request else ""
    if not said and view.state is State.QUEUED and has_checkpoint(view):
        said = RESUMED
    return [
        gr.Button(visible=can_resume(view)),
        gr.Button(visible=not view.state.ended and request is None),
        gr.Button(visible=stops),
        gr.Button(visible=discards),
        _note(said) if said else "",
        gr.skip() if stops else gr.Column(visible=False),
        gr.skip() if discards else gr.Column(visible=False),
    ]


def can_stop(view: JobView) -> bool:
    """Say whether there is, or may be, something that a stop keeps."""
    begun = view.state is State.RUNNING or (not view.state.final and has_checkpoint(view))
    # Who has asked for a pause may still decide to end it.
    return view.kind == "train" and begun and view.request in (None, Request.PAUSE)


def can_discard(view: JobView) -> bool:
    """Say whether there is something to throw away: a run that is not finished."""
    return view.state not in (State.FINISHED, State.DISCARDED) and view.request is not Request.DISCARD


def can_resume(view: JobView) -> bool:
    """Say whether the job can go on from where it was."""
    if view.state in (State.PAUSED, State.INTERRUPTED):
        return True
    return view.state in (State.FAILED, State.CANCELLED) and has_checkpoint(view)


def has_checkpoint(view: JobView) -> bool:
    """Say whether a training has saved where it stands."""
    return (view.folder / "checkpoints" / "last.pt").is_file()


def stop_question(view: JobView) -> str:
    """Return what a stop costs; JobError if there is nothing to stop."""
    if view.state.final:
        raise JobError(f"The run is already {view.state}.", "")
    if view.best is None:
        return "Stop now? No epoch has ended yet: the model kept will hardly have learned anything."
    done = f"epoch {view.best.epoch}, {view.best.score_text}"
    return f"Stop now? The epochs still to come are lost; the best model so far is kept ({done})."


def discard_question(view: JobView) -> str:
    """Return what a discard throws away; JobError if that cannot be done."""
    if view.state in (State.FINISHED, State.DISCARDED):
        raise JobError(f"The run is {view.state}.", "The tab Files can delete its folder.")
    if view.state is State.QUEUED and view.started is None:
        return f"Discard this {view.noun}? It only waits: nothing is lost."
    if view.kind == "predict":
        return f"Discard this {view.noun}? What it has computed so far is lost; images and model stay."
    best = f" (best {view.best.score_text})" if view.best else ""
    return (
        f"Discard this run? Its model{best}, checkpoints and previews are deleted for good; options, log and "
        "curves stay."
    )


def act_on(services: Services, act: Callable[[str], Job], identity: str) -> list[Any]:
    """Do something with a job; return updates of `Controls.shown`, what stands in the way, and ""."""
    done = attempt(lambda: act(identity))
    view = attempt(lambda: services.job(identity))
    text = mark_html("error", done.message, done.remedy) if isinstance(done, Problem) else ""
    return [*updates(None if isinstance(view, Problem) else view), text, ""]


def _note(text: str) -> str:
    return f'<div role="status">{mark_html("info", text)}</div>'
