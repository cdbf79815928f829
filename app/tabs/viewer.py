"""Viewer: any stack of the workspace, plane by plane, with zoom, contrast and labels over it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from app.services import Services
from app.session import Problem, attempt
from app.stacks import StackReader, View
from app.views import ClassEntry, legend_html, mark_html
from segcore.data.planes import Planes

HERE = Path(__file__).parent
EMPTY = {
    "message": "Choose a file on the left. The wheel zooms, dragging moves, a double click zooms in or out."
}
MOST_CLASSES = 12
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


@dataclass(frozen=True)
class Controls:
    """The components that decide what is seen, in the order in which `draw` takes their values."""

    path: gr.Dropdown
    labels: gr.Dropdown
    index: gr.Slider
    low: gr.Slider
    high: gr.Slider
    opacity: gr.Slider
    classes: gr.CheckboxGroup
    channels: gr.CheckboxGroup

    @property
    def all(self) -> list[gr.components.Component]:
        """All of them, as inputs of an event."""
        return list(vars(self).values())


def build(services: Services, tab: gr.Tab) -> gr.Dropdown:
    """Build the tab, inside `with gr.Tab(...) as tab`; the lists of files are read when the tab is opened.

    A path set in the component that is returned is shown, a result over its image.
    """
    reader = StackReader(services)
    with gr.Row(elem_id="viewer"):
        with gr.Column(scale=1, min_width=280):
            path = _file_choice("Image", "viewer-path", "Any image of the workspace.")
            labels = _file_choice("Labels over it", "viewer-labels", "Those that belong to it come first.")
            opacity = gr.Slider(0, 100, value=40, step=5, label="Opacity of the labels (%)", visible=False)
            classes = gr.CheckboxGroup(label="Classes shown", visible=False, elem_id="viewer-classes")
            channels = gr.CheckboxGroup(label="Channels shown, three at most", visible=False)
            with gr.Accordion("Contrast", open=False):
                low = gr.Slider(0, 50, value=1.0, step=0.1, label="Black below percentile")
                high = gr.Slider(50, 100, value=99.8, step=0.1, label="White above percentile")
            facts = gr.HTML(elem_id="viewer-facts")
        with gr.Column(scale=3, min_width=320):
            problem = gr.HTML(visible=False, elem_id="viewer-problem")
            picture = _picture(reader)
            index = gr.Slider(
                0, 1, value=0, step=1, label="Slice (counted from 0)", visible=False, elem_id="viewer-slice"
            )
            legend = gr.HTML(elem_id="viewer-legend")
    controls = Controls(path, labels, index, low, high, opacity, classes, channels)
    redraw: dict[str, Any] = {
        "fn": lambda *values: draw(reader, *values),
        "inputs": controls.all,
        "outputs": [picture, problem],
        **QUIET,
    }
    about_labels = [classes, opacity, legend]
    about_path = [labels, index, channels, facts, *about_labels]
    path.change(lambda value: choose(reader, value), path, about_path, **QUIET).then(**redraw)
    # `input`, not `change`: choosing an image sets the labels too, and must draw once.
    labels.input(lambda value: choose_labels(reader, value), labels, about_labels, **QUIET).then(**redraw)
    sliders = [part.input for part in (index, low, high, opacity, classes, channels)]
    gr.on(sliders, trigger_mode="always_last", concurrency_limit=4, **redraw)
    tab.select(lambda chosen: choices(reader, chosen), path, [path, labels], **QUIET)
    return path


def choices(reader: StackReader, chosen: str | None) -> tuple[gr.Dropdown, gr.Dropdown]:
    """Return the two lists of files as they are now; what is chosen stays."""
    return gr.Dropdown(choices=reader.stacks()), gr.Dropdown(choices=_label_choices(reader, chosen))


def choose(reader: StackReader, path: str | None) -> tuple[Any, ...]:
    """Return updates of labels, slice, channels, facts, classes, opacity and legend for the chosen file."""
    image = reader.image_of(path) if path else ""
    found = attempt(lambda: opened(reader, path, image)) if path else None
    if not path or found is None or isinstance(found, Problem):
        hidden = gr.Slider(visible=False), gr.CheckboxGroup(visible=False), ""
        return gr.Dropdown(choices=_label_choices(reader, ""), value=""), *hidden, *choose_labels(reader, "")
    planes, over = found
    names = [(str(number), number) for number in range(planes.channels)]
    several = planes.channels > 1
    return (
        gr.Dropdown(choices=_label_choices(reader, path), value=over),
        gr.Slider(maximum=max(planes.count - 1, 1), value=planes.count // 2, visible=planes.count > 1),
        gr.CheckboxGroup(choices=names, value=[number for _, number in names[:3]], visible=several),
        facts_html(reader, path),
        *choose_labels(reader, over),
    )


def opened(reader: StackReader, path: str, image: str) -> tuple[Planes, str]:
    """Return the planes of `image` and the labels to show over it: `path` itself, or what belongs to it."""
    over = path if path != image else reader.suggestion(image)
    return reader.planes(image, over), over


def choose_labels(reader: StackReader, labels: str | None) -> tuple[Any, ...]:
    """Return updates of classes, opacity and legend for the label file that was chosen."""
    values = attempt(lambda: reader.label_values(labels)) if labels else ()
    if isinstance(values, Problem) or not values:
        return gr.CheckboxGroup(choices=[], value=[], visible=False), gr.Slider(visible=False), ""
    known = reader.class_names(labels) if labels else {}
    names = [(f"{value} {known.get(value, '')}".strip(), value) for value in values]
    few = len(values) <= MOST_CLASSES
    legend = legend_html([ClassEntry(value, known.get(value, "")) for value in values[:MOST_CLASSES]])
    more = "" if few else f"<p>and {len(values) - MOST_CLASSES} more values</p>"
    return (
        gr.CheckboxGroup(choices=names, value=list(values), visible=few and len(values) > 1),
        gr.Slider(visible=True),
        legend + more,
    )


def draw(reader: StackReader, *values: Any) -> tuple[dict[str, Any], gr.HTML]:
    """Return the picture and, where it cannot be drawn, why; `values` as in `Controls`."""
    path, labels, index, low, high, opacity, classes, channels = values
    if not path:
        return EMPTY, gr.HTML(visible=False)

    def make() -> dict[str, Any]:
        known = reader.label_values(labels) if labels else ()
        # Without boxes to tick, as with hundreds of objects, everything is shown.
        choosable = 1 < len(known) <= MOST_CLASSES
        view = View(
            path=reader.image_of(path),
            labels=labels or "",
            index=int(index),
            low=low,
            high=high,
            opacity=opacity / 100,
            hidden=tuple(value for value in known if choosable and value not in classes),
            channels=tuple(channels),
        )
        return reader.draw(view)

    picture = attempt(make)
    if isinstance(picture, Problem):
        text = mark_html("error", picture.message, picture.remedy)
        return {"message": "No picture."}, gr.HTML(text, visible=True)
    return picture, gr.HTML(visible=False)


def facts_html(reader: StackReader, path: str) -> str:
    """Return size, type, axes, pixel size and a link to the view that can be mailed."""
    image = reader.image_of(path)
    text = attempt(lambda: reader.describe(image))
    if isinstance(text, Problem):
        return mark_html("error", text.message, text.remedy)
    link = f'<a href="?tab=viewer&amp;path={quote(path)}">Link to this view</a>'
    return f'<div class="subdued">{mark_html("info", text)}<p>{link}</p></div>'


def _picture(reader: StackReader) -> gr.HTML:
    def detail(request: dict[str, Any]) -> str:
        """Draw a window of a huge plane; the page's script asks for it when one zooms in."""
        made = attempt(
            lambda: reader.detail(View.of(request["request"]), request["limits"], request["bounds"])
        )
        return "" if isinstance(made, Problem) else made

    html, css, script = ((HERE / f"plane.{suffix}").read_text("utf-8") for suffix in ("html", "css", "js"))
    return gr.HTML(
        EMPTY,
        html_template=html,
        css_template=css,
        js_on_load=script,
        server_functions=[detail],
        apply_default_css=False,
        elem_id="viewer-picture",
    )


def _label_choices(reader: StackReader, chosen: str | None) -> list[str | int | float | tuple[Any, Any]]:
    first = attempt(lambda: reader.belonging(reader.image_of(chosen))) if chosen else []
    files = dict.fromkeys([*(first if isinstance(first, list) else []), *reader.stacks()])
    return [("none", ""), *((name, name) for name in files)]


def _file_choice(label: str, name: str, info: str) -> gr.Dropdown:
    # Values the server has not listed are let through: a link, or a page that stayed open while the server
    # restarted, names a file that is not in the list. Services check the path.
    return gr.Dropdown(
        choices=[], value="", label=label, info=info, allow_custom_value=True, filterable=True, elem_id=name
    )
