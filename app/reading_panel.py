"""ReadingPanel: how chosen images are read: axes as chips, channels in a table, pixel size, pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from app.data_facts import Overview, Pair, readings, sizes_text
from app.forms import FormField, all_fields, shown

HERE = Path(__file__).parent
LISTED = 200
"""Pairs that are sent to the page."""
USES = {"split": "training, validation", "train": "training", "validation": "validation", "test": "test"}


def reading_panel(name: str) -> gr.HTML:
    """Build the panel in the current layout; its value comes from `reading_value`.

    A chip triggers `axes`, see `given_axes`; the table triggers `channels`, see `given_channels`.
    """
    html, css, script = (
        (HERE / f"reading_panel.{suffix}").read_text("utf-8") for suffix in ("html", "css", "js")
    )
    return gr.HTML(
        {}, html_template=html, css_template=css, js_on_load=script, apply_default_css=False, elem_id=name
    )


def reading_value(overview: Overview | None) -> dict[str, Any]:
    """Return what the panel shows of the chosen images; nothing without them."""
    if overview is None:
        return {}
    possible = readings(overview.axes, overview.shape)
    channels = [
        {
            "number": one.number,
            "name": one.name,
            "used": one.used,
            "range": f"{one.low:g} to {one.high:g}",
        }
        for one in overview.channels
    ]
    pixel = overview.pixel_size
    return {
        "readings": [{"axes": axes, "text": sizes_text(axes, overview.shape)} for axes in possible],
        "axes": overview.axes,
        "given": overview.given,
        "channels": channels,
        "pixel": f"Pixel size {pixel}" if pixel else "Pixel size not known: give it in More options.",
        "pairs": [_pair_row(pair) for pair in overview.pairs[:LISTED]],
        "more": pairs_text(overview.pairs),
    }


def pairs_text(pairs: Sequence[Pair]) -> str:
    """Return how many images there are, and how many of them have labels.

    Examples
    --------
    >>> pairs_text([Pair("a.png", "a_mask.png"), Pair("b.png")])
    '2 images, 1 with annotations'
    """
    labelled = sum(bool(pair.labels) for pair in pairs)
    text = f"{len(pairs)} images"
    if labelled:
        text += ", all with annotations" if labelled == len(pairs) else f", {labelled} with annotations"
    return text + (f" (the first {LISTED} are listed)" if len(pairs) > LISTED else "")


def given_axes(event: gr.EventData) -> str:
    """Return the axes of the chip that was chosen, "" for those of the file."""
    return str(event.axes)


def given_channels(event: gr.EventData) -> tuple[str, str]:
    """Return the channels that are used, "" for all, and their names, as their fields show them."""
    names: FormField = next(field for field in all_fields() if field.path == "data.channel_names")
    return str(event.channels), shown(names, [str(name) for name in event.names])


def _pair_row(pair: Pair) -> list[str]:
    labels = pair.labels or "none"
    return [pair.name, f"{labels}, {pair.mask}" if pair.mask else labels, USES.get(pair.use, pair.use)]
