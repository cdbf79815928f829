"""What may come after a run: more epochs, its model trained further on other images; and its repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from app import forms
from app.follow_ups import Ways
from app.pretrained import model_label
from app.services import Services
from app.session import Problem, attempt
from app.views import mark_html
from segcore.jobs.groups import GroupSummary, Repeat
from segcore.jobs.store import State

FIELDS = forms.training_fields()
GROUP_SECONDS = 5.0
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
SCRATCH, FURTHER = "Train from scratch", "Train it further on your images"
UNDER_WAY = {
    State.QUEUED: "waits",
    State.RUNNING: "trains",
    State.PAUSED: "paused",
    State.INTERRUPTED: "interrupted",
}


@dataclass(frozen=True)
class Panel:
    """The components of step 3.

    Parameters
    ----------
    group : gr.HTML
        The repeats of the run, with mean and spread.
    timer : gr.Timer
        Keeps that true while one of them is under way.
    box : gr.Column
        What can be done after the run; the rest is inside it.
    """

    group: gr.HTML
    timer: gr.Timer
    box: gr.Column
    more: gr.Row
    epochs: gr.Number
    go_on: gr.Button
    tune: gr.Button
    message: gr.HTML

    @property
    def shown(self) -> list[gr.blocks.Block]:
        """What `show` updates."""
        return [self.group, self.timer, self.box, self.more, self.tune]


@dataclass(frozen=True)
class Chip:
    """Says in steps 1 and 2 that the next training begins with a model, and takes that back."""

    row: gr.Row
    text: gr.HTML
    remove: gr.Button


def build() -> Panel:
    """Build the panel in the current layout."""
    group = gr.HTML(elem_id="group")
    timer = gr.Timer(GROUP_SECONDS, active=False)
    with gr.Column(visible=False, elem_id="follow-ups", elem_classes="follow-ups") as box:
        with gr.Row(equal_height=True) as more:
            go_on = gr.Button("Continue for", size="sm", min_width=110, scale=1, elem_id="continue-run")
            epochs = gr.Number(
                10, precision=0, minimum=1, label="More epochs", show_label=False, container=False,
                min_width=70, scale=0, elem_id="more-epochs",
            )  # fmt: skip
            gr.HTML('<span class="subdued">more epochs</span>', padding=False)
        tune = gr.Button("Fine-tune on other data", size="sm", elem_id="fine-tune")
    message = gr.HTML(elem_id="follow-ups-message")
    return Panel(group, timer, box, more, epochs, go_on, tune, message)


def wire(services: Services, panel: Panel, run: gr.Textbox) -> None:
    """Connect what stays in step 3; a run that goes on is shown at once. `run` holds the id of the run."""
    gr.on(
        [panel.go_on.click, panel.epochs.submit], lambda *values: go_on(services, *values),
        [run, panel.epochs], [run, panel.message], concurrency_limit=4, **QUIET,
    )  # fmt: skip
    panel.timer.tick(lambda one: show(services, one), run, panel.shown, concurrency_limit=8, **QUIET)
    run.change(
        lambda one: (_ways(services, one).epochs, ""), run, [panel.epochs, panel.message],
        trigger_mode="multiple", **QUIET,
    )  # fmt: skip


def show(services: Services, run: str) -> list[Any]:
    """Return updates of `Panel.shown` for a run, or for none."""
    ways = _ways(services, run)
    active = ways.group is not None and not ways.group.over
    return [
        group_html(ways.group, run) if ways.group else "",
        gr.Timer(active=active),
        gr.Column(visible=ways.continues or ways.tunes),
        gr.Row(visible=ways.continues),
        gr.Button(visible=ways.tunes),
    ]


def go_on(services: Services, run: str, epochs: float | None) -> tuple[Any, str]:
    """Start a run that goes on with `run`; return its id and "", or what stands in the way."""
    job = attempt(lambda: services.follow_ups.continue_run(run, int(epochs or 0)))
    if isinstance(job, Problem):
        return gr.skip(), mark_html("error", job.message, job.remedy)
    return job.id, ""


def group_html(group: GroupSummary, run: str) -> str:
    """Return which of the repeats a run is, what they come to so far, and links to all of them."""
    place = next((number for number, one in enumerate(group.repeats, 1) if one.id == run), 0)
    head = f"Seed {place} of {group.total}" if place else f"{group.total} seeds"
    links = " · ".join(_repeat_html(one, one.id == run) for one in group.repeats)
    return (
        f'<div class="group"><p>{head} · {escape(group_text(group))}</p><p class="subdued">{links}</p></div>'
    )


def group_text(group: GroupSummary) -> str:
    """Return `Dice 0.812 ± 0.006 (2 finished)`, of objects their F1, as far as it is known."""
    if group.mean is None:
        return "none has finished yet" if not group.over else "none has finished"
    spread = "" if group.spread is None else f" ± {group.spread:.3f}"
    return f"{group.measure} {group.mean:.3f}{spread} ({group.finished} finished)"


def _repeat_html(one: Repeat, here: bool) -> str:
    score = UNDER_WAY.get(one.state, str(one.state)) if one.score is None else f"{one.score:.3f}"
    text = f"seed {one.seed}: {score}"
    return f"<strong>{text}</strong>" if here else f'<a href="?run={escape(one.id)}">{text}</a>'


def _ways(services: Services, run: str) -> Ways:
    ways = attempt(lambda: services.follow_ups.ways(run)) if run else Ways()
    return Ways() if isinstance(ways, Problem) else ways


# What leads back to steps 1 and 2 ----


def build_chip(name: str) -> Chip:
    """Build the hidden line in the current layout; `name` ends the ids of its elements."""
    with gr.Row(visible=False, elem_classes="banner chip", elem_id=f"tuning-{name}") as row:
        text = gr.HTML()
        remove = gr.Button(
            "✕ Start from scratch", size="sm", min_width=150, scale=0, elem_id=f"stop-tuning-{name}"
        )
    return Chip(row, text, remove)


def wire_chips(
    services: Services,
    chips: Sequence[Chip],
    source: gr.Textbox,
    scratch: gr.Accordion,
    freeze: Any,
    rate: Any,
) -> None:
    """Keep the lines true.

    Parameters
    ----------
    services : Services
        The door to the engine.
    chips : sequence of Chip
        The lines.
    source : gr.Textbox
        Holds the model that the next training begins with, "" for none.
    scratch : gr.Accordion
        Where the images are chosen; it says what they are for.
    freeze, rate : component
        The options of step 2 that a model to begin with proposes.
    """
    lines = [part for chip in chips for part in (chip.row, chip.text)]
    source.change(lambda model: chip_updates(services, model, len(chips)), source, [*lines, scratch], **QUIET)
    for chip in chips:
        chip.remove.click(
            lambda *values: from_scratch(services, *values), [source, rate], [source, freeze, rate], **QUIET
        )


def chip_updates(services: Services, model: str, count: int) -> list[Any]:
    """Return updates of the rows and texts of so many chips, and of the accordion of the images."""
    text = f"Fine-tuning from <strong>{escape(model_label(services, model))}</strong>" if model else ""
    line = [gr.Row(visible=bool(model)), f'<span role="status">{text}</span>' if text else ""]
    return [*line * count, gr.Accordion(label=FURTHER if model else SCRATCH)]


def from_scratch(services: Services, model: str, rate: float) -> tuple[str, bool, float]:
    """Return the values of source, frozen encoder and learning rate without a model to begin with."""
    usual = attempt(lambda: services.follow_ups.usual_rate(model, rate)) if model else rate
    return "", False, rate if isinstance(usual, Problem) else usual


def tune(services: Services, model: str, config_file: str = "") -> list[Any]:
    """Return what leads to the training of a model on other images.

    Returns
    -------
    list
        Updates of: the message about it; the walkthrough; source; the data of step 1 (`forms.DATA`); its two
        accordions (images, pretrained model) and its button Next; the form in the order of `FIELDS`.
    """
    config = attempt(lambda: services.follow_ups.fine_tune(model, config_file))
    if isinstance(config, Problem):
        return [
            mark_html("error", config.message, config.remedy),
            *[gr.skip()] * (5 + len(forms.DATA) + len(FIELDS)),
        ]
    opened = [gr.Accordion(open=True), gr.Accordion(open=False), gr.Button(visible=True)]
    form = forms.updates(config, FIELDS)
    return ["", gr.Walkthrough(selected=1), model, *forms.nothing_chosen(), *opened, *form]
