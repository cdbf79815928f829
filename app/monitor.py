"""Monitor: the curves of a run, with what a person wants to see of them; a click chooses a saved epoch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from app import watch
from app.curves import Look, Marks, figure
from app.jobview import JobView
from app.list_view import list_view, table_text
from app.series import KINDS, USUAL, last_gain
from app.services import Services
from app.session import attempt

HERE = Path(__file__).parent
SMOOTHEST = 0.95


@dataclass(frozen=True)
class Curves:
    """The chart and what a person can choose about it."""

    chart: gr.HTML
    kinds: gr.CheckboxGroup
    smoothing: gr.Slider
    log: gr.Checkbox

    @property
    def look(self) -> list[gr.blocks.Block]:
        """What decides how the chart looks, in the order `chart_text` takes it."""
        return [self.kinds, self.smoothing, self.log]


@dataclass(frozen=True)
class Scores:
    """The table of all epochs, and the scores of the classes."""

    classes: gr.HTML
    table: gr.HTML

    @property
    def shown(self) -> list[gr.blocks.Block]:
        """What `show_scores` updates."""
        return [self.classes, self.table]


def build_curves() -> Curves:
    """Build the chart in the current layout."""
    html, css, script = ((HERE / f"monitor.{suffix}").read_text("utf-8") for suffix in ("html", "css", "js"))
    chart = gr.HTML(
        json.dumps(figure([])),
        html_template=html,
        css_template=css,
        js_on_load=script,
        apply_default_css=False,
        elem_id="curves",
    )
    # Brings the drawing library that the chart's script uses; never seen.
    gr.Plot(go.Figure(), visible="hidden")
    with gr.Accordion("What the curves show", open=False, elem_id="curves-options"):
        kinds = gr.CheckboxGroup(
            [(kind.title, key) for key, kind in KINDS.items()], value=list(USUAL), label="Curves",
            elem_id="curves-kinds",
        )  # fmt: skip
        with gr.Row(equal_height=True):
            smoothing = gr.Slider(
                0, SMOOTHEST, value=0, step=0.05, label="Smoothing", elem_id="curves-smoothing",
                info="Running mean; the curve itself stays, faintly.",
            )  # fmt: skip
            log = gr.Checkbox(
                False, label="Logarithmic axes", info="For loss and learning rate.", elem_id="curves-log"
            )
    return Curves(chart, kinds, smoothing, log)


def build_scores(services: Services) -> Scores:
    """Build the table in the current layout."""
    return Scores(gr.HTML(elem_id="train-classes"), list_view(services))


def wire(services: Services, curves: Curves, run: gr.Textbox) -> None:
    """Draw anew when a person changes what is to be seen; `run` holds the id of the run."""
    gr.on(
        [curves.kinds.change, curves.smoothing.change, curves.log.change],
        lambda *values: show_chart(services, *values), [run, *curves.look], curves.chart,
        show_progress="hidden", api_visibility="private", concurrency_limit=16, trigger_mode="always_last",
    )  # fmt: skip


def show_chart(services: Services, run: str, *look: Any) -> str:
    """Return the value of the chart for a run, an empty one if there is none."""
    view = attempt(lambda: services.job(run)) if run else None
    return chart_text(view if isinstance(view, JobView) else None, *look)


def show_scores(view: JobView | None) -> list[str]:
    """Return updates of `Scores.shown`."""
    return [watch.classes_html(view) if view else "", table_text(view)]


def chart_text(
    view: JobView | None,
    kinds: Sequence[str] | None = USUAL,
    smoothing: float | None = 0.0,
    log: bool = False,
) -> str:
    """Return the chart as JSON text, because walking through it would take Gradio long."""
    look = Look(tuple(kinds or ()), min(max(float(smoothing or 0), 0.0), SMOOTHEST), bool(log))
    if view is None:
        return json.dumps(figure([], look))
    drawn = figure(view.history, look, marks_of(view), view.label_names)
    return json.dumps(drawn, separators=(",", ":"))


def marks_of(view: JobView) -> Marks:
    """Return what is marked in the curves of a run."""
    return Marks(
        best=view.best.epoch if view.best else None,
        gain=last_gain(view.history, view.config.training.min_gain),
        kept=view.kept,
        interventions=view.interventions,
        resumes=view.resumes,
    )


def chosen_epoch(event: gr.EventData) -> str:
    """Return the saved epoch that was clicked."""
    return str(int(event.epoch))
