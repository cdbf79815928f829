"""Step 4: choose model and images, segment, look at the result beside the image, take it along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app import comparing, controls, fitting, forms, outcome, views, watch
from app.controls import Controls
from app.files_input import file_input
from app.jobview import JobView
from app.pretrained import model_choices, run_choices
from app.preview import Scene, empty_html, picture_html
from app.services import Services
from app.session import Problem, attempt
from segcore.addresses import is_model_file
from segcore.jobs.store import Compared, State

DAILY = (
    forms.axes_field(),
    *(field for field in forms.data_fields() if field.path in ("data.pixel_size", "data.channels")),
    *forms.visible_fields("inference", folded=False),
)
RARE = forms.visible_fields("inference", folded=True)
FIELDS = (*DAILY, *RARE)
EMPTY = "Choose a model and images, then run the segmentation.\nThe result appears here."

SHOWN = (
    "timer", "start", "compare_start", "progress", "message", "result", "picture", "sliders", "plane",
    "classes", "done", "download", "viewer",
)  # fmt: skip


@dataclass(frozen=True)
class InferStep:
    """The components of step 4; `run` holds the id of the segmentation that is shown."""

    run: gr.Textbox
    timer: gr.Timer
    model: gr.Dropdown
    config_file: gr.Textbox
    images: gr.Dropdown
    values: list[Any]
    fit: gr.HTML
    adapt: gr.Button
    start: gr.Button
    compare: comparing.Choice
    controls: Controls
    progress: gr.HTML
    message: gr.HTML
    result: gr.Dropdown
    picture: gr.HTML
    sliders: gr.Row
    plane: gr.Slider
    opacity: gr.Slider
    classes: gr.HTML
    done: gr.Column
    download: gr.HTML
    viewer: gr.Button
    again: gr.Button

    @property
    def compare_start(self) -> gr.Button:
        """The button that starts a comparison."""
        return self.compare.start

    @property
    def axes(self) -> Any:
        """The field of the axes of the images, the first of `FIELDS`."""
        return self.values[0]

    @property
    def rescale(self) -> Any:
        """The field that adapts the pixel size."""
        return next(
            item for field, item in zip(FIELDS, self.values, strict=True) if field.path == "inference.rescale"
        )

    @property
    def shown(self) -> list[gr.blocks.Block]:
        """What `show` updates."""
        return [*(getattr(self, name) for name in SHOWN), *self.controls.shown]


def build(services: Services) -> InferStep:
    """Build step 4 inside its `gr.Step`."""
    run = gr.Textbox("", visible="hidden", elem_id="infer-run")
    config_file = gr.Textbox("", visible="hidden")
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            model = gr.Dropdown(
                [], value=None, label="Model", allow_custom_value=True, elem_id="infer-model",
                info="A registered model, or the best model of a run.",
            )  # fmt: skip
            images = file_input(services, "Images to segment", name="infer-images")
            with gr.Accordion("More options", open=False, elem_id="infer-options"):
                values = [forms.helped_component(field, "infer-") for field in DAILY]
                with gr.Accordion("Format, speed and cluster", open=False, elem_id="infer-more"):
                    values += [forms.helped_component(field, "infer-") for field in RARE]
            fit = gr.HTML(elem_id="infer-fit")
            adapt = gr.Button("Adapt the pixel size", size="sm", visible=False, elem_id="adapt-size")
            start_button = gr.Button("Run segmentation", variant="primary", elem_id="run-segmentation")
            compare = comparing.build(services)
            progress = gr.HTML(elem_id="infer-progress")
            buttons = controls.build("predict")
            message = gr.HTML(elem_id="infer-message")
        with gr.Column(scale=3, min_width=320):
            result = gr.Dropdown(
                [], value=None, label="Image", visible=False, allow_custom_value=True, elem_id="infer-result"
            )
            picture = gr.HTML(empty_html(EMPTY), elem_id="infer-picture")
            with gr.Row(visible=False) as sliders:
                plane = gr.Slider(
                    0, 1, value=0, step=1, buttons=[], min_width=220, label="Slice",
                    elem_id="infer-slice",
                )  # fmt: skip
                opacity = gr.Slider(
                    0, 100, value=40, step=5, buttons=[], min_width=220, label="Overlay (%)",
                    elem_id="infer-opacity",
                )  # fmt: skip
            classes = gr.HTML(elem_id="infer-classes")
            with gr.Column(visible=False) as done:
                download = gr.HTML(padding=False, elem_id="download-segmentation")
                with gr.Row():
                    viewer = gr.Button("Open in Viewer", elem_id="open-viewer", size="md")
                    again = gr.Button("Start new analysis", elem_id="new-analysis", size="md")
    gr.Markdown(forms.step_help_html("step-segment"))
    return InferStep(
        run, gr.Timer(1.0, active=False), model, config_file, images.path, values, fit, adapt,
        start_button, compare, buttons, progress, message, result, picture, sliders, plane, opacity, classes,
        done, download, viewer, again,
    )  # fmt: skip


def wire(services: Services, step: InferStep) -> None:
    """Connect the step's own events."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    step.model.focus(
        lambda: gr.Dropdown(choices=[*model_choices(services), *run_choices(services)]),
        outputs=step.model,
        **quiet,
    )
    step.start.click(
        lambda model, config, images, *shown: start(services, model, config, images, shown),
        [step.model, step.config_file, step.images, *step.values], [step.run, step.message],
        concurrency_limit=4, api_visibility="private",
    )  # fmt: skip
    step.compare_start.click(
        lambda model, config, images, labels, part, *shown: start(
            services, model, config, images, shown, labels, part
        ),
        [
            step.model, step.config_file, step.images, step.compare.labels.path, step.compare.part,
            *step.values,
        ],
        [step.run, step.message], concurrency_limit=4, api_visibility="private",
    )  # fmt: skip
    gr.on(
        [step.run.change, step.timer.tick], lambda run, opacity: show(services, run, opacity),
        [step.run, step.opacity], step.shown, concurrency_limit=16, **quiet,
    )  # fmt: skip
    looked = gr.on(
        [step.images.change, step.model.change, *(item.change for item in step.values)],
        lambda images, run, *shown: preview(services, images, run, shown),
        [step.images, step.run, *step.values], step.picture,
        trigger_mode="always_last", concurrency_limit=8, **quiet,
    )  # fmt: skip
    looked.then(
        lambda model, config, images, *shown: judge(services, model, config, images, shown),
        [step.model, step.config_file, step.images, *step.values], [step.fit, step.adapt],
        concurrency_limit=4, **quiet,
    )  # fmt: skip
    step.adapt.click(lambda: True, outputs=step.rescale, **quiet)
    step.result.change(
        lambda run, name, opacity: choose(services, run, name, opacity),
        [step.run, step.result, step.opacity], [step.picture, step.sliders, step.plane], **quiet,
    )  # fmt: skip
    gr.on(
        [step.plane.input, step.opacity.input], lambda *values: redraw(services, *values),
        [step.run, step.result, step.plane, step.opacity], step.picture,
        trigger_mode="always_last", concurrency_limit=8, **quiet,
    )  # fmt: skip
    controls.wire(services, step.controls, step.run, step.message)


