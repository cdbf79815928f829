"""Dividing: how many slices of which images train, validate and are kept for the test."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from app.services import Services
from app.session import Problem, attempt
from app.views import mark_html, table_html
from segcore.config import DataConfig
from segcore.data.grouping import group_names
from segcore.data.splits import Region, Split

SIDES = {
    "train": ("Training", "#0072B2"),
    "validation": ("Validation", "#E69F00"),
    "test": ("Test", "#009E73"),
}
LISTED = 40
"""Groups in the table."""
Counts = dict[str, dict[str, int]]


def split_html(services: Services, data: DataConfig) -> str:
    """Return how the images would be divided, or why they cannot be."""
    found = attempt(lambda: services.data.split(data))
    if isinstance(found, Problem):
        return mark_html("error", found.message, found.remedy)
    collection, split = found
    names = [entry.item.name for entry in collection.entries]
    pattern = data.group_pattern if data.split_by == "groups" else None
    counts = by_group(split, group_names(names, pattern))
    totals = {side: sum(one[side] for one in counts.values()) for side in SIDES}
    notes = "".join(f'<p class="subdued">{escape(note)}</p>' for note in split.notes)
    return bar_html(totals) + _table(counts, pattern is not None) + notes


def by_group(split: Split, groups: Sequence[str]) -> Counts:
    """Return the slices of every group on every side, in the order of the images.

    Parameters
    ----------
    split : Split
        How the images are divided.
    groups : sequence of str
        The group of every image.
    """
    counts: Counts = {}
    for group in groups:
        counts.setdefault(group, dict.fromkeys(SIDES, 0))
    for side in SIDES:
        regions: Sequence[Region] = getattr(split, side)
        for region in regions:
            counts[groups[region.item]][side] += region.planes[1] - region.planes[0]
    return counts


def bar_html(totals: dict[str, int]) -> str:
    """Return a bar of the sides, with a legend in numbers.

    Examples
    --------
    >>> "24 slices" in bar_html({"train": 24, "validation": 6, "test": 0})
    True
    """
    parts, legend = [], []
    for side, count in totals.items():
        name, colour = SIDES[side]
        if count:
            unit = "slice" if count == 1 else "slices"
            parts.append(f'<span style="flex:{count};background:{colour}"></span>')
            legend.append(f'<span><b style="color:{colour}">■</b> {name} {count} {unit}</span>')
    bar = "".join(parts)
    return (
        f'<div class="split"><div class="bar" aria-hidden="true">{bar}</div>'
        f'<p role="status">{" ".join(legend)}</p></div>'
    )


def _table(counts: Counts, grouped: bool) -> str:
    if len(counts) < 2:
        return ""
    rows = [
        (name, *(str(one[side]) if one[side] else "–" for side in SIDES))
        for name, one in list(counts.items())[:LISTED]
    ]
    head = ("Group" if grouped else "Image", *(name for name, _ in SIDES.values()))
    what = "groups" if grouped else "images"
    more = len(counts) - LISTED
    tail = f'<p class="subdued">and {more} more {what}</p>' if more > 0 else ""
    title, table = f"{len(counts)} {what}, one by one", table_html(head, rows)
    return f'<details><summary>{title}</summary><div class="tall">{table}</div>{tail}</details>'
