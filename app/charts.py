"""Charts of what the network learned: loss and Dice by epoch, of one run or of several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.views import class_colour
from segcore.events import EpochEvent

TRAIN = "#0072B2"
VALIDATION = "#E69F00"
BEST = "#009E73"
GRID = "rgba(128,128,128,0.25)"
TEXT = "#808080"  # readable on white and on near-black: the page may be light or dark
MARKERS_UP_TO = 60
METRICS = {
    "val_dice": "Validation Dice",
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
    figure = make_subplots(rows=1, cols=2, subplot_titles=("Loss", "Dice"), horizontal_spacing=0.1)
    epochs = [event.epoch for event in history]
    mode = "lines+markers" if len(epochs) <= MARKERS_UP_TO else "lines"
    for column, metric in ((1, "loss"), (2, "dice")):
        for prefix, name, colour in (("train", "training", TRAIN), ("val", "validation", VALIDATION)):
            values = [_finite(getattr(event, f"{prefix}_{metric}")) for event in history]
            figure.add_trace(
                go.Scatter(
                    x=epochs, y=values, name=name, mode=mode, legendgroup=prefix, showlegend=column == 1,
                    line={"color": colour, "width": 2}, marker={"color": colour, "size": 5},
                    hovertemplate=f"{name} %{{y:.4f}}<extra>epoch %{{x}}</extra>",
                ),
                row=1, col=column,
            )  # fmt: skip
    _mark_best(figure, history, best)
    _style(figure)
    figure.update_xaxes(title_text="epoch")
    if not history:
        figure.update_xaxes(range=[0.5, 10.5])  # else plotly labels epochs before the first
    # The title of each chart names its vertical axis: on a narrow screen there is no room to say it twice.
    figure.update_yaxes(rangemode="tozero", row=1, col=1)
    figure.update_yaxes(range=[0, 1.02], row=1, col=2)
    return figure


def compare(histories: Mapping[str, Sequence[EpochEvent]], metric: str = "val_dice") -> go.Figure:
    """Draw one metric of several runs over each other.

    Parameters
    ----------
    histories : mapping of str to sequence of EpochEvent
        The epochs by the run's name; the order decides the colours.
    metric : str
        A key of `METRICS`.
    """
    figure = go.Figure()
    for index, (name, history) in enumerate(histories.items()):
        mode = "lines+markers" if len(history) <= MARKERS_UP_TO else "lines"
        colour = class_colour(index)
        figure.add_trace(
            go.Scatter(
                x=[event.epoch for event in history],
                y=[_finite(getattr(event, metric)) for event in history],
                name=name, mode=mode, line={"color": colour, "width": 2}, marker={"color": colour, "size": 5},
                hovertemplate="%{y:.4g}<extra>%{fullData.name}, epoch %{x}</extra>",
            )
        )  # fmt: skip
    _style(figure)
    figure.update_layout(showlegend=True)
    figure.update_xaxes(title_text="epoch")
    figure.update_yaxes(title_text=METRICS[metric])
    if metric.endswith("_dice"):
        figure.update_yaxes(range=[0, 1.02])
    elif metric.endswith("_loss"):
        figure.update_yaxes(rangemode="tozero")
    return figure


def best_epoch(history: Sequence[EpochEvent]) -> EpochEvent | None:
    """Return the epoch whose model is kept: the last one that was the best when it ended."""
    return next((event for event in reversed(history) if event.best), None)


def _mark_best(figure: go.Figure, history: Sequence[EpochEvent], best: int | None) -> None:
    marked = best_epoch(history)
    if best is not None:
        marked = next((event for event in history if event.epoch == best), None)
    if marked is None:
        return
    figure.add_vline(x=marked.epoch, line={"color": BEST, "width": 1, "dash": "dot"})
    figure.add_trace(
        go.Scatter(
            x=[marked.epoch], y=[marked.val_dice], name=f"best: epoch {marked.epoch}", mode="markers",
            marker={"symbol": "star", "size": 13, "color": BEST},
            hovertemplate="best %{y:.4f}<extra>epoch %{x}</extra>",
        ),
        row=1, col=2,
    )  # fmt: skip


def _style(figure: go.Figure) -> None:
    figure.update_layout(
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font={"color": TEXT, "size": 13},
        margin={"l": 55, "r": 15, "t": 60, "b": 50}, height=360, hovermode="x",
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.1, "x": 0},
        # The same token keeps the reader's zoom and hidden curves when the figure is drawn anew.
        uirevision="keep",
    )  # fmt: skip
    figure.update_xaxes(gridcolor=GRID, zeroline=False, tickformat="d", automargin=True)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, automargin=True)
    # With few epochs plotly would label fractions of an epoch.
    if max((len(trace.x) for trace in figure.data), default=0) < 10:
        figure.update_xaxes(dtick=1)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
