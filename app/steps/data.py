"""Step 1: choose images and annotations, see how they are read and what the check says; or choose a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.events import Dependency

from app import catalog, forms, insight, mask_panel, more_sets, reading_panel, views
from app.data_facts import Overview
from app.files_input import FileInput, file_input
from app.findings import findings_html, legend_html
from app.insight import Insight
from app.pretrained import Pretrained, build_pretrained
from app.preview import Scene, empty_html, picture_html
from app.services import Services
from app.session import Problem, attempt
from segcore.config import DataConfig, RunConfig
from segcore.data.report import Report

EMPTY = "Choose raw images and annotations,\nor try it with the sample data."
SMALLEST_PATCH = 32
"""Here only the data is judged; whether the chosen patch fits is said beside its field in step 2."""
SHOWN = (
    "findings", "swap", "foreground", "objects", "reading", "picture", "sliders", "plane", "legend", "next",
)  # fmt: skip


@dataclass(frozen=True)
class DataStep:
    """The components of step 1."""

    images: FileInput
    labels: FileInput
    mask: FileInput
    fields: dict[str, Any]
    """The options of `forms.DATA` that have a field, by name; repairs and further sets are hidden ones."""
    sets: more_sets.MoreSets
    reading: gr.HTML
    sample: gr.Button
    findings: gr.HTML
    swap: gr.Button
    foreground: gr.Button
    objects: gr.Button
    pretrained: Pretrained
    scratch: gr.Accordion
    ready: gr.Accordion
    picture: gr.HTML
    sliders: gr.Row
    plane: gr.Slider
    opacity: gr.Slider
    legend: gr.HTML
    next: gr.Button
    insight: Insight
    masks: mask_panel.MaskPanel

    @property
    def chosen(self) -> list[Any]:
        """Everything that says how the data is read, in the order of `forms.DATA`."""
        files = {"images": self.images.path, "labels": self.labels.path, "mask": self.mask.path}
        return [files[name] if name in files else self.fields[name] for name in forms.DATA]

    @property
    def shown(self) -> list[gr.blocks.Block]:
        """What `check` updates."""
        return [getattr(self, name) for name in SHOWN]


def build(services: Services) -> DataStep:
    """Build step 1 inside its `gr.Step`."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            with gr.Accordion("Train from scratch", open=True, elem_id="from-scratch") as scratch:
                images = file_input(
                    services, "Raw images", info="A file, or a folder of files.", name="images"
                )
                labels = file_input(services, "Annotations", catalog.LABELS, name="labels")
                reading = reading_panel.reading_panel("reading")
                with gr.Accordion("More options", open=False, elem_id="data-options"):
                    mask, fields, sets = _more_options(services)
                sample = gr.Button("Use the sample data", size="sm", elem_id="use-sample")
                findings = gr.HTML(elem_id="findings")
                swap = gr.Button("Swap images and annotations", size="sm", visible=False, elem_id="swap")
                hidden: dict[str, Any] = {"size": "sm", "visible": False}
                foreground = gr.Button("Read every object as foreground", elem_id="as-foreground", **hidden)
                objects = gr.Button("Learn every object by itself", elem_id="as-objects", **hidden)
                doctor = insight.build_doctor()
            with gr.Accordion("Use a pretrained model", open=False, elem_id="use-pretrained") as ready:
                pretrained = build_pretrained(services)
            gr.Markdown(forms.step_help_html("step-data"))
        with gr.Column(scale=3, min_width=320):
            masks = mask_panel.build(services)
            picture = gr.HTML(empty_html(EMPTY), elem_id="data-picture")
            with gr.Row(visible=False) as sliders:
                plane = gr.Slider(
                    0, 1, value=0, step=1, buttons=[], min_width=220, label="Slice",
                    elem_id="data-slice",
                )  # fmt: skip
                opacity = gr.Slider(
                    0, 100, value=40, step=5, buttons=[], min_width=220, label="Overlay (%)",
                    elem_id="data-opacity",
                )  # fmt: skip
            legend = gr.HTML(elem_id="data-legend")
            inside = insight.build(doctor)
            next_step = gr.Button(
                "Next: Configuration →", variant="primary", interactive=False, elem_id="next-configure"
            )
    for opened, other, trains in ((scratch, ready, True), (ready, scratch, False)):
        # One way on at a time: the model's own button leads to step 4.
        opened.expand(
            lambda trains=trains: (gr.Accordion(open=False), gr.Button(visible=trains)),
            outputs=[other, next_step], show_progress="hidden", api_visibility="private",
        )  # fmt: skip
    return DataStep(
        images, labels, mask, fields, sets, reading, sample, findings, swap, foreground, objects, pretrained,
        scratch, ready, picture, sliders, plane, opacity, legend, next_step, inside, masks,
    )  # fmt: skip


