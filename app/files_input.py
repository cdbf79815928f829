"""Files of the workspace as an input: choose a file or folder from a list, browse to it, or upload."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from app import catalog
from app.services import Services
from app.session import Problem, attempt
from app.views import mark_html

STATES = ("checkpoints/last.pt", "checkpoints/best.pt")


@dataclass(frozen=True)
class FileInput:
    """The components of one file input; `path` holds the workspace path, "" if none is chosen."""

    path: gr.Dropdown
    message: gr.HTML


def file_input(
    services: Services,
    label: str,
    suffixes: tuple[str, ...] = catalog.IMAGES,
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
    several = of_images(suffixes)
    with gr.Row(equal_height=True, elem_classes="file-input"):
        path = gr.Dropdown(
            [], value=None, label=label, info=info, allow_custom_value=True, filterable=True, scale=5,
            min_width=180, elem_id=f"{name}-path",
        )  # fmt: skip
        upload = gr.UploadButton(
            "Upload", file_count="multiple" if several else "single",
            file_types=[*suffixes, *([".zip"] if several else [])], scale=1, min_width=84, size="sm",
            elem_id=f"{name}-upload",
        )  # fmt: skip
    opened = gr.State(0)
    with gr.Accordion("Browse the workspace", open=False, elem_classes="browse") as browse:
        explorer = gr.FileExplorer(
            _any_case(suffixes[0]) if len(suffixes) == 1 else "*", root_dir=services.workspace.root,
            file_count="single", show_label=False, ignore_glob=_hidden_files(services, 0), max_height=260,
            elem_id=f"{name}-explorer",
        )  # fmt: skip
    message = gr.HTML(visible=False)
    whole = gr.Button("", size="sm", visible=False, elem_id=f"{name}-whole") if several else None
    folder = gr.Textbox("", visible="hidden")

    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    path.focus(lambda: gr.Dropdown(choices=offered(services, suffixes)), outputs=path, **quiet)
    upload.upload(partial(take_upload, services, suffixes), upload, [path, message], api_visibility="private")
    outputs = [path, message, folder, *([whole] if whole else [])]
    explorer.change(
        lambda chosen: take_chosen(services, suffixes, chosen)[: len(outputs)], explorer, outputs, **quiet
    )
    if whole is not None:
        whole.click(lambda found: (found, gr.Button(visible=False)), folder, [path, whole], **quiet)
    browse.expand(
        lambda count: (count + 1, gr.FileExplorer(ignore_glob=_hidden_files(services, count + 1))),
        opened, [opened, explorer], **quiet,
    )  # fmt: skip
    return FileInput(path, message)


def of_images(suffixes: tuple[str, ...]) -> bool:
    """Say whether images or labels are meant: those may be folders, too."""
    return set(catalog.IMAGES) <= set(suffixes)


def offered(services: Services, suffixes: tuple[str, ...]) -> list[Any]:
    """Return what the list offers now."""
    if of_images(suffixes):
        return list(catalog.choices(services.workspace.root, suffixes))
    # What a training saves of its state is called .pt as TorchScript is, and is no model.
    return [path for path in services.files(suffixes=suffixes) if not path.endswith(STATES)]


def take_upload(services: Services, suffixes: tuple[str, ...], uploaded: str | list[str]) -> tuple[Any, Any]:
    """Take uploaded files into the workspace; return updates of the list and the message."""
    files = [uploaded] if isinstance(uploaded, str) else uploaded
    saved = attempt(lambda: services.save_uploads(files))
    if isinstance(saved, Problem):
        return gr.skip(), gr.HTML(mark_html("error", saved.message, saved.remedy), visible=True)
    return gr.Dropdown(choices=offered(services, suffixes), value=saved), gr.HTML(visible=False)


def take_chosen(services: Services, suffixes: tuple[str, ...], chosen: str | None) -> tuple[Any, ...]:
    """Take what was chosen in the explorer.

    Returns
    -------
    tuple
        Updates of the list, the message, the folder around the file, and the button that chooses this.
    """
    off = gr.Button(visible=False)
    if not chosen:
        return gr.skip(), gr.skip(), "", off
    found = attempt(lambda: services.resolve(chosen))
    if isinstance(found, Problem):
        return gr.skip(), gr.HTML(mark_html("error", found.message, found.remedy), visible=True), "", off
    if not ((found.is_dir() and of_images(suffixes)) or found.suffix.lower() in suffixes):
        text = f"{found.name} is not one of: {', '.join(suffixes)}."
        return gr.skip(), gr.HTML(mark_html("warning", text), visible=True), "", off
    count = beside(found, suffixes)
    folder = services.relative(found.parent) if count > 1 else ""
    button = gr.Button(f"Use all {count} files of {folder}/", visible=bool(folder))
    return services.relative(found), gr.HTML(visible=False), folder, button


def beside(path: Path, suffixes: tuple[str, ...]) -> int:
    """Return how many files that could be chosen lie in the folder of a file; 0 for a folder."""
    if path.is_dir():
        return 0
    return sum(one.suffix.lower() in suffixes for one in path.parent.iterdir())


def _any_case(suffix: str) -> str:
    letters = "".join(f"[{letter}{letter.upper()}]" if letter.isalpha() else letter for letter in suffix)
    return f"*{letters}*"


def _hidden_files(services: Services, count: int) -> str:
    # Two patterns that mean the same: the explorer reads the folder anew only when a parameter changes.
    return f"{glob.escape(str(services.workspace.root))}/{'.*' if count % 2 == 0 else '.?*'}"
