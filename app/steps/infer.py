"""Step 4: choose model and images, segment, look at the result beside the image, take it along."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from app import controls, fitting, forms, views, watch, zips
from app.controls import Controls
from app.files_input import file_input
from app.jobview import JobView
from app.pretrained import model_choices, run_choices
from app.preview import Scene, empty_html, picture_html
from app.services import Services
from app.session import Problem, attempt
from segcore.jobs.store import State

DAILY = (
    forms.axes_field(),
    *(field for field in forms.data_fields() if field.path in ("data.pixel_size", "data.channels")),
    *forms.visible_fields("inference", folded=False),
)
RARE = forms.visible_fields("inference", folded=True)
FIELDS = (*DAILY, *RARE)
EMPTY = "Choose a model and images, then run the segmentation.\nThe result appears here."

LISTED = 60
"""Results with a link; of more, the folder is in the tab Files."""
SHOWN = (
    "timer", "start", "progress", "message", "result", "picture", "sliders", "plane", "classes", "done",
    "download",
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
        start_button, buttons, progress, message, result, picture, sliders, plane, opacity, classes, done,
        download, viewer, again,
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
    services: Services, model: str | None, config_file: str, images: str | None, shown: Sequence[Any]
) -> tuple:
    """Start a segmentation; return its id and a message, or what stands in its way."""
    uses_file = bool(model and model.endswith(".pth") and config_file)
    hidden = {"model": model or None, "config_file": config_file if uses_file else None}
    config, problems = forms.check(forms.merged(_values(images, shown), {"inference": hidden}))
    if config is None:
        return gr.skip(), views.mark_html("error", "\n".join(problems.values()))
    job = attempt(lambda: services.submit_segmentation(config))
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
    if isinstance(view, JobView):
        updates |= {"progress": watch.progress_html(view), "message": watch.message_html(view)}
        if view.state is State.FINISHED and view.segmentations:
            updates |= _result_updates(services, view, opacity)
    elif view is None:
        updates |= {"progress": "", "picture": empty_html(EMPTY)}
    else:
        updates |= {"progress": "", "message": views.mark_html("error", view.message, view.remedy)}
    buttons = controls.updates(view if isinstance(view, JobView) else None)
    return [*(updates[name] for name in SHOWN), *buttons]


def _result_updates(services: Services, view: JobView, opacity: float) -> dict[str, Any]:
    names = list(view.segmentations)
    picture, sliders, plane = choose(services, view.id, names[0], opacity)
    return {
        "result": gr.Dropdown(choices=names, value=names[0], visible=len(names) > 1),
        "picture": picture,
        "sliders": sliders,
        "plane": plane,
        "classes": classes_html(view),
        "done": gr.Column(visible=True),
        "download": downloads_html(view),
    }


def downloads_html(view: JobView) -> str:
    """Return links to the files of a segmentation; they are served from where they lie, never copied."""
    names = list(view.segmentations.items())
    links = []
    if len(names) > 1:
        links.append(_download(view, view.folder / "segmentation", f"Download all {len(names)} results"))
        links += [_download(view, path, name) for name, path in names[:LISTED]]
    elif names:
        links.append(_download(view, names[0][1], f"Download {names[0][1].name}"))
    links += [_download(view, path, path.name) for path in view.more_results]
    more = "" if len(names) <= LISTED else f"<p>All {len(names)} results lie in the tab Files.</p>"
    return f'<div class="downloads">{"".join(links)}</div>{more}'


def _download(view: JobView, path: Path, text: str) -> str:
    """Return a link to a result; a folder is sent as a ZIP that is made on the way."""
    if path.is_dir():
        within = path.relative_to(view.folder).as_posix()
        return zips.link_html(path, f"results/{view.folder.name}/{within}", f"{text} (ZIP)")
    address = f"gradio_api/file={quote(str(path))}"
    return f'<a class="download" href="{address}" download="{escape(path.name)}">{escape(text)}</a>'


def choose(services: Services, run: str, name: str | None, opacity: float) -> tuple[Any, Any, Any]:
    """Return updates of picture, sliders and slice for the result of one image."""
    view = attempt(lambda: services.job(run)) if run else None
    if not isinstance(view, JobView) or not view.segmentations:
        return gr.skip(), gr.skip(), gr.skip()
    stack = attempt(lambda: services.stack(str(_path(view, name))))
    count = 1 if isinstance(stack, Problem) else stack.planes
    slider = gr.Slider(0, max(count - 1, 1), value=0, visible=count > 1)
    return draw(services, view, name, 0, opacity), gr.Row(visible=True), slider


def redraw(services: Services, run: str, name: str | None, plane: float, opacity: float) -> Any:
    """Return the picture of a plane of the finished segmentation."""
    view = attempt(lambda: services.job(run)) if run else None
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
        return Scene(alone, tuple(class_pixels(view)), str(_path(view, name)))

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


def class_pixels(view: JobView) -> dict[int, int]:
    """Return the pixels of every label value, ascending, as `metadata.json` says."""
    found = view.results.get("class_pixels", {})
    return dict(sorted((int(value), int(count)) for value, count in found.items()))


def classes_html(view: JobView) -> str:
    """Return the legend and the table of the classes found."""
    counts = class_pixels(view)
    total = sum(counts.values()) or 1
    texts = [view.class_names.get(value, "") for value in counts]
    named = any(texts)
    rows = [
        (
            str(value),
            *([text] if named else []),
            f"{count:,}".replace(",", " "),
            views.share_text(count / total),
        )
        for (value, count), text in zip(counts.items(), texts, strict=True)
    ]
    head = ("Class", "Name", "Pixels", "Share") if named else ("Class", "Pixels", "Share")
    legend = views.legend_html(views.class_entries(counts, texts))
    model = escape(str(view.results.get("model", "")).rpartition("/models/")[2])
    return legend + views.table_html(head, rows) + f'<p class="subdued">Model: {model}</p>'
