"""Insight: what lies in the chosen data: the doctor's proposals, classes with weights, grey values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from app import doctor_panel
from app.distribution import channels_html, normalizations_html
from app.examinations import Examination
from app.forms import DATA, check, from_config, read_training, shown_data, training_fields
from app.services import Services
from app.session import Problem, attempt
from app.views import mark_html, share_text, table_html
from segcore.config import DataConfig, RunConfig
from segcore.data.doctor.proposal import ClassRow, Diagnosis, accept

FIELDS = training_fields()
SECONDS = 1.0
MOST_CLASSES = 16
"""More values are objects with a number each, for which weights mean nothing."""
LISTED = 12
"""Images whose classes are listed one by one."""
KINDS = {"inverse": "Inverse", "square-root": "Square root", "median-frequency": "Median frequency"}
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": 4}


@dataclass(frozen=True)
class Insight:
    """The components; all but the timer are hidden until labelled images are chosen."""

    timer: gr.Timer
    doctor_box: gr.Accordion
    doctor: gr.HTML
    classes_box: gr.Accordion
    classes: gr.HTML
    weights: gr.Radio
    grey_box: gr.Accordion
    grey: gr.HTML
    normalization: gr.Radio
    per: gr.Radio

    @property
    def shown(self) -> list[gr.blocks.Block]:
        """What `show` updates."""
        return [getattr(self, name) for name in self.__dataclass_fields__]


def build_doctor() -> tuple[gr.Accordion, gr.HTML]:
    """Build the doctor's part in the current layout."""
    with gr.Accordion("Data doctor", open=True, visible=False, elem_id="doctor") as box:
        panel = doctor_panel.doctor_panel("doctor-proposals")
    return box, panel


def build(doctor: tuple[gr.Accordion, gr.HTML]) -> Insight:
    """Build classes and grey values in the current layout, beside the doctor's part."""
    defaults = RunConfig().data
    with gr.Accordion("Classes and weights", open=False, visible=False, elem_id="class-box") as classes_box:
        classes = gr.HTML(elem_id="class-table")
        weights = gr.Radio(
            [("None", "none"), *((text, kind) for kind, text in KINDS.items())], value="none",
            label="Use these weights in the loss", elem_id="use-weights",
        )  # fmt: skip
    with gr.Accordion(
        "Grey values and normalisation", open=False, visible=False, elem_id="grey-box"
    ) as grey_box:
        grey = gr.HTML(elem_id="grey-charts")
        with gr.Row():
            choices = {field.path: list(field.choices) for field in FIELDS}
            normalization = gr.Radio(
                choices["data.normalization"], value=defaults.normalization, label="Normalisation",
                elem_id="use-normalization",
            )  # fmt: skip
            per = gr.Radio(
                choices["data.normalize_per"], value=defaults.normalize_per, label="Statistics from",
                elem_id="use-per",
            )  # fmt: skip
    timer = gr.Timer(SECONDS, active=False)
    return Insight(timer, *doctor, classes_box, classes, weights, grey_box, grey, normalization, per)


def wire(services: Services, panel: Insight, data: Sequence[Any], values: Sequence[Any]) -> None:
    """Connect the panel with the components of step 1 (in the order of `DATA`) and of step 2."""
    inputs, count = [*data, *values], len(data)
    panel.timer.tick(lambda *seen: show(services, seen[:count], seen[count:]), inputs, panel.shown, **QUIET)

    def apply(event: gr.EventData, *seen: Any) -> list[Any]:
        return apply_proposal(services, doctor_panel.chosen_key(event), seen[:count], seen[count:])

    def undo(event: gr.EventData, *seen: Any) -> list[Any]:
        return undo_line(doctor_panel.chosen_line(event), seen[:count], seen[count:])

    panel.doctor.apply(apply, inputs, inputs, **QUIET)
    panel.doctor.undo(undo, inputs, inputs, **QUIET)
    places = {field.path: item for field, item in zip(FIELDS, values, strict=True)}
    panel.weights.input(lambda kind: kind, panel.weights, places["training.class_weights"], **QUIET)
    gr.on(
        [panel.normalization.input, panel.per.input],
        lambda kind, per, *seen: (
            kind, per, grey_html(_examined(services, seen[:count], seen[count:]), f"{kind}, {per}"),
        ),
        [panel.normalization, panel.per, *inputs],
        [places["data.normalization"], places["data.normalize_per"], panel.grey], **QUIET,
    )  # fmt: skip


