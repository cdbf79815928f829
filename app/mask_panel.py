"""MaskPanel: objects drawn by clicking on a slice, with a network that answers clicks, and used as labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import Dependency

from app import forms
from app.mask_desk import COLOURS, HUB, IN_PLACE, told
from app.services import Services
from app.session import Problem, attempt
from app.views import class_colour, mark_html
from segcore.config import DataConfig
from segcore.errors import DataError

HERE = Path(__file__).parent
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
NO_IMAGES = "Choose raw images first; then their slices are shown here."
MODEL_INFO = (
    "It answers clicks: a folder of the workspace as transformers writes it, or an id of the Hugging Face "
    "hub, fetched once. On a processor sam2.1-hiera-small sees a slice in seconds, others take longer."
)
OPTIONS = ("labels", "unlabelled_value", "recipe")
"""Options of step 1 that change when the objects are used as labels."""


@dataclass(frozen=True)
class MaskPanel:
    """The components."""

    box: gr.Accordion
    opened: gr.State
    model: gr.Dropdown
    canvas: gr.HTML
    message: gr.HTML


def build(services: Services) -> MaskPanel:
    """Build the panel in the current layout."""
    with gr.Accordion("Draw masks by clicking", open=False, elem_id="masks") as box:
        opened = gr.State(False)
        model = gr.Dropdown(
            list(HUB), value=HUB[0], label="Network", info=MODEL_INFO, allow_custom_value=True,
            filterable=True, elem_id="masks-model",
        )  # fmt: skip
        html, css, script = (
            (HERE / f"mask_panel.{suffix}").read_text("utf-8") for suffix in ("html", "css", "js")
        )
        canvas = gr.HTML(
            json.dumps({"note": NO_IMAGES}), html_template=html, css_template=css, js_on_load=script,
            server_functions=_answers(services), apply_default_css=False, elem_id="masks-canvas",
        )  # fmt: skip
        message = gr.HTML(elem_id="masks-message")
    return MaskPanel(box, opened, model, canvas, message)


def wire(
    services: Services,
    panel: MaskPanel,
    chosen: Sequence[Any],
    labels_as: Any,
    head: Any,
    checked: Dependency,
) -> None:
    """Connect the panel.

    Parameters
    ----------
    services : Services
        The door to the engine.
    panel : MaskPanel
        The components.
    chosen : sequence of components
        What step 1 shows, in the order of `forms.DATA`.
    labels_as, head : component
        The fields that say how labels are read and what is learned.
    checked : Dependency
        The event after a change of the images.
    """
    inputs = [panel.opened, panel.model, *chosen]

    def show(opened: bool, model: str, *values: Any) -> Any:
        return canvas_text(services, model, values) if opened else gr.skip()

    panel.box.expand(
        lambda: (True, gr.Dropdown(choices=services.masks.models())), outputs=[panel.opened, panel.model],
        **QUIET,
    ).then(show, inputs, panel.canvas, **QUIET)  # fmt: skip
    panel.box.collapse(lambda: False, outputs=panel.opened, **QUIET)
    panel.model.change(show, inputs, panel.canvas, **QUIET)
    checked.then(show, inputs, panel.canvas, **QUIET)
    changed = [chosen[forms.DATA.index(name)] for name in OPTIONS]
    panel.canvas.select(
        lambda *values: use(services, values), list(chosen), [*changed, labels_as, head, panel.message],
        show_progress="minimal", show_progress_on=panel.message, api_visibility="private",
    )  # fmt: skip


def canvas_text(services: Services, model: str | None, chosen: Sequence[Any]) -> str:
    """Return what the canvas shows for what is chosen in step 1, as JSON text.

    Its script asks for the slices and masks itself.
    """
    found = attempt(lambda: services.masks.images(_data(chosen)))
    if isinstance(found, Problem):
        note = " ".join(part for part in (found.message, found.remedy) if part)
        return json.dumps({"note": note})
    text, images = found
    palette = [class_colour(index) for index in (1, 2, 3, 5, 6, 0)]
    assert len(palette) == COLOURS
    content = {"note": "", "data": text, "planes": images.count, "model": model or "", "palette": palette}
    return json.dumps(content)


def use(services: Services, chosen: Sequence[Any]) -> list[Any]:
    """Make labels of the accepted objects and choose them.

    Returns
    -------
    list
        Updates of `OPTIONS`, of how labels are read, of what is learned, and of the message.
    """

    def write() -> list[Any]:
        data = _data(chosen)
        _, images = services.masks.images(data)
        path, how = services.masks.store.write_labels(images, data.images or "")
        # Labels that were drawn on the images as they are need no repair.
        recipe = [line for line in data.recipe if line.startswith(IN_PLACE)]
        values = {"labels": path, "unlabelled_value": how.unlabelled, "recipe": recipe}
        fields = forms.shown_data(data.model_copy(update=values))
        slices = len(services.masks.store.worked(images))
        text = (
            f"The annotations are now {path}: {_count(how.objects, 'object')} on {_count(slices, 'slice')}."
        )
        rest = "The rest of these slices is background."
        rest += "" if how.unlabelled is None else " Slices without objects are left out of training."
        return [*(fields[name] for name in OPTIONS), "objects", "boundary", mark_html("ok", text, rest)]

    written = attempt(write)
    if isinstance(written, Problem):
        return [*[gr.skip()] * (len(OPTIONS) + 2), mark_html("error", written.message, written.remedy)]
    return written


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"


def _data(chosen: Sequence[Any]) -> DataConfig:
    config, problems = forms.check({"data": forms.read_data(dict(zip(forms.DATA, chosen, strict=True)))})
    if config is None:
        raise DataError("\n".join(problems.values()), "")
    if not config.data.images:
        raise DataError(NO_IMAGES, "")
    return config.data


def _answers(services: Services) -> list[Callable[[dict[str, Any]], dict[str, Any]]]:
    """Return the functions that the page's script calls, by their names."""
    desk = services.masks

    def look(request: dict[str, Any]) -> dict[str, Any]:
        return told(lambda: desk.look(request))

    def mask(request: dict[str, Any]) -> dict[str, Any]:
        return told(lambda: desk.mask(request))

    def accept(request: dict[str, Any]) -> dict[str, Any]:
        return told(lambda: desk.accept(request))

    def remove(request: dict[str, Any]) -> dict[str, Any]:
        return told(lambda: desk.remove(request))

    def clear(request: dict[str, Any]) -> dict[str, Any]:
        return told(lambda: desk.clear(request))

    def prepare(request: dict[str, Any]) -> dict[str, Any]:
        return told(lambda: desk.prepare(request))

    def everything(request: dict[str, Any]) -> dict[str, Any]:
        return told(lambda: desk.everything(request))

    def follow(request: dict[str, Any]) -> dict[str, Any]:
        return told(lambda: desk.follow(request))

    return [look, mask, accept, remove, clear, prepare, everything, follow]
