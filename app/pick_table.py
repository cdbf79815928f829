"""PickTable: a plain table whose lines can be chosen and ticked, by mouse, finger or keyboard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

HERE = Path(__file__).parent
TEMPLATE = '<div class="scroll"><table><thead></thead><tbody></tbody></table></div>'


def pick_table(name: str, value: dict[str, Any] | None = None) -> gr.HTML:
    """Build the table within the current layout; its value comes from `table_value`.

    Choosing a line triggers `select`, see `picked_id`; ticking triggers `tick`, see `ticked_ids`.
    """
    css, script = ((HERE / f"pick_table.{suffix}").read_text("utf-8") for suffix in ("css", "js"))
    return gr.HTML(
        value or table_value((), []),
        html_template=TEMPLATE,
        css_template=css,
        js_on_load=script,
        apply_default_css=False,
        elem_id=name,
    )


def table_value(
    header: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], picked: str = "", tick: str = ""
) -> dict[str, Any]:
    """Return what the table shows.

    Parameters
    ----------
    header : sequence of str
        The columns' names.
    rows : sequence of (str, sequence of str)
        The id of every line and its cells; plain text.
    picked : str
        The id of the line that is chosen.
    tick : str
        Name of a first column with boxes to tick; none if empty.
    """
    lines = [{"id": identity, "cells": list(cells)} for identity, cells in rows]
    return {"header": list(header), "rows": lines, "picked": picked, "tick": tick}


def picked_id(event: gr.EventData) -> str:
    """Return the id of the line that was chosen."""
    return str(event.id)


def ticked_ids(event: gr.EventData) -> str:
    """Return the ids of all ticked lines, separated by spaces."""
    return " ".join(str(one) for one in event.ids)