def show(services: Services, data: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """Return updates of `Insight.shown` for what steps 1 and 2 show."""
    config = read(data, values)
    if config is None or not (config.data.images and config.data.labels):
        hidden = gr.Accordion(visible=False)
        return [
            gr.Timer(active=False), hidden, {}, hidden, "", gr.skip(), hidden, "", gr.skip(), gr.skip(),
        ]  # fmt: skip
    found = attempt(lambda: services.examinations.of(config.data))
    examination = Examination(problem=found) if isinstance(found, Problem) else found
    options, diagnosis = config.data, examination.diagnosis
    names = options.class_names
    return [
        gr.Timer(active=examination.pending),
        gr.Accordion(label=doctor_panel.badge(examination), visible=True),
        doctor_panel.doctor_value(examination, options),
        gr.Accordion(visible=bool(diagnosis and diagnosis.rows)),
        classes_html(diagnosis, names) if diagnosis else "",
        config.training.class_weights if config.training.class_weights in ("none", *KINDS) else None,
        gr.Accordion(visible=bool(diagnosis and diagnosis.raw)),
        grey_html(diagnosis, f"{options.normalization}, {options.normalize_per}", options.channel_names),
        options.normalization,
        options.normalize_per,
    ]


def apply_proposal(services: Services, key: str, data: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """Return updates of the components of steps 1 and 2 with the repair of a proposal."""
    config, diagnosis = read(data, values), _examined(services, data, values)
    proposal = doctor_panel.find(diagnosis.proposals, key) if diagnosis else None
    if config is None or proposal is None:
        return [gr.skip()] * (len(data) + len(values))
    changed = attempt(lambda: accept(config.data, [proposal]))
    return _changes(config, config.data if isinstance(changed, Problem) else changed)


def undo_line(line: str, data: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """Return updates of the components of steps 1 and 2 without one line of the recipe."""
    config = read(data, values)
    if config is None:
        return [gr.skip()] * (len(data) + len(values))
    return _changes(config, doctor_panel.without(config.data, line))


def classes_html(diagnosis: Diagnosis, names: Sequence[str] = ()) -> str:
    """Return the pixels of every class in every image, and the weights that are suggested."""
    every = {value for row in diagnosis.rows for value in row.pixels}
    if len(every) > MOST_CLASSES:
        return mark_html("info", f"The labels hold {len(every)} values: numbered objects, not classes.")
    classes = sorted(every)
    titles = [str(value) for value in classes]
    if len(names) == len(classes):
        titles = [f"{value} {name}" for value, name in zip(classes, names, strict=True)]
    rows = [_class_row(row, classes) for row in diagnosis.rows[:LISTED]]
    total = {value: sum(row.pixels.get(value, 0) for row in diagnosis.rows) for value in classes}
    everything = sum(row.slices for row in diagnosis.rows), sum(row.of for row in diagnosis.rows)
    if len(diagnosis.rows) > 1:
        rows.insert(0, _class_row(ClassRow("In all", total, *everything), classes))
    weights = [
        (text, "", *(f"{diagnosis.weights[kind].get(value, 1.0):.3g}" for value in classes))
        for kind, text in KINDS.items()
        if kind in diagnosis.weights
    ]
    more = len(diagnosis.rows) - LISTED
    tail = f'<p class="subdued">and {more} more images</p>' if more > 0 else ""
    suggested = table_html(("", "", *titles), weights, "Suggested weights") if weights else ""
    return table_html(("Image", "Slices", *titles), rows, "Share of the pixels") + tail + suggested


def grey_html(diagnosis: Diagnosis | None, chosen: str, names: Sequence[str] = ()) -> str:
    """Return the grey values of every channel, and what each normalisation makes of the first."""
    if diagnosis is None or not diagnosis.raw:
        return ""
    effects: dict[str, list[Any]] = {}
    for one in diagnosis.normalized:
        effects.setdefault(f"{one.kind}, {one.per}", []).append(one.histogram)
    text = f'<p class="subdued">What the network sees; in use: {escape(chosen)}</p>' if effects else ""
    return channels_html(diagnosis.raw, names) + text + normalizations_html(effects, chosen)


def read(data: Sequence[Any], values: Sequence[Any]) -> RunConfig | None:
    """Return the options that steps 1 and 2 show, None if some are impossible."""
    return check(read_training(values, dict(zip(DATA, data, strict=True))))[0]


def _examined(services: Services, data: Sequence[Any], values: Sequence[Any]) -> Diagnosis | None:
    config = read(data, values)
    if config is None or not (config.data.images and config.data.labels):
        return None
    found = attempt(lambda: services.examinations.of(config.data))
    return None if isinstance(found, Problem) else found.diagnosis


def _changes(config: RunConfig, changed: DataConfig) -> list[Any]:
    """Return updates of all components; those that stay as they are are not touched."""
    before, after = shown_data(config.data), shown_data(changed)
    updates = [gr.skip() if before[name] == after[name] else after[name] for name in DATA]
    new = config.model_copy(update={"data": changed})
    for one, other in zip(from_config(config, FIELDS), from_config(new, FIELDS), strict=True):
        updates.append(gr.skip() if one == other else other)
    return updates


def _class_row(row: ClassRow, classes: Sequence[int]) -> tuple[str, ...]:
    slices = str(row.of) if row.slices == row.of else f"{row.slices} of {row.of}"
    total = row.total or 1
    return (row.name, slices, *(share_text(row.pixels.get(value, 0) / total) for value in classes))
