"""ListView: all numbers of all epochs as a table, newest first, and as a CSV file."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import gradio as gr

from app.jobview import JobView
from app.series import KINDS, all_series
from app.services import Services
from app.session import Problem, attempt
from segcore.events import EpochEvent

HERE = Path(__file__).parent


def list_view(services: Services) -> gr.HTML:
    """Build the table in the current layout; its value comes from `table_text`."""

    def download(run: str) -> str:
        """Return the file; the page's script asks for it when the button is pressed."""
        made = attempt(lambda: csv_text(services.job(run).history))
        return "" if isinstance(made, Problem) else made

    html, css, script = (
        (HERE / f"list_view.{suffix}").read_text("utf-8") for suffix in ("html", "css", "js")
    )
    return gr.HTML(
        table_text(None),
        html_template=html,
        css_template=css,
        js_on_load=script,
        server_functions=[download],
        apply_default_css=False,
        elem_id="train-table",
    )


def table_text(view: JobView | None) -> str:
    """Return what the table shows of a run, as JSON text: walking through it would take Gradio long."""
    if view is None or not view.history:
        return json.dumps({"run": view.id if view else "", "columns": [], "rows": [], "best": None})
    series = all_series(view.history, view.label_names)
    columns = ["Epoch", *(column_title(one.kind, one.name) for one in series)]
    numbers = [event.epoch for event in view.history]
    rows = list(zip(numbers, *(one.short for one in series), strict=True))
    best = view.best.epoch if view.best else None
    return json.dumps(
        {"run": view.id, "columns": columns, "rows": rows[::-1], "best": best}, separators=(",", ":")
    )


def column_title(kind: str, name: str) -> str:
    """Return what stands above a column.

    Examples
    --------
    >>> column_title("loss", "training"), column_title("class_iou", "255 cell"), column_title("seconds", "")
    ('Loss, training', 'IoU, 255 cell', 'Seconds per epoch')
    """
    title = KINDS[kind].title
    if kind.startswith("class_"):
        return f"{title.removesuffix(' per class')}, {name}"
    return f"{title}, {name}" if name in ("training", "validation") or kind == "objects" else title


def csv_text(history: Sequence[EpochEvent]) -> str:
    """Return one line per epoch, ascending, with names of columns that stay the same from run to run.

    Missing numbers are empty; `time` is UTC in ISO 8601, `memory_gb` in powers of 1000.
    """
    series = all_series(history)
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(["epoch", "time", *(one.key for one in series), "without_gain", "best"])
    for index, event in enumerate(history):
        writer.writerow(
            [
                event.epoch,
                datetime.fromtimestamp(event.time, UTC).isoformat(timespec="seconds"),
                *("" if one.values[index] is None else one.values[index] for one in series),
                event.without_gain if "without_gain" in event.model_fields_set else "",
                int(event.best),
            ]
        )
    return output.getvalue()