def _more_options(services: Services) -> tuple[FileInput, dict[str, Any], more_sets.MoreSets]:
    where = "Where somebody annotated: an image above 0, or ROIs. Leave it empty if that is everywhere."
    mask = file_input(services, "Annotated part", catalog.LABELS, where, "mask")
    fields = {
        field.path.removeprefix("data."): forms.helped_component(field) for field in forms.data_fields()
    }
    fields["recipe"] = gr.Textbox("", lines=2, visible="hidden", elem_id="data-recipe")
    sets = more_sets.build(services)
    fields["sets"] = sets.value
    return mask, fields, sets


def wire(services: Services, step: DataStep, values: Sequence[Any], labels_as: Any, head: Any) -> Dependency:
    """Connect the step's events.

    Parameters
    ----------
    services : Services
        The door to the engine.
    step : DataStep
        The components.
    values : sequence of components
        The form of step 2.
    labels_as, head : component
        The fields among them that say how labels are read, for the check, and what is learned.

    Returns
    -------
    Dependency
        The event of a check, so that what depends on the same choice can follow it.
    """
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    images, labels = step.images.path, step.labels.path
    inputs, count = [*step.chosen, labels_as], len(step.chosen)
    step.sample.click(
        lambda: take_sample(services), outputs=[*step.chosen, step.images.message],
        api_visibility="private",
    )  # fmt: skip
    step.swap.click(lambda first, second: (second, first), [images, labels], [images, labels], **quiet)
    step.foreground.click(lambda: ("foreground", "semantic"), outputs=[labels_as, head], **quiet)
    step.objects.click(lambda: ("objects", "flows"), outputs=[labels_as, head], **quiet)
    step.reading.axes(reading_panel.given_axes, outputs=step.fields["axes"], **quiet)
    # Leaving a name and ticking a box are one click: neither is dropped.
    step.reading.channels(
        reading_panel.given_channels, outputs=[step.fields["channels"], step.fields["channel_names"]],
        trigger_mode="multiple", **quiet,
    )  # fmt: skip
    more_sets.wire(step.sets)
    checked = gr.on(
        [item.change for item in inputs],
        lambda *seen: check(services, seen[:count], *seen[count:]),
        [*inputs, step.opacity],
        step.shown,
        show_progress="minimal", show_progress_on=step.findings, trigger_mode="always_last",
        concurrency_limit=4, api_visibility="private",
    )  # fmt: skip
    checked.then(
        lambda *seen: insight.show(services, seen[:count], seen[count:]), [*step.chosen, *values],
        step.insight.shown, **quiet,
    )  # fmt: skip
    insight.wire(services, step.insight, step.chosen, values)
    gr.on(
        [step.plane.input, step.opacity.input],
        lambda *seen: redraw(services, seen[:count], *seen[count:]),
        [*inputs, step.plane, step.opacity],
        step.picture, trigger_mode="always_last", concurrency_limit=8, **quiet,
    )  # fmt: skip
    return checked


def take_sample(services: Services) -> list[Any]:
    """Return updates of everything chosen, and of the message, with the sample data chosen."""
    paths = attempt(services.sample_data)
    if isinstance(paths, Problem):
        message = gr.HTML(views.mark_html("error", paths.message, paths.remedy), visible=True)
        return [*[gr.skip()] * len(forms.DATA), message]
    return [*paths, *forms.nothing_chosen()[2:], gr.HTML(visible=False)]


def check(services: Services, chosen: Sequence[Any], labels_as: str, opacity: float) -> list[Any]:
    """Check what is chosen and return updates of `DataStep.shown`.

    Parameters
    ----------
    services : Services
        The door to the engine.
    chosen : sequence
        What step 1 shows, in the order of `forms.DATA`.
    labels_as : str
        How labels are read.
    opacity : float
        Of the labels, in percent.
    """
    updates: dict[str, Any] = {
        "findings": "", "reading": {}, "picture": empty_html(EMPTY), "sliders": gr.Row(visible=False),
        "plane": gr.skip(), "legend": "", "next": gr.Button(interactive=False),
        **{name: gr.Button(visible=False) for name in ("swap", "foreground", "objects")},
    }  # fmt: skip
    data = read(chosen, labels_as)
    if isinstance(data, Problem):
        kept = dict.fromkeys(("reading", "picture", "sliders", "legend"), gr.skip())
        updates |= {**kept, "findings": views.mark_html("error", data.message)}
    elif data.images and data.labels:
        updates |= _pair_updates(services, data, opacity)
    elif data.images or data.labels:
        updates |= _half_updates(services, data, opacity)
    return [updates[name] for name in SHOWN]


