"""Step 3: start the training, watch it learn, stop it; everything shown is read from the run folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from app import charts, forms, views, watch
from app.jobview import JobView
from app.services import Services
from app.session import Problem, attempt
from segcore.config import RunConfig
from segcore.jobs.store import State

SHOWN = (
    "drawn", "timer", "summary", "start", "stop", "progress", "numbers", "message", "classes", "log",
    "command", "curves", "next",
)  # fmt: skip


@dataclass(frozen=True)
class TrainStep:
    """The components of step 3; `run` holds the id of the run that is shown, "" before one is started."""

    run: gr.Textbox
    drawn: gr.State
    timer: gr.Timer
    summary: gr.HTML
    start: gr.Button
    stop: gr.Button
    confirm: gr.Row
    stop_now: gr.Button
    go_on: gr.Button
    progress: gr.HTML
    numbers: gr.HTML
    message: gr.HTML
    classes: gr.HTML
    log: gr.Textbox
    command: gr.Code
    curves: gr.Plot
    back: gr.Button
    next: gr.Button

    @property
    def shown(self) -> list[gr.blocks.Block]:
        """What `show` updates."""
        return [getattr(self, name) for name in SHOWN]


def build() -> TrainStep:
    """Build step 3 inside its `gr.Step`."""
    run = gr.Textbox("", visible="hidden", elem_id="train-run")
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            summary = gr.HTML(elem_id="train-summary")
            start = gr.Button("Start training", variant="primary", elem_id="start-training")
            progress = gr.HTML(elem_id="train-progress")
            stop = gr.Button("Stop and keep the best", size="sm", visible=False, elem_id="stop-training")
            with gr.Row(visible=False, elem_classes="banner", elem_id="confirm-stop") as confirm:
                gr.Markdown("Stop now? The epochs still to come are lost; the best model so far is kept.")
                stop_now = gr.Button("Stop now", variant="stop", size="sm", min_width=90, elem_id="stop-now")
                go_on = gr.Button("Go on", size="sm", min_width=90, elem_id="go-on")
            numbers = gr.HTML(elem_id="train-numbers")
            message = gr.HTML(elem_id="train-message")
            next_step = gr.Button(
                "Next: Segmentation →", variant="primary", visible=False, elem_id="next-inference"
            )
            back = gr.Button("← Back to the configuration", size="sm")
        with gr.Column(scale=3, min_width=320):
            curves = gr.Plot(charts.curves([]), label="Loss and Dice", show_label=False, elem_id="curves")
            classes = gr.HTML(elem_id="train-classes")
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
    gr.Markdown(forms.step_help_html("step-train"))
    return TrainStep(
        run, gr.State(""), gr.Timer(1.0, active=False), summary, start, stop, confirm, stop_now, go_on,
        progress, numbers, message, classes, log, command, curves, back, next_step,
    )  # fmt: skip


def wire(
    services: Services,
    step: TrainStep,
    data: Sequence[Any],
    values: Sequence[Any],
) -> None:
    """Connect the step with the chosen data (images, labels, axes) and the form."""
    count = len(data)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    step.start.click(
        lambda *shown: start(services, shown[:count], shown[count:]), [*data, *values],
        [step.run, step.message], concurrency_limit=4, api_visibility="private",
    )  # fmt: skip
    gr.on(
        [step.run.change, step.timer.tick],
        lambda run, drawn: show(services, run, drawn),
        [step.run, step.drawn], step.shown, concurrency_limit=16, **quiet,
    )  # fmt: skip
    step.stop.click(lambda: gr.Row(visible=True), outputs=step.confirm, **quiet)
    step.go_on.click(lambda: gr.Row(visible=False), outputs=step.confirm, **quiet)
    step.stop_now.click(
        lambda run: (gr.Row(visible=False), stop(services, run)),
        step.run,
        [step.confirm, step.message],
        **quiet,
    )


def prepare(services: Services, data: Sequence[Any], shown: Sequence[Any]) -> tuple[str, str]:
    """Return the summary and the command of the run that would be started now."""
    config, _ = forms.check(forms.read_training(shown, dict(zip(forms.DATA, data, strict=True))))
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
        ("Network", f"{config.model.features} features, {config.model.layers} layers"),
        ("Training", f"{config.training.epochs} epochs, batch {config.training.batch_size}"),
    ]
    items = "".join(f"<dt>{name}</dt><dd>{escape(text)}</dd>" for name, text in rows)
    return f'<dl class="cost-list">{items}</dl>'


def start(services: Services, data: Sequence[Any], shown: Sequence[Any]) -> tuple:
    """Start a run; return its id and a message, or what stands in its way."""
    config, problems = forms.check(forms.read_training(shown, dict(zip(forms.DATA, data, strict=True))))
    if config is None:
        text = views.mark_html("error", "\n".join(problems.values()), "Go back to the configuration.")
        return gr.skip(), text
    job = attempt(lambda: services.submit_training(config))
    if isinstance(job, Problem):
        return gr.skip(), views.mark_html("error", job.message, job.remedy)
    return job.id, ""


def stop(services: Services, run: str) -> str:
    """Ask the run to stop and return what to say about it."""
    done = attempt(lambda: services.stop(run))
    if isinstance(done, Problem):
        return views.mark_html("info", done.message, done.remedy)
    return views.mark_html("info", "Stopping; the best model so far is kept.")


def show(services: Services, run: str, drawn: str) -> list[Any]:
    """Return updates of `SHOWN` for a run; the curves only when another epoch has ended."""
    updates = dict.fromkeys(SHOWN, gr.skip())
    view = attempt(lambda: services.job(run)) if run else None
    if isinstance(view, JobView):
        updates |= _job_updates(services, view, drawn)
    else:
        message = "" if view is None else views.mark_html("error", view.message, view.remedy)
        updates |= dict.fromkeys(("drawn", "progress", "numbers", "classes", "log"), "")
        updates |= {
            "timer": gr.Timer(active=False),
            "start": gr.Button("Start training", visible=True, variant="primary"),
            "stop": gr.Button(visible=False),
            # A message about the start that just failed stays.
            "message": message or gr.skip(),
            "curves": charts.curves([]),
            "next": gr.Button(visible=False),
        }
    return [updates[name] for name in SHOWN]


def _job_updates(services: Services, view: JobView, drawn: str) -> dict[str, Any]:
    ended = view.state.ended
    now = f"{view.id}:{len(view.history)}:{ended}"
    again = gr.Button("Train once more", visible=True, variant="secondary")
    return {
        "drawn": now,
        "timer": gr.Timer(active=not ended),
        "summary": watch.run_html(view) + plan_html(view.config),
        "start": again if ended else gr.Button(visible=False),
        "stop": gr.Button(visible=not ended and not view.stopping),
        "progress": watch.progress_html(view),
        "numbers": watch.numbers_html(view),
        "message": watch.message_html(view),
        "classes": watch.classes_html(view),
        "log": view.log,
        "command": services.command_line(view.config),
        "curves": charts.curves(view.history) if now != drawn else gr.skip(),
        "next": gr.Button(visible=can_go_on(view)),
    }


def can_go_on(view: JobView) -> bool:
    """Say whether the run has ended with a model that can be applied."""
    return view.state.ended and view.state is not State.FAILED and view.has_model
