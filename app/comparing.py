"""Comparing: a model's segmentation against annotations, in step 4: what to ask for, and what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from app import views
from app.files_input import FileInput, file_input
from app.jobview import JobView
from app.outcome import download_html, model_html
from app.preview import DIMMED, empty_html, frame_html
from app.services import Services
from app.session import Problem, attempt
from segcore.jobs.comparison import (
    LONGEST_SIDE,
    TABLE,
    UNANNOTATED,
    Comparison,
    ScoredSlice,
    read_comparison,
    read_picture,
)
from segcore.jobs.job import COMPARISON

PARTS = (
    ("These images, with annotations", "default"),
    ("The model's validation images", "validation"),
    ("The model's test images", "test"),
    ("All annotated images of the model's training", "all"),
)
COUNTED = {
    "all": "all annotated slices",
    "validation": "what validated the model",
    "test": "what the training kept for the test",
}
COLOURS = {"agreement": "#56B4E9", "too much": "#D55E00", "missed": "#F0E442"}
"""Okabe and Ito's sky blue, vermillion and yellow: told apart with any colour vision, also on grey."""
SCORES = {"dice": "Dice", "iou": "IoU"}
"""Words for what stands in `val_…_per_class`."""


@dataclass(frozen=True)
class Choice:
    """The components with which a comparison is asked for."""

    part: gr.Radio
    labels: FileInput
    start: gr.Button


def build(services: Services) -> Choice:
    """Build them in the current layout, folded."""
    with gr.Accordion("Compare with annotations", open=False, elem_id="compare"):
        part = gr.Radio(
            list(PARTS), value="default", label="Compare on", elem_id="compare-part",
            info="Scores of images the model has learned from flatter it; choose others where you can.",
        )  # fmt: skip
        with gr.Column(min_width=0) as own:
            labels = file_input(services, "Annotations of the images above", name="compare-labels")
        start = gr.Button("Compare", elem_id="run-comparison")
    part.change(
        lambda chosen: gr.Column(visible=chosen == "default"), part, own, show_progress="hidden",
        api_visibility="private",
    )  # fmt: skip
    return Choice(part, labels, start)


def found(view: JobView) -> Comparison | None:
    """Return what a finished evaluation found slice by slice."""
    return read_comparison(view.folder) if view.evaluates else None


def choose(services: Services, view: JobView, value: str | None, opacity: float) -> tuple[Any, Any, Any]:
    """Return updates of picture, sliders and slice for a class: its worst slice comes first."""
    comparison = found(view)
    if comparison is None or not comparison.worst:
        return empty_html("The pictures of this evaluation are not there any more."), gr.skip(), gr.skip()
    count = len(comparison.worst)
    slider = gr.Slider(
        1, max(count, 2), value=1, step=1, visible=count > 1, label=f"Slice, the worst of {count} first"
    )
    return draw(services, view, value, 1, opacity), gr.Row(visible=True), slider


def classes(view: JobView, comparison: Comparison) -> list[tuple[str, str]]:
    """Return label and value of every class, the one with the worst Dice first."""
    dice = view.results.get("val_dice_per_class", {})
    values = sorted(map(str, comparison.class_values), key=lambda value: dice.get(value, 2.0))
    return [(_class_text(view, value), value) for value in values]


def draw(services: Services, view: JobView, value: str | None, rank: int, opacity: float) -> str:
    """Return the image of a slice beside the same with what agrees, is too much and is missed of a class.

    Parameters
    ----------
    services : Services
        Reads the image.
    view : JobView
        The evaluation.
    value : str, optional
        Label value of the class; by default that with the worst Dice.
    rank : int
        1 for the slice in which the class scores worst.
    opacity : float
        Of the colours, 0 to 100.
    """
    comparison = found(view)
    if comparison is None or not comparison.worst:
        return empty_html("The pictures of this evaluation are not there any more.")
    known = [one for _, one in classes(view, comparison)]
    value = value if value in known else known[0]
    ranked = sorted(comparison.worst, key=lambda scored: (scored.dice.get(value, 2.0), scored.index))
    scored = ranked[min(max(rank, 1), len(ranked)) - 1]
    shown_2YX = read_picture(view.folder, scored.index)
    if shown_2YX is None:
        return empty_html("The picture of this slice is not there any more.")
    shot = attempt(lambda: services.data.shot(comparison.data, scored.index, LONGEST_SIDE))
    image_CYX = None if isinstance(shot, Problem) else shot.image_CYX
    if image_CYX is None or image_CYX.shape[1:] != shown_2YX.shape[1:]:  # deleted or changed since
        plain, gone = np.full((*shown_2YX.shape[1:], 3), 96, np.uint8), True
    else:
        plain, gone = views.overlay(image_CYX), False
    index = list(map(str, comparison.class_values)).index(value)
    picture = painted(plain, shown_2YX, index, opacity / 100)
    text = caption(view, scored, value)
    pictures = [(picture, escape(f"{text}: agreement, too much, missed"), escape(text))]
    if not gone:
        pictures.insert(0, (plain, escape(scored.name), "image"))
    return frame_html(pictures) + legend_html()


