"""The comparison of a trial in step 3: what each family makes of a part of a slice, and its numbers."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from app import views
from app.film import Look
from app.runbook import WORDS
from app.services import Services
from app.session import Problem, attempt
from segcore.jobs.trials import Tried

SECONDS = 5.0
MOST_BESIDE = 4
"""Pictures in a row: of more, nobody sees any."""
LOOK = Look(opacity=0.5, outline=True)
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
HEAD = ("Family", "State", "Best val. score", "Parameters", "Seconds per megapixel", "Size of the model")


@dataclass(frozen=True)
class Panel:
    """The components.

    Parameters
    ----------
    view : gr.HTML
        Pictures and table, empty for a run that belongs to no trial.
    known : gr.Textbox
        What of the trial is shown; as long as it stays, nothing is sent.
    timer : gr.Timer
        Keeps it true while a family is under way.
    """

    view: gr.HTML
    known: gr.Textbox
    timer: gr.Timer

    @property
    def shown(self) -> list[gr.blocks.Block]:
        """What `show` updates."""
        return [self.view, self.known, self.timer]


def build() -> Panel:
    """Build the panel in the current layout."""
    view = gr.HTML(elem_id="trial")
    known = gr.Textbox("", visible="hidden", elem_id="trial-known")
    return Panel(view, known, gr.Timer(SECONDS, active=False))


def wire(services: Services, panel: Panel, run: gr.Textbox) -> None:
    """Keep the comparison true; `run` holds the id of the run that step 3 shows."""
    showing: dict[str, Any] = {
        "fn": lambda *values: show(services, *values), "inputs": [run, panel.known],
        "outputs": panel.shown, "concurrency_limit": 8, **QUIET,
    }  # fmt: skip
    run.change(**showing, trigger_mode="multiple")
    panel.timer.tick(**showing)


def show(services: Services, run: str, known: str = "") -> list[Any]:
    """Return updates of `Panel.shown` for a run, or for none."""
    rows = attempt(lambda: services.trial(run)) if run else ()
    if isinstance(rows, Problem) or not rows:
        return ["", "", gr.Timer(active=False)]
    now = signature(rows, run)
    timer = gr.Timer(active=not all(row.state.final for row in rows))
    if now == known:
        return [gr.skip(), gr.skip(), timer]
    return [trial_html(services, rows, run), now, timer]


def signature(rows: Sequence[Tried], run: str) -> str:
    """Return a text that changes whenever there is more to show."""
    return "|".join([run, *(f"{row.id}:{row.state}:{row.best_epoch}:{row.model_bytes}" for row in rows)])


def trial_html(services: Services, rows: Sequence[Tried], run: str) -> str:
    """Return the families of a trial side by side, the pictures in the order of the trainings."""
    figures = [_figure(services, row, row.id == run) for row in rows]
    frames = "".join(
        f'<div class="picture-frame">{"".join(figures[at : at + MOST_BESIDE])}</div>'
        for at in range(0, len(figures), MOST_BESIDE)
    )
    ended = sum(row.state.final for row in rows)
    head = f"{len(rows)} families tried for equal minutes, {ended} ended"
    note = '<p class="subdued">White lines are the annotation. The best epoch of each is shown.</p>'
    ranked = sorted(rows, key=lambda row: -1.0 if row.score is None else row.score, reverse=True)
    table = views.table_html(HEAD, [cells(row) for row in ranked])
    failed = "".join(views.mark_html("error", f"{row.title}: {row.message}") for row in rows if row.message)
    return (
        f'<section aria-label="Families side by side"><h3>{head}</h3>{frames}{note}{table}{failed}</section>'
    )


def cells(row: Tried) -> tuple[str, ...]:
    """Return a line of the table, see `HEAD`; a dash for what nobody knows yet."""
    return (
        row.title,
        WORDS[row.state],
        "–" if row.score is None else f"{row.measure} {row.score:.3f}",
        "–" if row.parameters is None else views.count_text(row.parameters),
        "–" if row.seconds_per_megapixel is None else f"{row.seconds_per_megapixel:.3g}",
        "–" if row.model_bytes is None else views.bytes_text(row.model_bytes),
    )


def _figure(services: Services, row: Tried, here: bool) -> str:
    """Return the picture of a family's best epoch with its name, which leads to its run."""
    title, score = escape(row.title), "" if row.score is None else f" · {row.measure} {row.score:.3f}"
    name = f"<strong>{title}</strong>" if here else f'<a href="?run={escape(row.id)}">{title}</a>'
    epoch = row.best_epoch
    png = attempt(lambda: services.feedback.still(row.id, epoch or 0, LOOK)) if epoch else None
    if not isinstance(png, bytes):
        return f"<figure><figcaption>{name}: {WORDS[row.state]}</figcaption></figure>"
    uri = "data:image/png;base64," + base64.b64encode(png).decode()
    picture = f'<img src="{uri}" alt="What {title} predicts">'
    return f"<figure>{picture}<figcaption>{name}{score}</figcaption></figure>"
