"""Notice: the title of the browser's tab tells where the watched job stands; a toast tells its end once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from app import watch
from app.jobview import JobView
from app.services import Services
from app.session import attempt
from segcore.jobs.store import State

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
SIGNS = {
    State.FINISHED: "✓",
    State.CANCELLED: "■",
    State.FAILED: "✗",
    State.INTERRUPTED: "⚠",
    State.PAUSED: "‖",
    State.DISCARDED: "–",
}
# The end stays in the title until somebody is there to see it: the page gets the focus, or is used.
SHOW = """(text) => {
  const { running, ended, name } = JSON.parse(text);
  const page = document.documentElement;
  const show = () => {
    const said = page.dataset.ended || page.dataset.running;
    document.title = said ? `${said} – ${name}` : name;
  };
  page.dataset.running = running;
  if (ended) {
    page.dataset.ended = ended;
    const seen = () => {
      for (const kind of ['focus', 'pointerdown', 'keydown']) window.removeEventListener(kind, seen, true);
      page.dataset.ended = '';
      show();
    };
    for (const kind of ['focus', 'pointerdown', 'keydown']) window.addEventListener(kind, seen, true);
  }
  show();
}"""


@dataclass(frozen=True)
class Notice:
    """What is to be told now.

    Parameters
    ----------
    running : str
        Where the watched jobs stand, in the fewest words; "" if none is at work.
    ended : str
        How one has just ended, in the fewest words; "" if none has.
    toasts : tuple of (bool, str)
        Sentences to show once, with True where something is wrong.
    """

    running: str = ""
    ended: str = ""
    toasts: tuple[tuple[bool, str], ...] = ()


def build(services: Services, runs: Sequence[gr.Textbox], timer: gr.Timer, title: str) -> None:
    """Watch the jobs whose ids stand in `runs` for this page, with every tick of `timer`."""
    # What this page has seen of them; in the page, so that a restart of the server forgets nothing.
    known = gr.Textbox("{}", visible="hidden")
    shown = gr.Textbox("", visible="hidden")

    def look(before: str, *identities: str) -> tuple[str, str]:
        notice, after = news(services, before, identities)
        for bad, text in notice.toasts:
            (gr.Warning if bad else gr.Info)(escape(text), duration=0 if bad else 10)
        return after, json.dumps({"running": notice.running, "ended": notice.ended, "name": title})

    # A slow server is not asked again before it has answered: it would tell the same end again.
    for triggers, mode in (([timer.tick], "once"), ([run.change for run in runs], "multiple")):
        gr.on(
            triggers, look, [known, *runs], [known, shown], trigger_mode=mode, concurrency_limit=16, **QUIET
        ).then(None, shown, None, js=SHOW, **QUIET)


def news(services: Services, before: str, identities: Sequence[str]) -> tuple[Notice, str]:
    """Compare jobs with what the page has seen of them.

    Parameters
    ----------
    services : Services
        The door to the run folders.
    before : str
        What this returned the last time, `{}` at first: JSON, `{id: [state, number of resumes]}`.
    identities : sequence of str
        The jobs the page shows; "" for none.

    Returns
    -------
    notice : Notice
        What to tell.
    after : str
        What has been seen now. A job that has ended before it was first seen is no news.
    """
    seen = _parse(before)
    after, running, ended, toasts = {}, "", "", []
    for view in _views(services, identities):
        state, resumes = seen.get(view.id, (None, 0))
        after[view.id] = [view.state.value, len(view.resumes)]
        if not view.state.ended:
            running = running or running_text(view)
            # It was interrupted and put in line again between two looks.
            if state is State.RUNNING and len(view.resumes) > resumes:
                toasts.append((True, f"The {_name(view)} was interrupted; it goes on from its checkpoint."))
        elif state is not None and state is not view.state and not state.final:
            ended = ended_text(view)
            toasts.append((view.state in (State.FAILED, State.INTERRUPTED), sentence(view)))
    return Notice(running, ended, tuple(toasts)), json.dumps(after)


def running_text(view: JobView) -> str:
    """Return where a job stands in the fewest words: `epoch 12/100`, `40 %`, `waiting`.

    The progress of a training is told by its epochs; of a segmentation, as a share.
    """
    if view.state is State.QUEUED:
        return "waiting"
    progress = view.progress
    if view.kind == "train":
        if progress is None or not progress.epochs:
            return "starting"
        return f"epoch {min(progress.epoch, progress.epochs)}/{progress.epochs}"
    share = watch.fraction_done(view)
    return f"{100 * share:.0f} %" if share is not None else "starting"


def ended_text(view: JobView) -> str:
    """Return how a job ended in the fewest words: `✓ Dice 0.83`, `✗ failed`."""
    sign = SIGNS[view.state]
    if view.state in (State.FINISHED, State.CANCELLED) and view.kind == "train" and view.best:
        return f"{sign} {view.best.score_name} {view.best.val_score:.2f}"
    done = "evaluated" if view.evaluates else "segmented"
    words = {State.FINISHED: done, State.CANCELLED: "stopped"}
    return f"{sign} {words.get(view.state, view.state.value)}"


def sentence(view: JobView) -> str:
    """Return how a job ended in a sentence, with what it had to say."""
    text = f"The {_name(view)} {watch.headline(view)}"
    if view.best and view.state is not State.DISCARDED:
        text += f": best {view.best.score_text}"
    # The headline of these says it already.
    said = view.state in (State.PAUSED, State.DISCARDED)
    return " ".join(filter(None, [f"{text}.", *(() if said else (view.message, view.remedy))]))


def _name(view: JobView) -> str:
    return f"{view.noun} {view.session}"


def _views(services: Services, identities: Sequence[str]) -> Iterator[JobView]:
    for identity in filter(None, identities):
        view = attempt(partial(services.job, identity))
        if isinstance(view, JobView):
            yield view


def _parse(text: str) -> dict[str, tuple[State, int]]:
    try:
        return {one: (State(state), int(resumes)) for one, (state, resumes) in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError):
        return {}