def painted(
    plain_YXC: NDArray[np.uint8], shown_2YX: NDArray[np.uint8], index: int, opacity: float
) -> NDArray[np.uint8]:
    """Return a picture `(Y, X, 3)` with a class painted over it; pixels that did not count are dark.

    Parameters
    ----------
    plain_YXC : ndarray
        The picture.
    shown_2YX : ndarray
        Predicted and annotated class index of every pixel, UNANNOTATED where it did not count.
    index : int
        The class.
    opacity : float
        0: only the picture, 1: only the colours.
    """
    predicted, annotated = shown_2YX == index
    picture = plain_YXC.astype(np.float32)
    where = {
        "agreement": predicted & annotated,
        "too much": predicted & ~annotated,
        "missed": annotated & ~predicted,
    }
    for name, colour in COLOURS.items():
        rgb = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)], np.float32)
        picture[where[name]] = (1 - opacity) * picture[where[name]] + opacity * rgb
    picture[shown_2YX[1] == UNANNOTATED] *= DIMMED
    return np.rint(picture).astype(np.uint8)


def caption(view: JobView, scored: ScoredSlice, value: str) -> str:
    """Return name and scores of a slice in words.

    A class that is neither annotated nor predicted there has none.
    """
    name = f"class {_class_text(view, value)}"
    if value not in scored.dice:
        return f"{scored.name}: nothing of {name}"
    return f"{scored.name}, {name}: Dice {scored.dice[value]:.3f}, IoU {scored.iou[value]:.3f}"


def legend_html() -> str:
    """Return what the colours mean."""
    items = "".join(
        f'<li><span class="swatch" style="background:{colour}" aria-hidden="true"></span>{name}</li>'
        for name, colour in COLOURS.items()
    )
    return f'<ul class="agreement" aria-label="Colours">{items}</ul>'


def classes_html(view: JobView) -> str:
    """Return the table of the classes with their mean, what counted, and where the rest is."""
    results = view.results
    kinds = [key[4:-10] for key in results if key.startswith("val_") and key.endswith("_per_class")]
    values = list(dict.fromkeys(value for kind in kinds for value in results[f"val_{kind}_per_class"]))
    rows = [
        (_class_text(view, value), *(_number(results[f"val_{kind}_per_class"].get(value)) for kind in kinds))
        for value in values
    ]
    rows.append(("Mean", *(_number(_mean(results, kind)) for kind in kinds)))
    head = ("Class", *(SCORES.get(kind, kind.capitalize()) for kind in kinds))
    numbers = {name: results.get(name, 0) for name in ("slices", "images")}
    slices, images = (f"{count} {name[: -1 if count == 1 else None]}" for name, count in numbers.items())
    part = COUNTED.get(str(results.get("part")), "")
    accuracy = results.get("val_accuracy")
    right = "" if accuracy is None else f" Right pixels: {views.share_text(accuracy)}."
    objects = "" if results.get("val_f1") is None else _objects_html(results)
    counted = f"<p>Counted: {slices} of {images}{f' ({part})' if part else ''}.{right}</p>"
    return views.table_html(head, rows) + objects + counted + _slices_html(view) + model_html(view)


def _objects_html(results: Mapping[str, Any]) -> str:
    """Return how many objects were found, and how well."""
    annotated, predicted = results.get("objects_annotated", 0), results.get("objects_predicted", 0)
    names = {"val_f1": "F1", "val_ap50": "average precision", "val_pq": "panoptic quality"}
    scores = ", ".join(f"{name} {_number(results.get(key))}" for key, name in names.items())
    return f"<p>Objects: {annotated} annotated, {predicted} predicted. At an overlap of 0.5: {scores}.</p>"


def downloads_html(view: JobView) -> str:
    """Return links to the scores of every slice and of the whole."""
    paths = (view.folder / COMPARISON / TABLE, view.folder / "results.json")
    texts = ("Download the scores of every slice", "results.json")
    links = "".join(
        download_html(view, path, text) for path, text in zip(paths, texts, strict=True) if path.exists()
    )
    return f'<div class="downloads">{links}</div>'


def _slices_html(view: JobView) -> str:
    """Return the folded table of the slices, the worst first."""
    comparison = found(view)
    if comparison is None:
        return ""
    values = [str(value) for value in comparison.class_values]
    apart = any(one.f1 is not None for one in comparison.worst)
    rows = [
        (
            one.name,
            *(_number(one.dice.get(value)) for value in values),
            _number(one.mean_dice),
            *([_number(one.f1)] if apart else []),
        )
        for one in comparison.worst
    ]
    dice = (f"Dice of class {_class_text(view, value)}" for value in values)
    head = ("Slice", *dice, "Mean", *(["F1 of objects"] if apart else []))
    table = views.table_html(head, rows)
    summary = "<summary>Slice by slice, the worst first</summary>"
    return f'<details>{summary}<div class="tall">{table}</div></details>'


def _mean(results: Mapping[str, Any], kind: str) -> float:
    """Return the mean over the classes: where the evaluation tells it, as it tells it."""
    told = results.get("val_dice" if kind == "dice" else f"mean_{kind}")
    scores = list(results[f"val_{kind}_per_class"].values())
    return float(told) if told is not None else sum(scores) / len(scores) if scores else float("nan")


def _class_text(view: JobView, value: str) -> str:
    name = view.class_names.get(int(value), "")
    return f"{value} {name}" if name else value


def _number(score: Any) -> str:
    return f"{score:.4f}" if isinstance(score, float | int) and np.isfinite(score) else "–"
