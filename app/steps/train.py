"""Step 3: start the training, watch it learn, stop it; everything shown is read from the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any
from zlib import crc32

import gradio as gr

from app import checkpoints, controls, feedback, follow_ups_panel, forms, monitor, trial_panel, views, watch
from app.jobview import JobView
from app.services import Services
from app.session import Problem, attempt
from app.teaching_table import teaching_html
from segcore.config import RunConfig
from segcore.jobs.store import State

SHOWN = ("drawn", "timer", "summary", "start", "progress", "numbers", "message", "log", "command", "next")
WATCH_SECONDS, WAIT_SECONDS = 1.0, 5.0
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
STARTING = "() => [{ __type__: 'update', interactive: false, value: 'Starting …' }, '']"


@dataclass(frozen=True)
class TrainStep:
    """The components of step 3.

    Parameters
    ----------
    run : gr.Textbox
        The id of the run that is shown, "" before one is started.
    drawn : gr.Textbox
        What of it the pictures show; when it changes, they are drawn anew.
    trouble : gr.HTML
        What stood in the way of the last click; it stays until the next one.
    """

    run: gr.Textbox
    drawn: gr.Textbox
    timer: gr.Timer
    summary: gr.HTML
    start: gr.Button
    progress: gr.HTML
    numbers: gr.HTML
    controls: controls.Controls
    trouble: gr.HTML
    message: gr.HTML
    follow_ups: follow_ups_panel.Panel
    log: gr.Textbox
    command: gr.Code
    curves: monitor.Curves
    scores: monitor.Scores
    feedback: feedback.Panel
    checkpoints: checkpoints.Panel
    trial: trial_panel.Panel
    tabs: gr.Tabs
    back: gr.Button
    next: gr.Button

    @property
    def shown(self) -> list[gr.blocks.Block]:
        """What `show` updates, every second."""
        return [*(getattr(self, name) for name in SHOWN), *self.controls.shown]

    @property
    def pictures(self) -> list[gr.blocks.Block]:
        """What `draw` updates, when there is something new to see."""
        return [
            self.curves.chart, *self.feedback.shown, *self.checkpoints.shown, *self.scores.shown,
            *self.follow_ups.shown,
        ]  # fmt: skip


def build(services: Services) -> TrainStep:
    """Build step 3 inside its `gr.Step`."""
    run = gr.Textbox("", visible="hidden", elem_id="train-run")
    drawn = gr.Textbox("", visible="hidden", elem_id="train-drawn")
    trial = trial_panel.build()
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            summary = gr.HTML(elem_id="train-summary")
            start = gr.Button("Start training", variant="primary", elem_id="start-training")
            progress = gr.HTML(elem_id="train-progress")
            numbers = gr.HTML(elem_id="train-numbers")
            buttons = controls.build("train")
            trouble = gr.HTML(elem_id="train-trouble")
            message = gr.HTML(elem_id="train-message")
            next_step = gr.Button(
                "Next: Segmentation →", variant="primary", visible=False, elem_id="next-inference"
            )
            after = follow_ups_panel.build()
            back = gr.Button("← Back to the configuration", size="sm")
            with gr.Accordion("Log", open=False):
                log = gr.Textbox(
                    show_label=False, lines=8, max_lines=8, interactive=False, autoscroll=True,
                    elem_classes="log", elem_id="train-log",
                )  # fmt: skip
            with gr.Accordion("The same as a command", open=False):
                command = gr.Code(
                    language="shell", interactive=False, show_label=False, wrap_lines=True,
                    elem_id="train-command",
                )  # fmt: skip
        with gr.Column(scale=3, min_width=320):
            curves = monitor.build_curves()
            with gr.Tabs(elem_id="train-tabs") as tabs:
                with gr.Tab("Feedback", id="feedback"):
                    pictures = feedback.build(services)
                with gr.Tab("Checkpoints", id="checkpoints"):
                    picker = checkpoints.build()
                with gr.Tab("Table", id="table"):
                    scores = monitor.build_scores(services)
    gr.Markdown(forms.step_help_html("step-train"))
    return TrainStep(
        run, drawn, gr.Timer(WATCH_SECONDS, active=False), summary, start, progress, numbers, buttons,
        trouble, message, after, log, command, curves, scores, pictures, picker, trial, tabs, back,
        next_step,
    )  # fmt: skip


def wire(
    services: Services,
    step: TrainStep,
    data: Sequence[Any],
    values: Sequence[Any],
    source: gr.Textbox,
) -> None:
    """Connect the step with the chosen data (images, labels, axes), the form, and the model to begin with."""
    count = len(data)
    # First in the page itself, so that it answers at once however long the server takes.
    step.start.click(None, None, [step.start, step.trouble], js=STARTING, **QUIET)
    asked = step.start.click(
        lambda region, model, *shown: start(services, shown[:count], shown[count:], region, model),
        [step.feedback.region, source, *data, *values],
        [step.run, step.trouble], concurrency_limit=4, api_visibility="private",
    )  # fmt: skip
    # Where nothing was started, it can be tried again; otherwise the new run says what becomes of the button.
    again: dict[str, Any] = {"outputs": step.start, **QUIET}
    asked.then(
        lambda run, text: start_button(bool(run)) if text else gr.skip(), [step.run, step.trouble], **again
    )
    asked.failure(lambda run: start_button(bool(run)), step.run, **again)
    showing: dict[str, Any] = {
        "fn": lambda *values: show(services, *values), "inputs": [step.run, step.drawn],
        "outputs": step.shown, "concurrency_limit": 16, **QUIET,
    }  # fmt: skip
    gr.on([step.run.change, step.timer.tick], **showing)
    step.drawn.change(
        lambda *shown: draw(services, *shown), [step.run, *step.curves.look], step.pictures,
        concurrency_limit=16, **QUIET,
    )  # fmt: skip
    controls.wire(services, step.controls, step.run, step.trouble, showing)
    # What stood in the way of one run says nothing about the next.
    step.run.change(lambda: "", outputs=step.trouble, trigger_mode="multiple", **QUIET)
    monitor.wire(services, step.curves, step.run)
    feedback.wire(services, step.feedback, step.run, data)
    checkpoints.wire(services, step.checkpoints, step.run)
    follow_ups_panel.wire(services, step.follow_ups, step.run)
    trial_panel.wire(services, step.trial, step.run)
    step.curves.chart.select(to_checkpoint, None, [step.checkpoints.epoch, step.tabs], **QUIET)


def prepare(
    services: Services, data: Sequence[Any], shown: Sequence[Any], source: str = ""
) -> tuple[str, str]:
    """Return the summary and the command of the run that would be started now, beginning with `source`."""
    values = forms.read_training(shown, dict(zip(forms.DATA, data, strict=True)))
    config, _ = forms.check(forms.merged(values, {"training": {"start_from": source or None}}))
    if config is None:
        return "", ""
    return plan_html(config), services.command_line(config)


def plan_html(config: RunConfig) -> str:
    """Return what would be trained on what."""
    rows = [
        ("Session", config.session),
        ("Images", (config.data.images or "").rpartition("/")[2]),
        ("Annotations", (config.data.labels or "").rpartition("/")[2]),
        ("Patches", f"{config.data.patches_per_image} per slice, {config.data.patch_size} px"),
        ("Network", config.model.text),
        ("Training", f"{config.training.epochs} epochs, batch {config.training.batch_size}"),
    ]
    training = config.training
    rows += [("Repeats", f"{training.repeats} seeds")] if training.repeats > 1 else []
    rows += [("Continues", training.continue_from.rpartition("/")[2])] if training.continue_from else []
    if training.start_from:
        frozen = ", encoder frozen" if config.model.freeze_encoder else ""
        rows.append(("Starts from", training.start_from.rpartition("/")[2] + frozen))
    items = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in rows)
    return f'<dl class="cost-list">{items}</dl>'


def start(
    services: Services, data: Sequence[Any], shown: Sequence[Any], region: str = "", source: str = ""
) -> tuple:
    """Start a run and return its id and what stands in its way, or "".

    Parameters
    ----------
    services : Services
        The door to the engine.
    data, shown : sequence
        What step 1 has chosen, in the order of `forms.DATA`, and what the form shows.
    region : str
        What the visual feedback shows after every epoch; "" lets the training choose.
    source : str
        The model it begins with, "" for random weights.
    """
    values = forms.read_training(shown, dict(zip(forms.DATA, data, strict=True)))
    hidden = {"feedback_region": region or None, "start_from": source or None}
    config, problems = forms.check(forms.merged(values, {"training": hidden}))
    if config is None:
        text = views.mark_html("error", "\n".join(problems.values()), "Go back to the configuration.")
        return gr.skip(), text
    job = attempt(lambda: services.submit_training(config))
    if isinstance(job, Problem):
        return gr.skip(), views.mark_html("error", job.message, job.remedy)
    return job.id, ""


def show(services: Services, run: str, drawn: str = "") -> list[Any]:
    """Return updates of `TrainStep.shown` for a run, or for none.

    As long as `drawn` says that all is as it was, only where the run stands is sent: every update costs the
    page time, and this one comes every second.
    """
    view = attempt(lambda: services.job(run)) if run else None
    updates: dict[str, Any]
    if isinstance(view, JobView):
        if signature(view) == drawn:
            updates = {"progress": watch.progress_html(view)}
            return [updates.get(name, gr.skip()) for name in SHOWN] + [gr.skip()] * len(
                controls.updates(None)
            )
        updates = _job_updates(services, view)
        return [*(updates[name] for name in SHOWN), *controls.updates(view)]
    updates = {
        "drawn": "", "progress": "", "numbers": "", "log": "",
        "timer": gr.Timer(active=False),
        "start": start_button(False),
        "message": "" if view is None else views.mark_html("error", view.message, view.remedy),
        "next": gr.Button(visible=False),
    }  # fmt: skip
    return [*(updates.get(name, gr.skip()) for name in SHOWN), *controls.updates(None)]


def draw(services: Services, run: str, *look: Any) -> list[Any]:
    """Return updates of `TrainStep.pictures` for a run, or for none."""
    view = attempt(lambda: services.job(run)) if run else None
    job = view if isinstance(view, JobView) else None
    shown = job.id if job else ""
    return [
        monitor.chart_text(job, *look),
        *feedback.show(services, shown),
        *checkpoints.show(services, shown),
        *monitor.show_scores(job),
        *follow_ups_panel.show(services, shown),
    ]


def to_checkpoint(event: gr.EventData) -> tuple[str, gr.Tabs]:
    """Return the saved epoch that was clicked in the curves, and lead to where it can be looked at."""
    return monitor.chosen_epoch(event), gr.Tabs(selected="checkpoints")


def _job_updates(services: Services, view: JobView) -> dict[str, Any]:
    return {
        "drawn": signature(view),
        "timer": gr.Timer(WAIT_SECONDS if view.state.ended else WATCH_SECONDS, active=not view.state.final),
        "summary": watch.run_html(view) + plan_html(view.config),
        "start": start_button(True) if view.state.final else gr.Button(visible=False),
        "progress": watch.progress_html(view),
        "numbers": watch.numbers_html(view) + teaching_html(view),
        "message": watch.message_html(view),
        "log": view.log,
        "command": services.command_line(view.config),
        "next": gr.Button(visible=can_go_on(view)),
    }


def start_button(shown: bool) -> gr.Button:
    """Return the button that starts a run, for a page that has shown one or not."""
    text = "Train once more" if shown else "Start training"
    return gr.Button(text, visible=True, interactive=True, variant="secondary" if shown else "primary")


def signature(view: JobView) -> str:
    """Return a text that changes whenever there is more to show of a run than where it stands."""
    newest = view.last.time if view.last else 0
    told = (len(view.history), newest, len(view.interventions), len(view.resumes), len(view.notes))
    words = crc32("\0".join((view.log, view.message, view.request or "")).encode())
    return f"{view.id}:{view.state}:{':'.join(map(str, told))}:{len(view.kept)}:{words:x}"


def can_go_on(view: JobView) -> bool:
    """Say whether the run has ended with a model that can be applied."""
    return view.state.final and view.state is not State.FAILED and view.has_model
