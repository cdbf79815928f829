"""The page: header, the four steps, the tabs, and what leads from one to the other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import gradio as gr

from app import choosing, follow_ups_panel, forms, mask_panel, notice, watch
from app.api import add_api
from app.linking import PLACES, as_choice, open_link, watch_run
from app.pretrained import Pretrained
from app.services import Services
from app.session import Problem, attempt
from app.steps import configure, data, infer, train
from app.steps.configure import ConfigureStep
from app.steps.data import DataStep
from app.steps.infer import InferStep
from app.steps.train import TrainStep
from app.tabs import files, help, models, runs, viewer

TITLE = "Segcore Studio"
HEADER_SECONDS = 5
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
# The address always names what is shown, so that a refresh, or a colleague with the link, sees the same.
SET_RUN = """(run) => { const url = new URL(window.location); if (run) { url.searchParams.set('run', run); }
  else { url.searchParams.delete('run'); } window.history.replaceState(null, '', url); }"""


@dataclass(frozen=True)
class Steps:
    """The workflow."""

    walkthrough: gr.Walkthrough
    data: DataStep
    configure: ConfigureStep
    train: TrainStep
    infer: InferStep
    source: gr.Textbox
    """The model that the next training begins with, "" for random weights."""
    chips: tuple[follow_ups_panel.Chip, ...]


class Page(gr.Blocks):
    """A page whose parts are described once; Gradio asks four times until it is served."""

    def __exit__(self, *given: Any) -> None:
        """End the page: from now on its parts are what they are."""
        described = cache(self.default_config.get_config)
        self.default_config.get_config = described  # type: ignore[method-assign]
        super().__exit__(*given)


def build(services: Services) -> gr.Blocks:
    """Build the page for one workspace."""
    with Page(title=TITLE, analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        header = gr.HTML(header_html(services), elem_id="header")
        with gr.Row(visible=False, elem_classes="banner", elem_id="resume") as banner:
            resume_text = gr.HTML()
            resume_run = gr.Textbox("", visible="hidden")
            resume = gr.Button("Watch it", size="sm", min_width=90, scale=0, elem_id="watch-run")
        with gr.Tabs(selected="segment", elem_id="tabs") as tabs:
            with gr.Tab("Segment", id="segment"):
                steps = _build_steps(services)
            with gr.Tab("Runs", id="runs") as tab:
                runs.build(services, tab)
            with gr.Tab("Models", id="models") as tab:
                models.build(services, tab)
            with gr.Tab("Viewer", id="viewer") as tab:
                viewed = viewer.build(services, tab)
            with gr.Tab("Files", id="files") as tab:
                files.build(services, tab)
            with gr.Tab("Help", id="help"):
                help.build()
        _wire_steps(services, steps)
        places = {
            "tabs": tabs,
            "banner": banner,
            "resume_text": resume_text,
            "resume_run": resume_run,
            "resume": resume,
            "viewed": viewed,
            **_step_places(steps),
        }
        _wire_run(services, steps, places)
        timer = gr.Timer(HEADER_SECONDS)
        notice.build(services, [steps.train.run, steps.infer.run], timer, TITLE)
        # When the page is opened too: what the header was built with is as old as the server.
        gr.on(
            [page.load, timer.tick],
            lambda: header_html(services),
            outputs=header,
            concurrency_limit=4,
            **QUIET,
        )

        def opened(request: gr.Request) -> list[Any]:
            return open_link(services, dict(request.query_params))

        page.load(
            opened,
            outputs=[*(places[name] for name in PLACES), *steps.configure.values],
            concurrency_limit=8, **QUIET,
        )  # fmt: skip
        add_api(services)
    return page


def header_html(services: Services) -> str:
    """Return the line at the top: the name, the device, and what runs on it."""
    active = attempt(services.active)
    device = attempt(services.device_text)
    status = watch.active_html(
        "unknown" if isinstance(device, Problem) else device, [] if isinstance(active, Problem) else active
    )
    return f'<div class="app-header"><h1>{TITLE}</h1><span class="status" role="status">{status}</span></div>'


def _step_places(steps: Steps) -> dict[str, Any]:
    """Return the components of the steps that a link can set."""
    return {
        "walkthrough": steps.walkthrough,
        "train_run": steps.train.run,
        "infer_run": steps.infer.run,
        **{f"data.{name}": item for name, item in zip(forms.DATA, steps.data.chosen, strict=True)},
        "segmented": steps.infer.images,
        "segmented_axes": steps.infer.axes,
        "annotated": steps.infer.compare.labels.path,
        "part": steps.infer.compare.part,
        "model": steps.infer.model,
        "config_file": steps.infer.config_file,
        "source": steps.source,
    }


def _build_steps(services: Services) -> Steps:
    source = gr.Textbox("", visible="hidden", elem_id="train-source")
    with gr.Walkthrough(selected=1, elem_id="workflow") as walkthrough:
        with gr.Step("Data or model", id=1):
            chips = [follow_ups_panel.build_chip("data")]
            data_step = data.build(services)
        with gr.Step("Configure", id=2):
            chips.append(follow_ups_panel.build_chip("configure"))
            configure_step = configure.build(services)
        with gr.Step("Train", id=3):
            train_step = train.build(services)
        with gr.Step("Segment", id=4):
            infer_step = infer.build(services)
    return Steps(walkthrough, data_step, configure_step, train_step, infer_step, source, tuple(chips))


def _wire_steps(services: Services, steps: Steps) -> None:
    labels_as = steps.configure.value_of("data.labels_as")
    head = steps.configure.value_of("model.head")
    checked = data.wire(services, steps.data, steps.configure.values, labels_as, head)
    mask_panel.wire(services, steps.data.masks, steps.data.chosen, labels_as, head, checked)
    configure.wire(services, steps.configure, steps.data.chosen, checked)
    train.wire(services, steps.train, steps.data.chosen, steps.configure.values, steps.source)
    infer.wire(services, steps.infer)
    _wire_tuning(services, steps)
    ways = (
        (steps.data.next, 2),
        (steps.configure.back, 1),
        (steps.train.back, 2),
    )
    for button, number in ways:
        button.click(
            lambda number=number: gr.Walkthrough(selected=number), outputs=steps.walkthrough, **QUIET
        )
    count = len(steps.data.chosen)
    steps.configure.next.click(
        lambda source, *shown: (
            gr.Walkthrough(selected=3), "", *train.prepare(services, shown[:count], shown[count:], source)
        ),
        [steps.source, *steps.data.chosen, *steps.configure.values],
        [steps.walkthrough, steps.train.run, steps.train.summary, steps.train.command], **QUIET,
    )  # fmt: skip
    choosing.wire_start(
        services, steps.configure.choosing, steps.data.chosen, steps.configure.values,
        [steps.walkthrough, steps.train.run],
    )  # fmt: skip
    steps.train.next.click(
        lambda run: (gr.Walkthrough(selected=4), as_choice(services, run), "", ""), steps.train.run,
        [steps.walkthrough, steps.infer.model, steps.infer.config_file, steps.infer.run], **QUIET,
    )  # fmt: skip
    ready: Pretrained = steps.data.pretrained
    ready.next.click(
        lambda chosen, config: (gr.Walkthrough(selected=4), as_choice(services, chosen), config, ""),
        [ready.chosen, ready.config_file],
        [steps.walkthrough, steps.infer.model, steps.infer.config_file, steps.infer.run], **QUIET,
    )  # fmt: skip


def _wire_tuning(services: Services, steps: Steps) -> None:
    """Lead from a run that has ended, or from a chosen model, to its training on other images."""
    ready: Pretrained = steps.data.pretrained
    places = [
        steps.walkthrough, steps.source, *steps.data.chosen, steps.data.scratch, steps.data.ready,
        steps.data.next, *steps.configure.values,
    ]  # fmt: skip
    after = steps.train.follow_ups
    for trigger, inputs, message in (
        (after.tune, [steps.train.run], after.message),
        (ready.further, [ready.chosen, ready.config_file], ready.status),
    ):
        trigger.click(
            lambda *model: follow_ups_panel.tune(services, *model), inputs, [message, *places], **QUIET
        )
    follow_ups_panel.wire_chips(
        services, steps.chips, steps.source, steps.data.scratch,
        steps.configure.value_of("model.freeze_encoder"), steps.configure.value_of("training.learning_rate"),
    )  # fmt: skip


def _wire_run(services: Services, steps: Steps, places: dict[str, Any]) -> None:
    """Keep address and shown run the same; lead back to a run, on to the viewer, and to a new start."""
    for run in (steps.train.run, steps.infer.run):
        run.change(None, run, None, js=SET_RUN, trigger_mode="multiple")
    places["resume"].click(
        lambda run: watch_run(services, run),
        places["resume_run"],
        [*(places[name] for name in PLACES), *steps.configure.values],
        **QUIET,
    )
    steps.infer.viewer.click(
        lambda run, name: (gr.Tabs(selected="viewer"), result_path(services, run, name)),
        [steps.infer.run, steps.infer.result], [places["tabs"], places["viewed"]], **QUIET,
    )  # fmt: skip
    chosen = [f"data.{name}" for name in forms.DATA]
    cleared = ("train_run", "infer_run", "segmented", "annotated", "segmented_axes", "source", *chosen)
    steps.infer.again.click(
        lambda: (gr.Walkthrough(selected=1), "", "", None, None, "", "", *forms.nothing_chosen()), None,
        [steps.walkthrough, *(places[name] for name in cleared)], **QUIET,
    )  # fmt: skip


def result_path(services: Services, run: str, name: str | None = None) -> Any:
    """Return the workspace path of a segmentation's result, of several that of the image `name`."""
    view = attempt(lambda: services.job(run))
    found = None if isinstance(view, Problem) else view.segmentations.get(name or "", view.segmentation)
    return services.relative(found) if found else gr.skip()
