"""Findings: what a check has to say, the gravest first, what is only good to know folded away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from app import views
from app.views import mark_html
from segcore.data.report import Finding, Report, SourceSummary

ORDER = {"error": 0, "warning": 1, "info": 2}
OPEN = 2
"""So many notes are shown; more are folded."""
LONGEST = 12
"""Findings of one level that are listed."""
MOST_CLASSES = 12
"""Classes in the legend; more are objects with numbers."""


def findings_html(report: Report) -> str:
    """Return every finding with its remedy, the gravest first; a green check if there is nothing to say."""
    findings = sorted(report.findings, key=lambda finding: ORDER[finding.level])
    grave = [item for item in findings if item.level != "info"]
    notes = [item for item in findings if item.level == "info"]
    ok = mark_html("ok", "The data can be used.") if report.ok else ""
    return f'<div role="status" aria-live="polite">{ok}{_lines(grave)}{_folded(notes)}</div>'


def _folded(notes: Sequence[Finding]) -> str:
    if len(notes) <= OPEN:
        return _lines(notes)
    return (
        f"<details><summary>{len(notes)} notes on how the files are read</summary>{_lines(notes)}</details>"
    )


def _lines(findings: Sequence[Finding]) -> str:
    shown = [mark_html(item.level, item.what, item.remedy, item.where) for item in findings[:LONGEST]]
    if len(findings) > LONGEST:
        shown.append(f'<p class="subdued">and {len(findings) - LONGEST} more</p>')
    return "".join(shown)


def legend_html(report: Report, summary_text: Callable[[SourceSummary], str]) -> str:
    """Return shape, type and pixel size of the images, and the classes with their shares."""
    text = summary_text(report.images) if report.images else ""
    entries = [
        views.ClassEntry(item.value, "" if item.name == str(item.value) else item.name, item.share)
        for item in report.classes[:MOST_CLASSES]
    ]
    more = len(report.classes) - MOST_CLASSES
    tail = f'<p class="subdued">and {more} more values</p>' if more > 0 else ""
    return f'<p class="subdued">{escape(text)}</p>{views.legend_html(entries)}{tail}'