def read(chosen: Sequence[Any], labels_as: str) -> DataConfig | Problem:
    """Return the options of the data that step 1 shows, or what is impossible about them."""
    values = forms.read_data(dict(zip(forms.DATA, chosen, strict=True)))
    config, problems = forms.check(
        {"data": {**values, "labels_as": labels_as, "patch_size": SMALLEST_PATCH}, "model": {"layers": 2}}
    )
    if isinstance(config, RunConfig):
        return config.data
    return Problem("\n".join(problems.values()))


def _half_updates(services: Services, data: DataConfig, opacity: float) -> dict[str, Any]:
    """Return updates while only images or only annotations are chosen."""
    text = f"Now choose the {'annotations' if data.images else 'raw images'}."
    alone = data.model_copy(update={"labels": None, "mask": None, "images": data.images or data.labels})
    overview = attempt(lambda: services.data.overview(alone)) if data.images else None
    if isinstance(overview, Problem):
        return {"findings": views.mark_html("error", overview.message, overview.remedy)}
    return {
        "findings": views.mark_html("info", text),
        "reading": reading_panel.reading_value(overview),
        "picture": _draw(services, Scene(alone), 0, opacity),
        **_sliders(services, alone),
    }


def _pair_updates(services: Services, data: DataConfig, opacity: float) -> dict[str, Any]:
    """Return updates for images with their annotations."""
    overview = attempt(lambda: services.data.overview(data))
    report = _report(services, data)
    known = overview if isinstance(overview, Overview) else None
    if isinstance(report, Problem):
        return {
            "findings": views.mark_html("error", report.message, report.remedy),
            "reading": reading_panel.reading_value(known),
        }
    scene = _scene(report, data)
    numbers = data.labels_as == "classes" and foreground_helps(services, report, data)
    return {
        "findings": findings_html(report),
        "swap": gr.Button(visible=swap_helps(services, report, data)),
        "foreground": gr.Button(visible=numbers),
        "objects": gr.Button(visible=numbers),
        "reading": reading_panel.reading_value(known),
        "picture": _draw(services, scene, 0, opacity),
        **_sliders(services, scene.data),
        "legend": legend_html(report, services.summary_text),
        "next": gr.Button(interactive=report.ok),
    }


def swap_helps(services: Services, report: Report, data: DataConfig) -> bool:
    """Say whether the two would pass the check the other way round, and do not as they are."""
    suspicious = not report.ok or any("Swap" in finding.remedy for finding in report.findings)
    turned = {"images": data.labels, "labels": data.images, "axes": None, "labels_as": "classes"}
    swapped = data.model_copy(update=turned)
    other = _report(services, swapped) if suspicious else None
    return isinstance(other, Report) and other.ok


def foreground_helps(services: Services, report: Report, data: DataConfig) -> bool:
    """Say whether the check suggests to read all objects as one class, and that would pass."""
    suggested = any("labels_as" in finding.remedy for finding in report.findings)
    other = _report(services, data.model_copy(update={"labels_as": "foreground"})) if suggested else None
    return isinstance(other, Report) and other.ok


def redraw(services: Services, chosen: Sequence[Any], labels_as: str, plane: float, opacity: float) -> Any:
    """Return the picture of a plane."""
    data = read(chosen, labels_as)
    if isinstance(data, Problem):
        return gr.skip()
    report = _report(services, data) if data.images and data.labels else None
    scene = _scene(report, data) if isinstance(report, Report) else _alone(data)
    return _draw(services, scene, int(plane), opacity)


def _report(services: Services, data: DataConfig) -> Report | Problem:
    return attempt(lambda: services.check(data.images or "", data.labels or "", data))


def _scene(report: Report, data: DataConfig) -> Scene:
    # Labels that do not fit are not drawn over the images.
    values = tuple(item.value for item in report.classes)
    return Scene(data, values) if values and report.images else _alone(data)


def _alone(data: DataConfig) -> Scene:
    alone: dict[str, Any] = {"images": data.images or data.labels, "labels": None, "mask": None, "sets": []}
    return Scene(data.model_copy(update=alone))


def _draw(services: Services, scene: Scene, plane: int, opacity: float) -> str:
    html = attempt(lambda: picture_html(services, scene, plane, opacity / 100))
    if isinstance(html, Problem) and scene.data.labels:
        html = attempt(lambda: picture_html(services, _alone(scene.data), plane, 0.0))
    return empty_html(html.message) if isinstance(html, Problem) else html


def _sliders(services: Services, data: DataConfig) -> dict[str, Any]:
    found = attempt(lambda: services.data.collection(data, bool(data.labels)))
    if isinstance(found, Problem):
        return {"sliders": gr.Row(visible=False), "plane": gr.skip()}
    last = found.count - 1
    plane = gr.Slider(0, max(last, 1), value=0, visible=last > 0)
    return {"sliders": gr.Row(visible=True), "plane": plane}
