"""Curves: the chart of one run as the drawing library takes it, with all that happened marked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app.series import KINDS, USUAL, Series, all_series, rounded, smooth
from segcore.events import EpochEvent, InterventionEvent, ResumeEvent

BEST = "#009E73"
TROUBLE = "#D55E00"
GRID = "rgba(128,128,128,0.25)"
TEXT = "#808080"  # readable on white and on near-black: the page may be light or dark
SHADE = "rgba(128,128,128,0.12)"
MARKERS_UP_TO = 60
PLATEAU_FROM = 3
"""Epochs without gain that are worth a mark."""
MOST_MARKS = 30
EXPLODED = 50
"""A loss so many times above nine tenths of its values would press all the others flat."""
Part = dict[str, Any]


@dataclass(frozen=True)
class Look:
    """How a person wants to see the curves.

    Parameters
    ----------
    kinds : tuple of str
        Keys of `series.KINDS`; unknown ones and those the run has no numbers for are left out.
    smoothing : float
        0 (none) to < 1; the curve itself stays visible, faintly.
    log : bool
        Logarithmic axes where they show more.
    """

    kinds: tuple[str, ...] = USUAL
    smoothing: float = 0.0
    log: bool = False


@dataclass(frozen=True)
class Marks:
    """What is marked in the curves of a run.

    Parameters
    ----------
    best : int or None
        The epoch whose model is kept.
    gain : int or None
        The epoch of the last gain.
    kept : tuple of int
        Epochs whose weights are saved; they are bold and can be clicked.
    interventions : tuple of InterventionEvent
        What the autopilot did.
    resumes : tuple of ResumeEvent
        Where the run went on from a checkpoint.
    """

    best: int | None = None
    gain: int | None = None
    kept: tuple[int, ...] = ()
    interventions: tuple[InterventionEvent, ...] = ()
    resumes: tuple[ResumeEvent, ...] = ()


def figure(
    history: Sequence[EpochEvent],
    look: Look | None = None,
    marks: Marks | None = None,
    names: Mapping[str, str] | None = None,
) -> Part:
    """Return `{"data": …, "layout": …}`, one chart per chosen kind; plain dicts: checking each would cost.

    Parameters
    ----------
    history : sequence of EpochEvent
        The epochs so far, ascending; may be empty. Where one is missing, the curves have a gap.
    look : Look, optional
        What is drawn, and how.
    marks : Marks, optional
        What is marked.
    names : mapping of str to str, optional
        What the label values are called.
    """
    look, marks = look or Look(), marks or Marks()
    epochs, whole = _without_holes(history)
    series = [one for one in all_series(whole, names) if one.kind in look.kinds] if history else []
    # Empty charts of what is going to come, not an empty page; few runs learn objects.
    kinds = [kind for kind in KINDS if kind in {one.kind for one in series}] or [
        kind for kind in KINDS if kind in look.kinds and (kind != "objects" or len(look.kinds) == 1)
    ]
    # Saved epochs would only clutter the charts of speed and memory, unless nothing else is there.
    pointed = [kind for kind in kinds if kind in USUAL] or kinds[:1]
    data: list[Part] = []
    legend: set[str] = set()
    top = clipped([value for one in series if one.kind == "loss" for value in one.values])
    for number, kind in enumerate(kinds, start=1):
        own = [one for one in series if one.kind == kind]
        if not own:
            data.append(_nothing(number))
        for one in own:
            data += _traces(one, epochs, number, look, one.name not in legend and len(own) > 1)
            legend.add(one.name)
        if own and kind in pointed:
            data += _points(own[-1 if len(own) == 2 else 0], epochs, number, marks, kind == pointed[0])
    layout = _layout(kinds, look, marks, epochs)
    if top is not None and "loss" in kinds and not look.log:
        number = kinds.index("loss")
        layout[f"yaxis{number + 1 if number else ''}"]["range"] = [0, top]
        layout["annotations"][number]["text"] += " (peaks are cut off)"
    return {"data": data, "layout": layout}


def clipped(values: Sequence[float | None]) -> float | None:
    """Return where to end the axis of a loss that exploded for a few epochs; None if all of it can be shown.

    Examples
    --------
    >>> clipped([2.0, 1.0, 2491.0, *[1.0] * 20]), clipped([2.2, 1.0, 0.1])
    (2.1, None)
    """
    there = sorted(value for value in values if value is not None and math.isfinite(value))
    usual = there[int(0.9 * (len(there) - 1))] if there else 0.0
    if not there or there[-1] <= EXPLODED * usual:
        return None
    return 1.05 * max(value for value in there if value <= EXPLODED * usual / 5)


def _without_holes(history: Sequence[EpochEvent]) -> tuple[list[int], list[EpochEvent]]:
    """Return all numbers from the first epoch to the last, and an event for each; an empty one in a hole."""
    if not history:
        return [], []
    there = {event.epoch: event for event in history}
    numbers = list(range(history[0].epoch, history[-1].epoch + 1))
    nothing = float("nan")
    hole = EpochEvent(
        epoch=0, epochs=0, best=False, train_loss=nothing, train_dice=nothing, val_loss=nothing,
        val_dice=nothing, learning_rate=nothing, patches_per_second=nothing, seconds=nothing,
        val_dice_per_class={}, val_iou_per_class={},
    )  # fmt: skip
    return numbers, [there.get(number, hole) for number in numbers]


def _axes(number: int) -> tuple[str, str]:
    return ("x", "y") if number == 1 else (f"x{number}", f"y{number}")


def _nothing(number: int) -> Part:
    """Return a curve without points: a chart that has none at all would not be drawn."""
    x, y = _axes(number)
    return {"type": "scatter", "x": [], "y": [], "xaxis": x, "yaxis": y, "showlegend": False}


def _traces(series: Series, epochs: list[int], number: int, look: Look, listed: bool) -> list[Part]:
    x, y = _axes(number)
    trace: Part = {
        "type": "scatter", "x": epochs, "y": series.short, "xaxis": x, "yaxis": y,
        "name": series.name, "legendgroup": series.name, "showlegend": listed,
        "mode": "lines+markers" if len(epochs) <= MARKERS_UP_TO else "lines",
        "line": {"color": series.colour, "width": 2}, "marker": {"color": series.colour, "size": 5},
        "hovertemplate": f"{series.name} %{{y:.4g}}<extra>epoch %{{x}}</extra>",
    }  # fmt: skip
    if not look.smoothing:
        return [trace]
    raw = trace | {"opacity": 0.3, "hoverinfo": "skip", "showlegend": False, "mode": "lines"}
    raw |= {"name": f"{series.name} as measured", "line": {"color": series.colour, "width": 1}}
    del raw["hovertemplate"]
    return [
        raw,
        trace | {"y": [rounded(value) for value in smooth(series.values, look.smoothing)], "mode": "lines"},
    ]


def _points(series: Series, epochs: list[int], number: int, marks: Marks, listed: bool) -> list[Part]:
    """Return the saved epochs, bold, and the best one, a star, on one of the curves of a chart."""
    x, y = _axes(number)
    value = dict(zip(epochs, series.short, strict=True))
    common: Part = {"type": "scatter", "mode": "markers", "xaxis": x, "yaxis": y}
    found: list[Part] = []
    kept = [epoch for epoch in marks.kept if value.get(epoch) is not None]
    if kept:
        marker = {"size": 11, "color": series.colour, "line": {"color": "white", "width": 2}}
        found.append(
            common | {
                "x": kept, "y": [value[epoch] for epoch in kept], "name": "saved", "legendgroup": "saved",
                "marker": marker, "showlegend": listed,
                "hovertemplate": "saved, click to look at it<extra>epoch %{x}</extra>",
            }
        )  # fmt: skip
    if marks.best is not None and value.get(marks.best) is not None:
        found.append(
            common | {
                "x": [marks.best], "y": [value[marks.best]], "name": f"best: epoch {marks.best}",
                "legendgroup": "best", "showlegend": listed,
                "marker": {"symbol": "star", "size": 13, "color": BEST},
                "hovertemplate": "best %{y:.4g}<extra>epoch %{x}</extra>",
            }
        )  # fmt: skip
    return found


def _layout(kinds: list[str], look: Look, marks: Marks, epochs: list[int]) -> Part:
    clickable = {*marks.kept} | ({marks.best} if marks.best is not None else set())
    layout: Part = {
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"color": TEXT, "size": 13}, "margin": {"l": 50, "r": 12, "t": 64, "b": 44},
        "legend": {"orientation": "h", "yanchor": "top", "yref": "container", "y": 1, "x": 0},
        "hovermode": "x",
        # The same token keeps the reader's zoom and hidden curves when new epochs arrive.
        "uirevision": "keep",
        "grid": {
            "rows": max(-(-len(kinds) // 2), 1), "columns": 1 + (len(kinds) > 1), "pattern": "independent",
        },
        # For the script that draws: how many charts to arrange, which epochs exist, which can be clicked.
        "meta": {
            "charts": len(kinds), "first": epochs[0] if epochs else 1, "last": epochs[-1] if epochs else 10,
            "clickable": sorted(clickable),
        },
        "annotations": [], "shapes": [],
    }  # fmt: skip
    for number, kind in enumerate(kinds, start=1):
        x, y = _axes(number)
        layout[f"xaxis{x[1:]}"] = {
            "gridcolor": GRID, "zeroline": False, "tickformat": "d", "automargin": True,
            "title": {"text": "epoch", "standoff": 4},
            **({"matches": "x"} if number > 1 else {}),
            # With few epochs fractions of an epoch would be labelled.
            **({"dtick": 1} if len(epochs) < 10 else {}),
        }  # fmt: skip
        layout[f"yaxis{y[1:]}"] = _vertical(kind, look)
        layout["annotations"].append(_label(number, f"<b>{KINDS[kind].title}</b>", 0))
        layout["shapes"] += _lines(number, marks, epochs)
    layout["annotations"] += _remarks(marks, epochs) if kinds else []
    return layout


def _vertical(kind: str, look: Look) -> Part:
    axis: Part = {"gridcolor": GRID, "zeroline": False, "automargin": True, "tickformat": ".3~g"}
    if KINDS[kind].share:
        return axis | {"range": [0, 1.02]}
    if look.log and KINDS[kind].log:
        return axis | {"type": "log", "exponentformat": "power", "tickformat": ""}
    return axis | {"rangemode": "tozero", **({"exponentformat": "power"} if kind == "learning_rate" else {})}


def _lines(number: int, marks: Marks, epochs: list[int]) -> list[Part]:
    x, y = _axes(number)
    place: Part = {"xref": x, "yref": f"{y} domain", "y0": 0, "y1": 1, "layer": "below"}

    def upright(at: float, colour: str, dash: str) -> Part:
        return place | {
            "type": "line",
            "x0": at,
            "x1": at,
            "line": {"color": colour, "width": 1.5, "dash": dash},
        }

    found = []
    if start := plateau(marks, epochs):
        found.append(
            place | {"type": "rect", "x0": start, "x1": epochs[-1], "fillcolor": SHADE, "line": {"width": 0}}
        )
    if marks.best is not None:
        found.append(upright(marks.best, BEST, "dot"))
    found += [upright(one.epoch + 0.5, TEXT, "dot") for one in _shown(marks.resumes, epochs)]
    return found + [upright(one.epoch + 0.5, TROUBLE, "dash") for one in _shown(marks.interventions, epochs)]


def plateau(marks: Marks, epochs: Sequence[int]) -> int | None:
    """Return the epoch from which there was no gain, None if the stretch is too short to speak of."""
    if not epochs or marks.gain is None or epochs[-1] - marks.gain < PLATEAU_FROM:
        return None
    return marks.gain


def _remarks(marks: Marks, epochs: list[int]) -> list[Part]:
    """Return the words at the lines, in the first chart only: the lines go through all of them."""
    found = []
    if start := plateau(marks, epochs):
        count = epochs[-1] - start
        found.append(_label(1, "no gain", start, f"No gain in validation Dice for {count} epochs", "top"))
    for one in _shown(marks.resumes, epochs):
        found.append(
            _label(1, "↻", one.epoch + 0.5, f"Went on from the checkpoint of epoch {one.epoch}", "top")
        )
    for change in _shown(marks.interventions, epochs):
        text = "<br>".join(part for part in (change.text, change.cause, change.action) if part)
        found.append(_label(1, f"▲{change.number}", change.epoch + 0.5, f"Autopilot<br>{text}", "top"))
    return found


def _shown(events: Iterable[Any], epochs: list[int]) -> list[Any]:
    """Return the last of the events that lie within the curves."""
    inside = [one for one in events if epochs and epochs[0] <= one.epoch <= epochs[-1]]
    return inside[-MOST_MARKS:]


def _label(number: int, text: str, at: float, told: str = "", anchor: str = "bottom") -> Part:
    x, y = _axes(number)
    return {
        "text": text, "x": at, "y": 1, "xref": x if told else f"{x} domain", "yref": f"{y} domain",
        "xanchor": "left", "yanchor": anchor, "showarrow": False, "align": "left",
        **({"hovertext": told, "captureevents": True, "font": {"size": 11}} if told else {}),
    }  # fmt: skip
