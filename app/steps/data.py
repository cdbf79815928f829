"""Step 1: choose images and annotations, see what the check says and how they look; or choose a model."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
from gradio.events import Dependency

from app import forms, views
from app.files_input import FileInput, file_input
from app.pretrained import Pretrained, build_pretrained
from app.preview import Scene, empty_html, picture_html
from app.services import Services
from app.session import Problem, attempt
from segcore.config import DataConfig
from segcore.data.report import Report

EMPTY = "Choose raw images and annotations,\nor try it with the sample data."
SMALLEST_PATCH = 32
"""Here only the data is judged; whether the chosen patch fits is said beside its field in step 2."""


@dataclass(frozen=True)
class DataStep:
    """The components of step 1."""

    images: FileInput
    labels: FileInput
    axes: gr.components.Component
    sample: gr.Button
    findings: gr.HTML
    swap: gr.Button
    foreground: gr.Button
    pretrained: Pretrained
    scratch: gr.Accordion
    ready: gr.Accordion
    picture: gr.HTML
    sliders: gr.Row
    plane: gr.Slider
    opacity: gr.Slider
    legend: gr.HTML
    next: gr.Button

    @property
    def chosen(self) -> list[Any]:
        """Images, labels and axes, in the order of `forms.DATA`."""
        return [self.images.path, self.labels.path, self.axes]


def build(services: Services) -> DataStep:
    """Build step 1 inside its `gr.Step`."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            with gr.Accordion("Train from scratch", open=True, elem_id="from-scratch") as scratch:
                images = file_input(services, "Raw images", name="images")
                labels = file_input(services, "Annotations", name="labels")
                with gr.Accordion("More options", open=False, elem_id="data-options"):
                    axes = forms.helped_component(forms.axes_field())
                sample = gr.Button("Use the sample data", size="sm", elem_id="use-sample")
                findings = gr.HTML(elem_id="findings")
                swap = gr.Button("Swap images and annotations", size="sm", visible=False, elem_id="swap")
                foreground = gr.Button(
                    "Read every object as foreground", size="sm", visible=False, elem_id="as-foreground"
                )
            with gr.Accordion("Use a pretrained model", open=False, elem_id="use-pretrained") as ready:
                pretrained = build_pretrained(services)
            gr.Markdown(forms.step_help_html("step-data"))
        with gr.Column(scale=3, min_width=320):
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
        images, labels, axes, sample, findings, swap, foreground, pretrained, scratch, ready, picture,
        sliders, plane, opacity, legend, next_step,
    )  # fmt: skip


def wire(services: Services, step: DataStep, labels_as: Any) -> Dependency:
    """Connect the step's events; `labels_as` is the field of step 2 on which the check depends.

    Returns the event of a check, so that what depends on the same choice can follow it.
    """
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    images, labels = step.images.path, step.labels.path
    inputs = [*step.chosen, labels_as]
    step.sample.click(
        lambda: take_sample(services), outputs=[images, labels, step.axes, step.images.message],
        api_visibility="private",
    )  # fmt: skip
    step.swap.click(lambda first, second: (second, first), [images, labels], [images, labels], **quiet)
    step.foreground.click(lambda: "foreground", outputs=labels_as, **quiet)
    checked = gr.on(
        [item.change for item in inputs],
        lambda *values: check(services, *values),
        [*inputs, step.opacity],
        [step.findings, step.swap, step.foreground, step.picture, step.sliders, step.plane, step.legend,
         step.next],
        show_progress="minimal", show_progress_on=step.findings, trigger_mode="always_last",
        concurrency_limit=4, api_visibility="private",
    )  # fmt: skip
    gr.on(
        [step.plane.input, step.opacity.input],
        lambda *values: redraw(services, *values),
        [*inputs, step.plane, step.opacity],
        step.picture, trigger_mode="always_last", concurrency_limit=8, **quiet,
    )  # fmt: skip
    return checked


def take_sample(services: Services) -> tuple:
    """Return updates of images, labels, axes and message with the sample data chosen."""
    paths = attempt(services.sample_data)
    if isinstance(paths, Problem):
        message = gr.HTML(views.mark_html("error", paths.message, paths.remedy), visible=True)
        return gr.skip(), gr.skip(), gr.skip(), message
    return (*paths, "", gr.HTML(visible=False))


