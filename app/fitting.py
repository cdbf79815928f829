"""Fitting: whether chosen images suit a chosen model, by channels, pixel size and grey values."""

from __future__ import annotations

from dataclasses import dataclass

from app.distribution import channels_html
from app.services import Services
from app.session import Problem
from app.views import bytes_text, duration_text, mark_html
from segcore.card import ModelCard
from segcore.config import DataConfig
from segcore.data.comparison import Comparison, compare_grey_values
from segcore.data.suitability import SIZE_TOLERANCE, as_trained, check_image, pixel_sizes
from segcore.errors import JobError, ModelError
from segcore.inference.needs import Needs


@dataclass(frozen=True)
class Fit:
    """What is known before a segmentation about images and model.

    Parameters
    ----------
    warnings : tuple of str
        Differences that may spoil the result.
    problem : Problem, optional
        Why the model cannot be applied.
    comparison : Comparison, optional
        The grey values, where the model knows those of its training images.
    rescalable : bool
        Whether the pixel sizes differ and both are known.
    axes : str
        Axes of the training images.
    """

    warnings: tuple[str, ...] = ()
    problem: Problem | None = None
    comparison: Comparison | None = None
    rescalable: bool = False
    axes: str = ""


def fit(services: Services, model: str, config_file: str, data: DataConfig, rescale: bool) -> Fit | None:
    """Return how images and model fit; None where nobody can say before the segmentation begins.

    Raises
    ------
    SegcoreError
        The images or the model cannot be read.
    """
    found = described(services, model, config_file)
    if found is None or not data.images:
        return None
    card, trained = found
    data = as_trained(data.model_copy(update={"labels": None, "mask": None, "sets": []}), trained)
    collection = services.data.collection(data, labelled=False)
    images = collection.open(0).images
    if card.channels == 3 and images.channels == 1:
        return Fit(axes=card.axes)  # grey images are read as three equal channels
    try:
        warnings = check_image(images, card, rescale)
    except ModelError as error:
        return Fit(problem=Problem(error.message, error.remedy))
    far = [abs(here / then - 1) for _, here, then in pixel_sizes(images.source.pixel_size, card)]
    same_maps = card.normalization.per == "set"
    comparison = compare_grey_values(collection, card) if same_maps else None
    return Fit(tuple(warnings), None, comparison, any(one > SIZE_TOLERANCE for one in far), card.axes)


def described(services: Services, model: str, config_file: str = "") -> tuple[ModelCard, DataConfig] | None:
    """Return the card of a model and the options of the data it was trained on.

    Parameters
    ----------
    services : Services
        The door to the engine.
    model : str
        Id of a run, path of a `.pth` in the workspace, or a registered model.
    config_file : str
        Path of the `config.json` that belongs to a `.pth`.
    """
    found = services.segmentations.described(model, config_file)
    return (found[0], found[1].data) if found else None


def fit_html(found: Fit | Problem | None) -> str:
    """Return what is to be said about images and model, "" if nothing is known."""
    if found is None:
        return ""
    if isinstance(found, Problem) or found.problem is not None:
        problem = found if isinstance(found, Problem) else found.problem
        return mark_html("error", problem.message, problem.remedy) if problem else ""
    lines = [mark_html("warning", text) for text in found.warnings]
    charts = ""
    if found.comparison is not None:
        note = found.comparison.warning()
        if note is not None:
            lines.append(mark_html("warning", note.text, note.remedy))
        names = [name.rstrip(":") for name in found.comparison.names if name]
        shown = channels_html(found.comparison.trained, names, found.comparison.new)
        charts = f"<details><summary>Grey values beside those of the training</summary>{shown}</details>"
    if not lines:
        lines = [mark_html("ok", "The images suit the model.")]
    return f'<div role="status" aria-live="polite">{"".join(lines)}</div>{charts}'


def needs_html(needs: Needs | None, file_format: str) -> str:
    """Return what a segmentation needs beside what there is, "" if nobody can say."""
    if needs is None:
        return ""
    rows = []
    if needs.memory is not None:
        rows.append(("Memory", f"about {bytes_text(needs.memory)} of {bytes_text(needs.available)} free"))
    parts = f" ({bytes_text(needs.probabilities)} of it probabilities)" if needs.probabilities else ""
    rows.append(("Disk space", f"{bytes_text(needs.disk)} at most{parts}, {bytes_text(needs.free)} free"))
    if needs.seconds is not None:
        text = f"about {duration_text(needs.seconds)}" if needs.seconds >= 10 else "seconds"
        rows.append(("Time", f"{text} on this machine"))
    items = "".join(f"<dt>{name}</dt><dd>{text}</dd>" for name, text in rows)
    trouble = ""
    try:
        needs.check_disk(file_format)
    except JobError as error:
        trouble = mark_html("error", error.message, error.remedy)
    if needs.memory is not None and needs.memory > needs.available:
        trouble += mark_html(
            "warning", "Memory is short.", "Close other programs, or choose a smaller tile size."
        )
    return f'<dl class="cost-list" id="infer-needs" style="margin-top:0.6em">{items}</dl>{trouble}'
