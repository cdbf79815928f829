"""A file of the workspace as an input: choose it from a list, browse to it, or upload it."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from app.services import IMAGE_SUFFIXES, Services
from app.session import Problem, attempt
from app.views import mark_html


@dataclass(frozen=True)
class FileInput:
    """The components of one file input; `path` holds the workspace path, "" if none is chosen."""

    path: gr.Dropdown
    message: gr.HTML


def file_input(
    services: Services,
    label: str,
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES,
    info: str | None = None,
    name: str = "file",
) -> FileInput:
    """Build a file input within the current layout.

    Parameters
    ----------
    services : Services
        Lists and takes the files.
    label, info : str
        Of the list.
    suffixes : tuple of str
        Which files are offered, lower case with dot.
    name : str
        Part of the element ids.
    """
    with gr.Row(equal_height=True, elem_classes="file-input"):
        path = gr.Dropdown(
            [], value=None, label=label, info=info, allow_custom_value=True, filterable=True, scale=5,
            min_width=180, elem_id=f"{name}-path",
        )  # fmt: skip
        upload = gr.UploadButton(
            "Upload", file_count="single", file_types=list(suffixes), scale=1, min_width=84, size="sm",
            elem_id=f"{name}-upload",
        )  # fmt: skip
    opened = gr.State(0)
    with gr.Accordion("Browse the workspace", open=False, elem_classes="browse") as browse:
        explorer = gr.FileExplorer(
            _any_case(suffixes[0]), root_dir=services.workspace.root, file_count="single", show_label=False,
            ignore_glob=_hidden_files(services, 0), max_height=260, elem_id=f"{name}-explorer",
        )  # fmt: skip
    message = gr.HTML(visible=False)

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    path.focus(lambda: gr.Dropdown(choices=services.files(suffixes=suffixes)), outputs=path, **quiet)
    upload.upload(partial(take_upload, services, suffixes), upload, [path, message], api_visibility="private")
    explorer.change(partial(take_chosen, services, suffixes), explorer, [path, message], **quiet)
    browse.expand(
        lambda count: (count + 1, gr.FileExplorer(ignore_glob=_hidden_files(services, count + 1))),
        opened, [opened, explorer], **quiet,
    )  # fmt: skip
    return FileInput(path, message)


def take_upload(services: Services, suffixes: tuple[str, ...], uploaded: str) -> tuple[Any, Any]:
    """Take an uploaded file into the workspace; return updates of the list and the message."""
    saved = attempt(lambda: services.save_upload(uploaded, Path(uploaded).name))
    if isinstance(saved, Problem):
        return gr.skip(), gr.HTML(mark_html("error", saved.message, saved.remedy), visible=True)
    return gr.Dropdown(choices=services.files(suffixes=suffixes), value=saved), gr.HTML(visible=False)


def take_chosen(services: Services, suffixes: tuple[str, ...], chosen: str | None) -> tuple[Any, Any]:
    """Take what was chosen in the explorer; return updates of the list and the message."""
    if not chosen:
        return gr.skip(), gr.skip()
    found = attempt(lambda: services.resolve(chosen))
    if isinstance(found, Problem):
        return gr.skip(), gr.HTML(mark_html("error", found.message, found.remedy), visible=True)
    if found.is_dir() or found.suffix.lower() not in suffixes:
        text = f"{found.name} is not one of: {', '.join(suffixes)}."
        return gr.skip(), gr.HTML(mark_html("warning", text), visible=True)
    return gr.Dropdown(value=services.relative(found)), gr.HTML(visible=False)


def _any_case(suffix: str) -> str:
    letters = "".join(f"[{letter}{letter.upper()}]" if letter.isalpha() else letter for letter in suffix)
    return f"*{letters}*"


def _hidden_files(services: Services, count: int) -> str:
    # Two patterns that mean the same: the explorer reads the folder anew only when a parameter changes.
    return f"{glob.escape(str(services.workspace.root))}/{'.*' if count % 2 == 0 else '.?*'}"
