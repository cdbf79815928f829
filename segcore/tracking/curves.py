"""The curves of a training as a picture: loss and Dice per epoch, the best epoch marked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from segcore.events import EpochEvent
from segcore.files import atomic_path
from segcore.tracking.record import best_epoch

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TRAIN = "#0072B2"
VALIDATION = "#E69F00"


def draw_curves(history: list[EpochEvent], path: Path, title: str = "") -> None:
    """Draw loss and Dice of training and validation into the PNG `path`.

    Parameters
    ----------
    history : list of EpochEvent
        The epochs, ascending; at least one.
    path : Path
        The picture; replaced atomically.
    title : str
        Written above the curves.
    """
    # Figures made without pyplot belong to nobody else: no global state, no window system.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    loss, dice = figure.subplots(1, 2)
    _curve(loss, history, "loss")
    _curve(dice, history, "dice")
    loss.set_ylabel("Loss")
    dice.set_ylabel("Dice")
    dice.set_ylim(0, 1)
    dice.legend(loc="lower right")
    if title:
        figure.suptitle(title)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _curve(axes: Axes, history: list[EpochEvent], name: str) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs = [event.epoch for event in history]
    marker = "o" if len(history) == 1 else None  # a line through one point is invisible
    for part, label, colour in (("train", "Training", TRAIN), ("val", "Validation", VALIDATION)):
        values = [getattr(event, f"{part}_{name}") for event in history]
        axes.plot(epochs, values, color=colour, label=label, marker=marker)
    best = best_epoch(history)
    if best is not None:
        value = getattr(best, f"val_{name}")
        axes.axvline(best.epoch, color="0.6", linewidth=1, linestyle=":")
        axes.plot(
            [best.epoch],
            [value],
            "*",
            color=VALIDATION,
            markersize=12,
            markeredgecolor="black",
            label=f"Best: epoch {best.epoch}",
        )
    axes.set_xlabel("Epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