def start(
    services: Services,
    model: str | None,
    config_file: str,
    images: str | None,
    shown: Sequence[Any],
    labels: str | None = None,
    part: Compared = "",
) -> tuple:
    """Start a segmentation, or with a `part` its comparison; return its id and a message, or what hinders."""
    uses_file = bool(model and is_model_file(model) and config_file)
    hidden = {"model": model or None, "config_file": config_file if uses_file else None}
    more = {"inference": hidden, "data": {"labels": labels or None}}
    values = forms.merged(_values(images, shown), more)
    if part not in ("", "default"):  # the model's own images, read as its training read them
        values["data"] = {}
    config, problems = forms.check(values)
    if config is None:
        return gr.skip(), views.mark_html("error", "\n".join(problems.values()))
    job = attempt(
        lambda: services.submit_evaluation(config, part) if part else services.submit_segmentation(config)
    )
    if isinstance(job, Problem):
        return gr.skip(), views.mark_html("error", job.message, job.remedy)
    return job.id, ""


def show(services: Services, run: str, opacity: float) -> list[Any]:
    """Return updates of `InferStep.shown` for a segmentation."""
    updates: dict[str, Any] = dict.fromkeys(SHOWN, gr.skip())
    updates |= {"sliders": gr.Row(visible=False), "done": gr.Column(visible=False), "classes": ""}
    updates["result"] = gr.Dropdown(visible=False)
    view = attempt(lambda: services.job(run)) if run else None
    ended = view.state.ended if isinstance(view, JobView) else True
    # One that is paused may be resumed by somebody else.
    live = isinstance(view, JobView) and not view.state.final
    updates |= {"timer": gr.Timer(active=live), "start": gr.Button(visible=ended)}
    updates["compare_start"] = gr.Button(visible=ended)
    if isinstance(view, JobView):
        updates |= {"progress": watch.progress_html(view), "message": watch.message_html(view)}
        if view.state is State.FINISHED and (view.segmentations or comparing.found(view)):
            updates |= _result_updates(services, view, opacity)
    elif view is None:
        updates |= {"progress": "", "picture": empty_html(EMPTY)}
    else:
        updates |= {"progress": "", "message": views.mark_html("error", view.message, view.remedy)}
    buttons = controls.updates(view if isinstance(view, JobView) else None)
    return [*(updates[name] for name in SHOWN), *buttons]