def check(
    services: Services, images: str | None, labels: str | None, axes: str, labels_as: str, opacity: float
) -> tuple:
    """Check what is chosen and return updates of everything the check has a say in, as wired above."""
    off = gr.Button(visible=False)
    nothing, locked = (off, off), gr.Button(interactive=False)
    if not images and not labels:
        return "", *nothing, empty_html(EMPTY), gr.Row(visible=False), gr.skip(), "", locked
    config, problems = forms.check({"data": {"axes": axes.strip() or None}})
    if config is None:
        text = views.mark_html("error", " ".join(problems.values()))
        return text, *nothing, gr.skip(), gr.skip(), gr.skip(), gr.skip(), locked
    if not images or not labels:
        text = views.mark_html("info", f"Now choose the {'annotations' if images else 'raw images'}.")
        path, given = (images, config.data.axes) if images else (labels or "", None)
        shown = _draw(services, Scene(path, axes=given), 0, opacity)
        return text, *nothing, shown, *_sliders(services, path, given), "", locked
    report = _report(services, images, labels, axes, labels_as)
    if isinstance(report, Problem):
        text = views.mark_html("error", report.message, report.remedy)
        return text, *nothing, empty_html(EMPTY), gr.Row(visible=False), gr.skip(), "", locked
    scene = _scene(report, images, labels, labels_as)
    return (
        views.findings_html(report),
        gr.Button(visible=swap_helps(services, report, images, labels)),
        gr.Button(
            visible=labels_as == "classes" and foreground_helps(services, report, images, labels, axes)
        ),
        _draw(services, scene, 0, opacity),
        *_sliders(services, images, scene.axes),
        legend_html(services, report),
        gr.Button(interactive=report.ok),
    )


def swap_helps(services: Services, report: Report, images: str, labels: str) -> bool:
    """Say whether the two files would pass the check the other way round, and do not as they are."""
    suspicious = not report.ok or any("Swap" in finding.remedy for finding in report.findings)
    other = _report(services, labels, images, "", "classes") if suspicious else None
    return isinstance(other, Report) and other.ok


def foreground_helps(services: Services, report: Report, images: str, labels: str, axes: str) -> bool:
    """Say whether the check suggests to read all objects as one class, and that would pass."""
    suggested = any("labels_as" in finding.remedy for finding in report.findings)
    other = _report(services, images, labels, axes, "foreground") if suggested else None
    return isinstance(other, Report) and other.ok


def redraw(
    services: Services,
    images: str | None,
    labels: str | None,
    axes: str,
    labels_as: str,
    plane: float,
    opacity: float,
) -> str:
    """Return the picture of a plane."""
    if images and labels:
        report = _report(services, images, labels, axes, labels_as)
        if isinstance(report, Report):
            return _draw(services, _scene(report, images, labels, labels_as), int(plane), opacity)
    scene = Scene(images, axes=axes.strip() or None) if images else Scene(labels or "")
    return _draw(services, scene, int(plane), opacity)


def legend_html(services: Services, report: Report) -> str:
    """Return shape, type and pixel size of the images, and the classes with their shares."""
    text = services.summary_text(report.images) if report.images else ""
    entries = [
        views.ClassEntry(item.value, "" if item.name == str(item.value) else item.name, item.share)
        for item in report.classes
    ]
    return f'<p class="subdued">{escape(text)}</p>{views.legend_html(entries)}'


def _report(services: Services, images: str, labels: str, axes: str, labels_as: str) -> Report | Problem:
    options = {"axes": axes.strip() or None, "labels_as": labels_as, "patch_size": SMALLEST_PATCH}
    return attempt(lambda: services.check(images, labels, DataConfig.model_validate(options)))


def _scene(report: Report, images: str, labels: str, labels_as: str) -> Scene:
    # The axes as the check read them: beside its labels, a stack that calls its slices channels has slices.
    values = tuple(item.value for item in report.classes)
    axes = report.images.axes if report.images else None
    return Scene(images, labels if values else None, values, labels_as == "foreground", axes=axes)


def _draw(services: Services, scene: Scene, plane: int, opacity: float) -> str:
    html = attempt(lambda: picture_html(services, scene, plane, opacity / 100))
    return empty_html(html.message) if isinstance(html, Problem) else html


def _sliders(services: Services, path: str, axes: str | None) -> tuple:
    stack = attempt(lambda: services.stack(path, axes))
    if isinstance(stack, Problem):
        return gr.Row(visible=False), gr.skip()
    return gr.Row(visible=True), gr.Slider(0, max(stack.planes - 1, 1), value=0, visible=stack.planes > 1)
