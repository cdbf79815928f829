"""The table of a taught training in step 3: the network beside its teacher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from app import views
from app.jobview import JobView

WHO = {"student": "This network", "teacher": "Its teacher"}
COSTS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "parameters": ("Parameters", views.count_text),
    "seconds_per_megapixel": ("Seconds per megapixel", lambda seconds: f"{seconds:.3g}"),
    "bytes": ("Size of the file", views.bytes_text),
}
"""What both cost: what it is called, and how it is written."""
UNKNOWN = "–"


def teaching_html(view: JobView) -> str:
    """Return network and teacher side by side, "" for a training without a teacher.

    Parameters
    ----------
    view : JobView
        A training; the comparison is there once it has ended.
    """
    learned = view.results.get("teaching")
    if not isinstance(learned, Mapping):
        return ""
    told = {name: learned[who] for who, name in WHO.items() if isinstance(learned.get(who), Mapping)}
    if not told:
        return ""
    agreement = learned.get("agreement")
    words = "" if agreement is None else f"<p>Dice of the network with its teacher: {agreement:.3f}.</p>"
    head = ("", *told, *(["Compared"] if len(told) > 1 else []))
    table = views.table_html(
        head, rows(list(told.values())), "Against the annotation of the validation slices"
    )
    return f'<div id="teaching">{table}{words}</div>'


def rows(told: list[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return a line for the Dice and for everything they cost, with a dash for what is not known.

    Parameters
    ----------
    told : list of mapping
        Of the network, and of its teacher if there is one: then a third column compares.
    """
    dices = [one.get("dice") for one in told]
    table = [("Dice", *(UNKNOWN if dice is None else f"{dice:.3f}" for dice in dices), *_gain(dices))]
    for key, (name, written) in COSTS.items():
        costs = [one.get(key) for one in told]
        table.append((name, *(UNKNOWN if cost is None else written(cost) for cost in costs), *_times(costs)))
    return table


def _gain(dices: list[float | None]) -> tuple[str, ...]:
    """Return by how much the network is better than its teacher."""
    if len(dices) < 2:
        return ()
    own, his = dices
    return (UNKNOWN if own is None or his is None else f"{own - his:+.3f}",)


def _times(costs: list[float | None]) -> tuple[str, ...]:
    """Return how many times less the network costs than its teacher, or how many times more."""
    if len(costs) < 2:
        return ()
    own, his = costs
    if not own or not his:
        return (UNKNOWN,)
    return (f"{his / own:.1f} × less" if his >= own else f"{own / his:.1f} × more",)
