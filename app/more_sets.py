"""MoreSets: further sets of images with their annotations, each with what it is for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, get_args

import gradio as gr

from app import catalog
from app.files_input import file_input
from app.services import Services
from app.views import mark_html, table_html
from segcore.data.items import Use

USES = {
    "split": "split like the others",
    "train": "training",
    "validation": "validation",
    "test": "test",
    "teach": "a teacher answers for them",
}
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


@dataclass(frozen=True)
class MoreSets:
    """The components; `value` holds the sets as JSON, "" for none."""

    value: gr.Textbox
    table: gr.HTML
    images: gr.Dropdown
    labels: gr.Dropdown
    use: gr.Dropdown
    add: gr.Button
    remove: gr.Button


def build(services: Services) -> MoreSets:
    """Build the panel in the current layout."""
    value = gr.Textbox("", visible="hidden", elem_id="data-sets")
    with gr.Accordion("More sets of images", open=False, elem_id="more-sets"):
        table = gr.HTML(elem_id="sets-table")
        images = file_input(services, "Raw images", name="set-images")
        labels = file_input(services, "Annotations", catalog.LABELS, name="set-labels")
        use = gr.Dropdown(
            [(text, key) for key, text in USES.items()], value=get_args(Use)[0], label="For",
            elem_id="set-use",
            info="Validation and test are never trained on. A teacher needs no annotations.",
        )  # fmt: skip
        with gr.Row():
            add = gr.Button("Add this set", size="sm", elem_id="add-set")
            remove = gr.Button("Remove the last set", size="sm", visible=False, elem_id="remove-set")
    return MoreSets(value, table, images.path, labels.path, use, add, remove)


def wire(panel: MoreSets) -> None:
    """Connect the buttons, and show whatever `value` holds."""
    panel.add.click(
        add, [panel.value, panel.images, panel.labels, panel.use],
        [panel.value, panel.images, panel.labels, panel.table], **QUIET,
    )  # fmt: skip
    panel.remove.click(remove_last, panel.value, panel.value, **QUIET)
    panel.value.change(show, panel.value, [panel.table, panel.remove], trigger_mode="multiple", **QUIET)


def add(value: str, images: str | None, labels: str | None, use: str) -> tuple[Any, ...]:
    """Return updates of the sets, both inputs and the table with one set more."""
    if not images or not (labels or use == "teach"):
        text = mark_html("warning", "A set needs raw images and annotations.")
        return gr.skip(), gr.skip(), gr.skip(), table_of(sets_of(value)) + text
    sets = [*sets_of(value), {"images": images, "labels": labels or "", "use": use}]
    return json.dumps(sets, ensure_ascii=False), None, None, gr.skip()


def remove_last(value: str) -> str:
    """Return the sets without the last one."""
    sets = sets_of(value)[:-1]
    return json.dumps(sets, ensure_ascii=False) if sets else ""


def show(value: str) -> tuple[str, gr.Button]:
    """Return the table of the sets, and whether one can be removed."""
    sets = sets_of(value)
    return table_of(sets), gr.Button(visible=bool(sets))


def table_of(sets: list[dict[str, Any]]) -> str:
    """Return the sets as a table, "" for none."""
    rows = [(one["images"], one.get("labels") or "–", USES.get(one.get("use", ""), "split")) for one in sets]
    return table_html(("Raw images", "Annotations", "For"), rows) if rows else ""


def sets_of(value: str) -> list[dict[str, Any]]:
    """Return what `value` holds."""
    try:
        found = json.loads(value or "[]")
    except ValueError:
        return []
    return found if isinstance(found, list) else []
