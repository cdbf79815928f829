"""The visual feedback of a run: its prediction of one part of a slice, scrubbed through the epochs."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app import forms
from app.feedback_store import Recording
from app.film import Look
from app.region import drawn_region, region_canvas, slice_value
from app.services import Services
from app.session import Problem, attempt
from app.views import class_colour, mark_html
from segcore.config import DataConfig
from segcore.data.colouring import COLOURS
from segcore.errors import DataError
from segcore.jobs.feedback import Scene, Window

HERE = Path(__file__).parent
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
EMPTY = "After every epoch you see here what the network makes of one part of a slice."
WAITING = "The first picture comes when the first epoch has ended."
NOTHING = "This run has saved no pictures."
NO_IMAGES = "Choose images in step 1 to draw the part that the next training shows."


@dataclass(frozen=True)
class Panel:
    """The components.

    Parameters
    ----------
    region : gr.Textbox
        `training.feedback_region` of the next run, "" if the training shall choose.
    """

    region: gr.Textbox
    view: gr.HTML
    box: gr.Accordion
    plane: gr.Slider
    canvas: gr.HTML
    message: gr.HTML

    @property
    def shown(self) -> list[gr.blocks.Block]:
        """What `show` updates."""
        return [self.view]


@dataclass(frozen=True)
class Target:
    """What a drawn part is for: the run that goes on, or the next one ("") with the chosen images."""

    run: str
    data: DataConfig
    planes: int
    region: str


def build(services: Services) -> Panel:
    """Build the panel in the current layout."""

    def backdrop(request: dict[str, Any]) -> dict[str, str]:
        """Return image and annotation of a scene; this and the next three are called by the page's script."""
        found = attempt(lambda: services.feedback.backdrop(str(request["run"]), str(request["scene"])))
        return {} if isinstance(found, Problem) else found

    def pictures(request: dict[str, Any]) -> dict[str, str]:
        epochs = [int(epoch) for epoch in request["epochs"]]
        found = attempt(lambda: services.feedback.pictures(str(request["run"]), epochs))
        return {} if isinstance(found, Problem) else found

    def still(request: dict[str, Any]) -> dict[str, str]:
        store, run, look = services.feedback, str(request["run"]), _look(request)
        return _file("image/png", attempt(lambda: store.still(run, int(request["epoch"]), look)))

    def film(request: dict[str, Any]) -> dict[str, str]:
        run, look = str(request["run"]), _look(request)
        return _file("image/gif", attempt(lambda: services.feedback.film(run, look)))

    region = gr.Textbox("", visible="hidden", elem_id="feedback-region")
    html, css, script = ((HERE / f"feedback.{suffix}").read_text("utf-8") for suffix in ("html", "css", "js"))
    view = gr.HTML(
        recording_text(None),
        html_template=html,
        css_template=css,
        js_on_load=script,
        server_functions=[backdrop, pictures, still, film],
        apply_default_css=False,
        elem_id="feedback-view",
    )
    with gr.Accordion("Choose the part to watch", open=False, elem_id="feedback-choose") as box:
        plane = gr.Slider(
            0, 1, value=0, step=1, label="Slice (counted from 0)", visible=False, elem_id="feedback-slice"
        )  # fmt: skip
        canvas = region_canvas("feedback-canvas", "Watch this part", "Let the training choose")
    message = gr.HTML(elem_id="feedback-message")
    return Panel(region, view, box, plane, canvas, message)


def wire(services: Services, panel: Panel, run: gr.Textbox, data: Sequence[Any] = ()) -> None:
    """Connect the panel's own parts.

    Parameters
    ----------
    services : Services
        The door to the engine.
    panel : Panel
        The components.
    run : gr.Textbox
        Holds the id of the run that is shown.
    data : sequence of components
        The data that the next run is given, in the order of `forms.DATA`, as far as there is any.
    """
    chosen = [run, panel.region, *data]
    panel.box.expand(
        lambda *values: open_box(services, *values), chosen, [panel.plane, panel.canvas, panel.message],
        concurrency_limit=8, **QUIET,
    )  # fmt: skip
    # Who drags the slider wants the last slice.
    panel.plane.input(
        lambda plane, *values: turn(services, int(plane), *values), [panel.plane, *chosen],
        [panel.canvas, panel.message], trigger_mode="always_last", concurrency_limit=8, **QUIET,
    )  # fmt: skip

    def use(event: gr.EventData, plane: float, *values: Any) -> list[Any]:
        region = attempt(lambda: drawn_region(event, int(plane)))
        if isinstance(region, Problem):
            return [gr.skip(), gr.skip(), _said(region)]
        return choose(services, region, *values)

    panel.canvas.select(
        use, [panel.plane, *chosen], [panel.region, panel.view, panel.message], concurrency_limit=8, **QUIET
    )
    closed: dict[str, Any] = {"fn": lambda: (gr.Accordion(open=False), ""), **QUIET}
    run.change(**closed, outputs=[panel.box, panel.message], trigger_mode="multiple")
    if data:
        # A part of other images means nothing on these.
        data[0].change(
            lambda: ("", gr.Accordion(open=False), ""),
            None,
            [panel.region, panel.box, panel.message],
            **QUIET,
        )


def show(services: Services, run: str) -> list[Any]:
    """Return the updates of `Panel.shown` for a run, or for none."""
    recording = attempt(lambda: services.feedback.recording(run)) if run else None
    if isinstance(recording, Problem):
        return [json.dumps({"run": run, "text": recording.message, "scenes": [], "shots": []})]
    return [recording_text(recording)]


