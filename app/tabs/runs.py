"""Runs: what is at work and waits, all trainings in a table, several compared, one in detail."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
import plotly.graph_objects as go

from app import controls, queue_panel
from app.charts import METRICS, compare, curves
from app.controls import Controls
from app.jobview import JobView
from app.pick_table import pick_table, picked_id, table_value, ticked_ids
from app.runbook import HEADER, RunBook, differing, options_rows, row, signature
from app.services import Services
from app.session import Problem, attempt
from app.views import mark_html, table_html
from app.watch import classes_html, message_html, progress_html
from segcore.errors import ModelError

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
EMPTY = (
    "There are no runs yet. Open the tab Segment, choose your images (or the sample data) and press Start: "
    "the training appears here while it runs."
)
HINT = '<p class="subdued">Choose a line to see the run in detail; tick two or more to compare them.</p>'


@dataclass(frozen=True)
class Details:
    """The components that show one run, in the order in which `details` returns their values."""

    box: gr.Column
    status: gr.HTML
    chart: gr.Plot
    classes: gr.HTML
    options: gr.HTML
    log: gr.Textbox
    register: gr.Row
    controls: Controls

    @property
    def all(self) -> list[Any]:
        """All of them, as outputs of an event."""
        return [part for name, part in vars(self).items() if name != "controls"] + self.controls.shown


def build(services: Services, tab: gr.Tab) -> None:
    """Build the tab, inside `with gr.Tab(...) as tab`; what it shows is read from when it is first opened."""
    book = RunBook(services)
    panel = queue_panel.build(services)
    with gr.Row():
        empty = gr.HTML(HINT, elem_id="runs-empty")
        refresh = gr.Button("Refresh", size="sm", scale=0, min_width=90, elem_id="runs-refresh")
    table = pick_table("runs-table")
    discarded = gr.Checkbox(False, label="Show discarded runs", container=False, elem_id="runs-discarded")
    # The choices stay in the page, so that they outlive a restart of the server.
    run = gr.Textbox("", visible="hidden", elem_id="runs-run")
    chosen = gr.Textbox("", visible="hidden", elem_id="runs-compare")
    with gr.Column(visible=False, elem_id="runs-comparison") as comparison:
        metric = gr.Radio([(text, key) for key, text in METRICS.items()], value="val_dice", label="Curve")
        overlaid = gr.Plot(show_label=False)
        differences = gr.HTML()
    shown, name, button, message = _build_details()
    known = gr.State("")

    view_one: dict[str, Any] = {
        "fn": lambda one: details(services, one), "inputs": run, "outputs": shown.all, **QUIET
    }  # fmt: skip
    view_many: dict[str, Any] = {
        "fn": lambda *values: comparison_of(book, *values), "inputs": [chosen, metric],
        "outputs": [comparison, overlaid, differences], **QUIET,
    }  # fmt: skip
    lists: dict[str, Any] = {"inputs": [run, discarded], "outputs": [table, empty, known], **QUIET}
    queue = [panel.lines, panel.known, panel.timer]
    gr.on([refresh.click, tab.select], lambda: queue_panel.start(services), outputs=queue, **QUIET).then(
        lambda *values: read(book, "", *values), **lists
    ).then(**view_one)
    discarded.input(lambda *values: read(book, "", *values), **lists)
    # Whatever changes in the table also changes what is at work, waits or is paused.
    panel.known.change(
        lambda *values: read(book, *values), [known, run, discarded], [table, empty, known],
        trigger_mode="multiple", **QUIET,
    )  # fmt: skip
    # One listener: several that keep only the last call, on one trigger, make Gradio call without end.
    known.change(**view_one).then(**view_many)
    table.select(picked_id, outputs=run, trigger_mode="always_last", **QUIET)
    table.tick(ticked_ids, outputs=chosen, trigger_mode="always_last", **QUIET)
    run.change(**view_one).then(lambda: "", outputs=message, **QUIET)
    gr.on([chosen.change, metric.change], **view_many)
    controls.wire(services, shown.controls, run, message)
    button.click(
        lambda *values: register(services, *values), [run, name], outputs=message, api_visibility="private"
    )


def read(book: RunBook, before: str, picked: str, discarded: bool = False) -> tuple[Any, ...]:
    """Return updates of table, line above it and signature; none if nothing changed."""
    views = book.runs(discarded)
    now = f"{signature(views)}{'|all' if discarded else ''}" or "none"
    if now == before:
        return (gr.skip(),) * 3
    rows = [(view.id, row(view)) for view in views]
    return table_value(HEADER, rows, picked, "Compare"), HINT if views else mark_html("info", EMPTY), now


def details(services: Services, identity: str | None) -> tuple[Any, ...]:
    """Return updates of `Details` for a run."""
    view = attempt(lambda: services.job(identity)) if identity else None
    if view is None:
        return gr.Column(visible=False), *(gr.skip(),) * 6, *controls.updates(None)
    if isinstance(view, Problem):
        text = mark_html("error", view.message, view.remedy)
        return gr.Column(visible=True), text, None, "", "", "", gr.Row(visible=False), *controls.updates(None)
    marked = "A star marks what differs from the default."
    return (
        gr.Column(visible=True),
        status_html(services, view),
        curves(list(view.history)) if view.history else None,
        classes_html(view),
        table_html(("Option", "Value"), options_rows(view.config), marked),
        view.log,
        gr.Row(visible=view.has_model and view.state.ended),
        *controls.updates(view),
    )


def status_html(services: Services, view: JobView) -> str:
    """Return where the run stands, what it had to say, and the links to watch it and to MLflow."""
    links = [f'<a href="?run={escape(view.id)}">Watch this run</a>']
    url = attempt(lambda: services.models.ui_url(view.mlflow_run_id)) if view.mlflow_run_id else None
    if isinstance(url, str):
        links.append(f'<a href="{escape(url)}" target="_blank" rel="noopener">Open in MLflow</a>')
    folder = escape(services.relative(view.folder))
    return (
        f"<h3>{escape(view.session)} · {escape(view.id)}</h3>{progress_html(view)}{message_html(view)}"
        f'<p>{" · ".join(links)} · <span class="subdued">folder {folder}</span></p>'
    )


def comparison_of(book: RunBook, chosen: str | None, metric: str) -> tuple[gr.Column, go.Figure | None, str]:
    """Return updates of the comparison, its chart and the table of what differs."""
    views = book.find((chosen or "").split())
    if len(views) < 2:
        return gr.Column(visible=False), None, ""
    figure = compare({view.id: view.history for view in views}, metric)
    rows = differing(views)
    scores = ["best score", *(view.best.score_text if view.best else "–" for view in views)]
    header = ("", *(view.id for view in views))
    note = "" if rows else mark_html("info", "These runs have the same options.")
    return gr.Column(visible=True), figure, table_html(header, [scores, *rows], "What differs") + note


def register(services: Services, identity: str | None, name: str) -> str:
    """Register the model of the run and return how that went."""

    def act() -> str:
        if not identity or not name.strip():
            raise ModelError("A model needs a name.", "Write one, for example membrane-unet.")
        version = services.register(identity, name.strip())
        return (
            f"Registered as {version.name}, version {version.version}. The tab Models can make it champion."
        )

    done = attempt(act)
    if isinstance(done, Problem):
        return mark_html("error", done.message, done.remedy)
    return mark_html("ok", done)


def _build_details() -> tuple[Details, gr.Textbox, gr.Button, gr.HTML]:
    with gr.Column(visible=False, elem_id="runs-details") as box:
        status = gr.HTML()
        chart = gr.Plot(show_label=False)
        buttons = controls.build("train", "run")
        with gr.Row(visible=False, equal_height=True) as row_register:
            name = gr.Textbox(
                label="Register the model as", placeholder="membrane-unet", max_lines=1, elem_id="runs-name"
            )
            button = gr.Button("Register", size="sm", scale=0, min_width=110, elem_id="runs-register")
        message = gr.HTML(elem_id="runs-message", elem_classes="when-said")
        classes = gr.HTML()
        with gr.Accordion("All options", open=False):
            options = gr.HTML()
        with gr.Accordion("Log", open=False):
            log = gr.Textbox(lines=12, max_lines=12, show_label=False, interactive=False, elem_classes="log")
    return Details(box, status, chart, classes, options, log, row_register, buttons), name, button, message
