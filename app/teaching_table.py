"""The table of a taught training in step 3: the network beside its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app import views
from app.jobview import JobView

HEAD = ("", "Dice", "Parameters", "Seconds per megapixel", "Size of the file")
WHO = {"student": "This network", "teacher": "Its teacher"}


def teaching_html(view: JobView) -> str:
    """Return network and teacher side by side, "" for a training without a model as its teacher.

    Parameters
    ----------
    view : JobView
        A training; the comparison is there once it has ended.
    """
    learned = view.results.get("teaching")
    if not isinstance(learned, Mapping):
        return ""
    rows = [row(text, learned[who]) for who, text in WHO.items() if isinstance(learned.get(who), Mapping)]
    if not rows:
        return ""
    agreement = learned.get("agreement")
    words = "" if agreement is None else f"<p>Dice of the network with its teacher: {agreement:.3f}.</p>"
    table = views.table_html(HEAD, rows, "Against the annotation of the validation slices")
    return f'<div id="teaching">{table}{words}</div>'


def row(name: str, told: Mapping[str, Any]) -> tuple[str, ...]:
    """Return a line of the table, see `HEAD`; a dash for what is not known."""
    dice, count, speed, size = (
        told.get(key) for key in ("dice", "parameters", "seconds_per_megapixel", "bytes")
    )
    return (
        name,
        "–" if dice is None else f"{dice:.3f}",
        "–" if count is None else views.count_text(count),
        "–" if speed is None else f"{speed:.3g}",
        "–" if size is None else views.bytes_text(size),
    )