def recording_text(recording: Recording | None) -> str:
    """Return what the view shows, as JSON text: walking through it would take Gradio long."""
    if recording is None:
        return json.dumps({"run": "", "text": EMPTY, "scenes": [], "shots": []})
    names = list(recording.scenes)
    scenes = [
        {
            "name": name,
            "height": scene.window.height,
            "width": scene.window.width,
            "what": scene_text(scene),
            "classes": class_lines(scene),
        }
        for name, scene in recording.scenes.items()
    ]
    shots = [[shot.epoch, names.index(shot.folder.name), shot.stamp // 1_000_000] for shot in recording.shots]
    text = ""
    if not shots:
        text = NOTHING if recording.state.final else f"{EMPTY} {WAITING}"
    elif recording.pending:
        text = "Another part was chosen: it is shown from the next epoch on."
    content = {"run": recording.run, "text": text, "scenes": scenes, "shots": shots}
    return json.dumps(content, separators=(",", ":"))


def scene_text(scene: Scene) -> str:
    """Return in words what a scene shows."""
    role = "training slice: the network has seen it" if scene.trained else "validation slice"
    return f"{window_text(scene.window)} · {role}"


def window_text(window: Window) -> str:
    """Return in words where a part lies, counted from 0."""
    rows, columns = window.row + window.height - 1, window.column + window.width - 1
    return f"Slice {window.plane}, rows {window.row}–{rows}, columns {window.column}–{columns}"


def class_lines(scene: Scene) -> list[tuple[str, str]]:
    """Return name and colour of every class; of a class without a name its label value.

    Where objects are told apart, one line speaks of them all: the colours behind it have no name.
    """
    if scene.objects:
        names = ["background", "objects, each in a colour of its own", *[""] * (COLOURS - 1)]
        return [(name, class_colour(index)) for index, name in enumerate(names)]
    return [
        (str(value) if name in ("", str(value)) else f"{value} {name}", class_colour(index))
        for index, (value, name) in enumerate(zip(scene.class_values, scene.class_names, strict=True))
    ]


def target(services: Services, run: str, region: str, *chosen: Any) -> Target:
    """Return what a part that is drawn now is for; `chosen` is the data of step 1, as far as there is some.

    Raises
    ------
    SegcoreError
        There are no images to draw on.
    """
    if run:
        recording = services.feedback.recording(run)
        if not recording.state.final:
            stack = services.feedback.images(run)
            last = recording.shots[-1].folder.name if recording.shots else ""
            shown = recording.scenes[last].window.text if last else ""
            return Target(run, stack.data, stack.planes, recording.wanted or shown)
    config, _ = forms.check({"data": forms.read_data(dict(zip(forms.DATA, chosen, strict=False)))})
    if config is None or not config.data.images:
        raise DataError(NO_IMAGES, "")
    return Target("", config.data, services.data.stack(config.data).planes, region)


def open_box(services: Services, *chosen: str) -> list[Any]:
    """Return updates of slider, canvas and message: the slice on which the part lies now."""

    def draw() -> list[Any]:
        aim = target(services, *chosen)
        last = aim.planes - 1
        plane = min(Window.parse(aim.region).plane if aim.region else aim.planes // 2, last)
        slider = gr.Slider(maximum=max(last, 1), value=plane, visible=last > 0)
        return [slider, slice_value(services, aim.data, plane, aim.region), ""]

    drawn = attempt(draw)
    return [gr.Slider(visible=False), {}, _said(drawn)] if isinstance(drawn, Problem) else drawn


def turn(services: Services, plane: int, *chosen: str) -> list[Any]:
    """Return updates of canvas and message: another slice."""

    def draw() -> dict[str, Any]:
        aim = target(services, *chosen)
        return slice_value(services, aim.data, plane, aim.region)

    drawn = attempt(draw)
    return [{}, _said(drawn)] if isinstance(drawn, Problem) else [drawn, ""]


def choose(services: Services, region: str, *chosen: str) -> list[Any]:
    """Take the part that was drawn, "" for the training's own choice; return region, view and message."""

    def take() -> list[Any]:
        aim = target(services, *chosen)
        if aim.run:
            kept = services.feedback.want(aim.run, region)
            text = (
                f"{window_text(Window.parse(kept))} is shown"
                if kept
                else "The training's own choice is shown"
            )
            return [gr.skip(), *show(services, aim.run), mark_html("ok", f"{text} from the next epoch on.")]
        text = (
            f"The next training shows {window_text(Window.parse(region)).lower()}."
            if region
            else "The next training chooses the part by itself: where most classes meet."
        )
        return [region, gr.skip(), mark_html("ok", text)]

    taken = attempt(take)
    return [gr.skip(), gr.skip(), _said(taken)] if isinstance(taken, Problem) else taken


def _said(problem: Problem) -> str:
    level = "info" if problem.message == NO_IMAGES else "error"
    return f'<div role="status">{mark_html(level, problem.message, problem.remedy)}</div>'


def _look(request: dict[str, Any]) -> Look:
    return Look(min(max(float(request["opacity"]), 0.0), 1.0), bool(request["outline"]))


def _file(kind: str, made: bytes | Problem) -> dict[str, str]:
    if isinstance(made, Problem):
        return {"file": "", "problem": " ".join(part for part in (made.message, made.remedy) if part)}
    return {"file": f"data:{kind};base64,{base64.b64encode(made).decode()}", "problem": ""}
