"""Files: browse the workspace, look at a file, download, upload, delete."""

from __future__ import annotations

import glob
import shutil
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from app.confirm import build_confirm
from app.runbook import moment_text
from app.services import IMAGE_SUFFIXES, Services
from app.session import Problem, attempt
from app.views import bytes_text, mark_html, table_html
from segcore.errors import DataError

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
NOTHING = "Choose a file to see what it is, to download it, or to delete it. Uploads go to the folder data."


@dataclass(frozen=True)
class Handles:
    """What the rest of the page may drive: a click on `refresh` reads the workspace again."""

    refresh: gr.Button


def build(services: Services, tab: gr.Tab | None = None) -> Handles:
    """Build the tab, inside `with gr.Tab(...) as tab`; the tree is read when the tab is opened."""
    with gr.Row():
        with gr.Column(scale=2, min_width=320):
            explorer = gr.FileExplorer(
                root_dir=services.workspace.root, ignore_glob=_hidden(services, 0), file_count="single",
                label="Workspace", max_height=520, elem_id="files-explorer",
            )  # fmt: skip
            with gr.Row():
                upload = gr.UploadButton(
                    "Upload into data", file_count="multiple", size="sm", elem_id="files-upload"
                )
                refresh = gr.Button("Refresh", size="sm", elem_id="files-refresh")
            space = gr.HTML(lambda: space_html(services), elem_id="files-space")
        with gr.Column(scale=2, min_width=320):
            facts = gr.HTML(mark_html("info", NOTHING), elem_id="files-facts")
            remove = gr.Button("Delete …", variant="stop", size="sm", visible=False, elem_id="files-delete")
            folder = gr.Button(
                "Delete the whole folder …", variant="stop", size="sm", visible=False, elem_id="files-folder"
            )
            confirm = build_confirm("Delete", "files-delete")
            confirm_folder = build_confirm("Delete the folder", "files-folder")
            message = gr.HTML(elem_id="files-message")
    count = gr.State(0)

    tree = [count, explorer, space]
    about = [facts, remove, folder]
    opened = [refresh.click, *([tab.select] if tab is not None else [])]
    gr.on(opened, lambda number: look(services, number), count, tree, **QUIET)
    explorer.change(lambda chosen: show(services, chosen), explorer, about, **QUIET)
    confirm.ask(remove, lambda chosen: deletion_question(services, chosen), [explorer])
    confirm_folder.ask(
        folder, lambda chosen: deletion_question(services, str(Path(chosen).parent)), [explorer]
    )
    for button, action, inputs in (
        (confirm.yes.click, lambda chosen: delete(services, chosen), explorer),
        (confirm_folder.yes.click, lambda chosen: delete(services, str(Path(chosen).parent)), explorer),
        (upload.upload, lambda paths: take(services, paths), upload),
    ):
        button(action, inputs, message, api_visibility="private").then(
            lambda number: look(services, number), count, tree, **QUIET
        ).then(lambda chosen: show(services, chosen), explorer, about, **QUIET)
    return Handles(refresh)


def look(services: Services, number: int) -> tuple[int, gr.FileExplorer, str]:
    """Return updates of the counter, the tree and the free space."""
    return number + 1, gr.FileExplorer(ignore_glob=_hidden(services, number + 1)), space_html(services)


def space_html(services: Services) -> str:
    """Return how much room the disk has, with a warning when it gets tight."""
    disk = shutil.disk_usage(services.workspace.root)
    text = f"{bytes_text(disk.free)} free of {bytes_text(disk.total)} on this disk."
    if disk.free < 2e9:
        return mark_html("warning", text, "Delete what is not needed; a full disk ends trainings.")
    return f'<p class="subdued">{text}</p>'


def show(services: Services, chosen: str | None) -> tuple[Any, ...]:
    """Return updates of facts and the two delete buttons for a file."""
    hidden = gr.Button(visible=False)
    if not chosen or not Path(chosen).exists():
        return mark_html("info", NOTHING), hidden, hidden
    facts = attempt(lambda: facts_html(services, chosen))
    if isinstance(facts, Problem):
        return mark_html("error", facts.message, facts.remedy), hidden, hidden
    path = services.resolve(chosen)
    return (
        facts,
        gr.Button(visible=True),
        gr.Button(visible=path.is_file() and _deletable_folder(services, path.parent)),
    )


