"""Charts of what the network learned: loss and Dice by epoch, of one run or of several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from app.curves import GRID, MARKERS_UP_TO, TEXT, Marks, figure
from app.views import class_colour
from segcore.events import EpochEvent

HEIGHT = 360
METRICS = {
    "val_dice": "Validation Dice",
    "val_f1": "F1 of objects",
    "val_loss": "Validation loss",
    "train_dice": "Training Dice",
    "train_loss": "Training loss",
    "learning_rate": "Learning rate",
}


def curves(history: Sequence[EpochEvent], best: int | None = None) -> go.Figure:
    """Draw loss and Dice of one run, training blue and validation orange.

    Parameters
    ----------
    history : sequence of EpochEvent
        The epochs so far, ascending; may be empty.
    best : int, optional
        The epoch to mark; by default the last one that was the best when it ended.
    """
    epoch = best_epoch(history)
    marked = best if best is not None or epoch is None else epoch.epoch
    drawn = go.Figure(figure(history, marks=Marks(best=marked)))
    drawn.update_layout(height=HEIGHT)
    return drawn


def compare(histories: Mapping[str, Sequence[EpochEvent]], metric: str = "val_dice") -> go.Figure:
    """Draw one metric of several runs over each other.

    Parameters
    ----------
    histories : mapping of str to sequence of EpochEvent
        The epochs by the run's name; the order decides the colours.
    metric : str
        A key of `METRICS`.
    """
    chart = go.Figure()
    for index, (name, history) in enumerate(histories.items()):
        mode = "lines+markers" if len(history) <= MARKERS_UP_TO else "lines"
        colour = class_colour(index)
        chart.add_trace(
            go.Scatter(
                x=[event.epoch for event in history],
                y=[_finite(getattr(event, metric)) for event in history],
                name=name, mode=mode, line={"color": colour, "width": 2}, marker={"color": colour, "size": 5},
                hovertemplate="%{y:.4g}<extra>%{fullData.name}, epoch %{x}</extra>",
            )
        )  # fmt: skip
    _style(chart)
    chart.update_layout(showlegend=True)
    chart.update_xaxes(title_text="epoch")
    chart.update_yaxes(title_text=METRICS[metric])
    if metric.endswith(("_dice", "_f1")):
        chart.update_yaxes(range=[0, 1.02])
    elif metric.endswith("_loss"):
        chart.update_yaxes(rangemode="tozero")
    return chart


def best_epoch(history: Sequence[EpochEvent]) -> EpochEvent | None:
    """Return the epoch whose model is kept: the last one that was the best when it ended."""
    return next((event for event in reversed(history) if event.best), None)


def _style(chart: go.Figure) -> None:
    chart.update_layout(
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font={"color": TEXT, "size": 13},
        margin={"l": 55, "r": 15, "t": 60, "b": 50}, height=HEIGHT, hovermode="x",
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.1, "x": 0},
        # The same token keeps the reader's zoom and hidden curves when the figure is drawn anew.
        uirevision="keep",
    )  # fmt: skip
    chart.update_xaxes(gridcolor=GRID, zeroline=False, tickformat="d", automargin=True)
    chart.update_yaxes(gridcolor=GRID, zeroline=False, automargin=True)
    # With few epochs plotly would label fractions of an epoch.
    if max((len(trace.x) for trace in chart.data), default=0) < 10:
        chart.update_xaxes(dtick=1)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