def _result_updates(services: Services, view: JobView, opacity: float) -> dict[str, Any]:
    compared = comparing.found(view)
    names = comparing.classes(view, compared) if compared else [(name, name) for name in view.segmentations]
    picture, sliders, plane = choose(services, view.id, names[0][1], opacity)
    said = comparing if compared else outcome
    return {
        "result": gr.Dropdown(
            choices=names, value=names[0][1], visible=len(names) > 1, label="Class" if compared else "Image"
        ),
        "picture": picture,
        "sliders": sliders,
        "plane": plane,
        "classes": said.classes_html(view),
        "done": gr.Column(visible=True),
        "download": said.downloads_html(view),
        "viewer": gr.Button(visible=not compared),
    }


def choose(services: Services, run: str, name: str | None, opacity: float) -> tuple[Any, Any, Any]:
    """Return updates of picture, sliders and slice for the result of one image."""
    view = attempt(lambda: services.job(run)) if run else None
    if isinstance(view, JobView) and view.evaluates:
        return comparing.choose(services, view, name, opacity)
    if not isinstance(view, JobView) or not view.segmentations:
        return gr.skip(), gr.skip(), gr.skip()
    stack = attempt(lambda: services.stack(str(_path(view, name))))
    count = 1 if isinstance(stack, Problem) else stack.planes
    slider = gr.Slider(0, max(count - 1, 1), value=0, visible=count > 1, label="Slice")
    return draw(services, view, name, 0, opacity), gr.Row(visible=True), slider


def redraw(services: Services, run: str, name: str | None, plane: float, opacity: float) -> Any:
    """Return the picture of a plane of the finished segmentation."""
    view = attempt(lambda: services.job(run)) if run else None
    if isinstance(view, JobView) and view.evaluates:
        return comparing.draw(services, view, name, int(plane), opacity)
    if not isinstance(view, JobView) or view.segmentation is None:
        return gr.skip()
    return draw(services, view, name, int(plane), opacity)


def draw(services: Services, view: JobView, name: str | None, plane: int, opacity: float) -> str:
    """Return the image `name` of a segmentation beside the image with its result."""

    def scene() -> Scene:
        data = view.config.data
        items = services.data.listing(data, labelled=False).items
        item = next((one for one in items if one.name == name), items[0])
        alone = data.model_copy(update={"images": ";".join(item.images)})
        return Scene(alone, tuple(outcome.class_pixels(view)), str(_path(view, name)))

    html = attempt(lambda: picture_html(services, scene(), plane, opacity / 100))
    return empty_html(html.message) if isinstance(html, Problem) else html


def preview(services: Services, images: str | None, run: str, shown: Sequence[Any]) -> Any:
    """Return the first plane of the chosen images, as long as no result is shown."""
    if not images or run:
        return gr.skip()
    config, problems = forms.check(_values(images, shown))
    if config is None:
        return empty_html("\n".join(problems.values()))
    html = attempt(lambda: picture_html(services, Scene(config.data), 0, 0.0))
    return empty_html(html.message) if isinstance(html, Problem) else html


def judge(
    services: Services, model: str | None, config_file: str, images: str | None, shown: Sequence[Any]
) -> tuple[str, gr.Button]:
    """Return what is to be said about images and model, and whether the pixel size can be adapted."""
    config, _ = forms.check(_values(images, shown)) if images and model else (None, {})
    if config is None:
        return "", gr.Button(visible=False)
    rescale = config.inference.rescale
    found = attempt(lambda: fitting.fit(services, model or "", config_file, config.data, rescale))
    offered = isinstance(found, fitting.Fit) and found.rescalable and not rescale
    named = config.inference.model_copy(update={"model": model, "config_file": config_file or None})
    needs = attempt(lambda: services.segmentations.needs(config.model_copy(update={"inference": named})))
    # What is wrong with images or model has been said.
    cost = "" if isinstance(needs, Problem) else fitting.needs_html(needs, config.inference.format)
    return fitting.fit_html(found) + cost, gr.Button(visible=offered)


def _values(images: str | None, shown: Sequence[Any]) -> dict[str, Any]:
    return forms.merged(forms.to_values(FIELDS, shown), {"data": {"images": images or None}})


def _path(view: JobView, name: str | None) -> Path:
    found = view.segmentations
    return found.get(name or "") or next(iter(found.values()))