def facts_html(services: Services, chosen: str) -> str:
    """Return what a file is: size, date and, for an image, shape, type, axes and pixel size."""
    path = services.resolve(chosen)
    relative = services.relative(path)
    status = path.stat()
    rows = [("Size", _size_text(path)), ("Changed", moment_text(status.st_mtime))]
    note, links = "", []
    if path.is_file():
        # A plain link: Gradio's download button would first copy the file, minutes for a large stack.
        address = f"gradio_api/file={quote(str(path))}"
        links.append(f'<a href="{address}" download="{escape(path.name)}">Download</a>')
    if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
        stack = attempt(lambda: services.stack(relative))
        if isinstance(stack, Problem):
            note = mark_html("error", stack.message, stack.remedy)
        else:
            rows.append(("Image", stack.text))
            links.append(f'<a href="?tab=viewer&amp;path={quote(relative)}">Open in Viewer</a>')
    title = f'<h4 style="overflow-wrap:anywhere">{escape(relative)}</h4>'
    return f"{title}{table_html(('', ''), rows)}{note}<p>{' · '.join(links)}</p>"


def deletion_question(services: Services, chosen: str | None) -> str:
    """Return what is lost with a file or folder; SegcoreError if it is not there."""
    if not chosen:
        raise DataError("Nothing is chosen.", "Choose a file.")
    path = services.resolve(chosen)
    relative = services.relative(path)
    if path.is_file():
        return f"{relative} ({_size_text(path)}) is deleted for good. {_meaning(services, path)}".strip()
    files = sum(1 for part in path.rglob("*") if part.is_file())
    return (
        f"The folder {relative} with {files} files ({_size_text(path)}) is deleted for good. "
        f"{_meaning(services, path)}"
    ).strip()


def delete(services: Services, chosen: str | None) -> str:
    """Delete a file or a folder and say so."""
    done = attempt(lambda: services.delete(chosen or ""))
    if isinstance(done, Problem):
        return mark_html("error", done.message, done.remedy)
    return mark_html("ok", f"{services.relative(Path(chosen or ''))} is deleted.")


def take(services: Services, paths: list[str] | None) -> str:
    """Take uploaded files into `data/` and say under which names they lie there."""
    lines = []
    for path in paths or []:
        saved = attempt(lambda path=path: services.save_upload(path, Path(path).name))  # type: ignore[misc]
        if isinstance(saved, Problem):
            lines.append(mark_html("error", saved.message, saved.remedy))
        else:
            lines.append(mark_html("ok", f"Saved as {saved}."))
    return "".join(lines)


def _meaning(services: Services, path: Path) -> str:
    """Return what a path inside a run means to its owner."""
    parts = Path(services.relative(path)).parts
    if parts[0] == "models" and (len(parts) > 2 or path.is_dir()):
        what = (
            "It belongs to a training run" if path.is_file() else "It holds training runs with their models"
        )
        return f"{what}; versions registered from it stay in MLflow, but the run cannot be used any more."
    if parts[0] == "results":
        return "It belongs to a segmentation, which can be made again with the same model and image."
    return ""


def _deletable_folder(services: Services, folder: Path) -> bool:
    workspace = services.workspace
    return folder not in (workspace.root, workspace.data, workspace.models, workspace.results)


def _size_text(path: Path) -> str:
    if path.is_file():
        return bytes_text(path.stat().st_size)
    return bytes_text(sum(part.stat().st_size for part in path.rglob("*") if part.is_file()))


def _hidden(services: Services, number: int) -> str:
    # Hidden are our own files, which begin with a dot. Two patterns that mean the same: the explorer
    # reads the workspace anew only when one of its parameters changes.
    return f"{glob.escape(str(services.workspace.root))}*/{'.*' if number % 2 == 0 else '.?*'}"
