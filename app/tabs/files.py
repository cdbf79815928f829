"""Files: browse the workspace, look at a file, download, upload, delete."""

from __future__ import annotations

import shutil
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from app import zips
from app.catalog import IMAGES
from app.confirm import build_confirm
from app.pick_table import pick_table, picked_id, table_value
from app.runbook import moment_text
from app.services import Services
from app.session import Problem, attempt
from app.views import bytes_text, mark_html, table_html
from segcore.data.zarr_files import is_zarr
from segcore.errors import DataError

QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
HEADER = ("Name", "Size", "Changed")
NOTHING = "Choose a file to see what it is, to download or to delete it. Uploads go to the folder data."
UP = ".. (up)"


def build(services: Services, tab: gr.Tab) -> None:
    """Build the tab, inside `with gr.Tab(...) as tab`; the folder is read again when the tab is opened."""
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            place = gr.HTML(elem_id="files-place")
            table = pick_table("files-table")
            with gr.Row():
                upload = gr.UploadButton(
                    "Upload into data", file_count="multiple", size="sm", elem_id="files-upload"
                )
                refresh = gr.Button("Refresh", size="sm", elem_id="files-refresh")
        with gr.Column(scale=2, min_width=320):
            facts = gr.HTML(mark_html("info", NOTHING), elem_id="files-facts")
            remove = gr.Button("Delete …", variant="stop", size="sm", visible=False, elem_id="files-delete")
            confirm = build_confirm("Delete", "files-delete")
            message = gr.HTML(elem_id="files-message")
    # What is chosen stays in the page, as workspace path, so that it outlives a restart of the server.
    chosen = gr.Textbox("", visible="hidden", elem_id="files-chosen")

    look_again: dict[str, Any] = {
        "fn": lambda path: look(services, path),
        "inputs": chosen,
        "outputs": [place, table, facts, remove],
        **QUIET,
    }
    gr.on([refresh.click, chosen.change, tab.select], **look_again)
    table.select(picked_id, outputs=chosen, trigger_mode="always_last", **QUIET)
    confirm.ask(remove, lambda path: deletion_question(services, path), [chosen])
    confirm.yes.click(
        lambda path: delete(services, path), chosen, [message, chosen], api_visibility="private"
    ).then(**look_again)
    upload.upload(lambda paths: take(services, paths), upload, message, api_visibility="private").then(
        **look_again
    )


def look(services: Services, chosen: str | None) -> tuple[Any, ...]:
    """Return updates of place, table, facts and delete button for the chosen file or folder."""
    path = attempt(lambda: services.resolve(chosen or "."))
    if isinstance(path, Problem):
        facts = mark_html("error", path.message, path.remedy)
        return *_folder(services, services.workspace.root, ""), facts, gr.Button(visible=False)
    root = services.workspace.root
    inside = path.is_dir() and not is_zarr(path)
    listed = _folder(services, path if inside else path.parent, services.relative(path))
    own = (root, services.workspace.data, services.workspace.models, services.workspace.results)
    if path == root:
        return *listed, mark_html("info", NOTHING), gr.Button(visible=False)
    return *listed, facts_html(services, path), gr.Button(visible=path not in own)


def _folder(services: Services, folder: Path, picked: str) -> tuple[str, dict[str, Any]]:
    """Return where we are, with the free space, and the table of what lies there; our own files left out."""
    root = services.workspace.root
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    entries.sort(key=lambda entry: (entry.is_file(), entry.name.casefold()))
    rows = [(services.relative(entry), _line(entry)) for entry in entries]
    if folder != root:
        rows.insert(0, (services.relative(folder.parent), [UP, "", ""]))
    disk = shutil.disk_usage(root)
    where = "" if folder == root else f" / {services.relative(folder)}"
    text = f'<p style="overflow-wrap:anywhere"><b>Workspace</b>{escape(where)}</p>'
    space = f"{bytes_text(disk.free)} free of {bytes_text(disk.total)} on this disk."
    if disk.free < 2e9:
        text += mark_html("warning", space, "Delete what is not needed; a full disk ends trainings.")
    else:
        text += f'<p class="subdued">{space}</p>'
    return text, table_value(HEADER, rows, picked)


def _line(entry: Path) -> list[str]:
    if is_zarr(entry):
        return [entry.name, "Zarr", _changed(entry)]
    if entry.is_dir():
        count = sum(not part.name.startswith(".") for part in entry.iterdir())
        return [f"{entry.name}/", "1 entry" if count == 1 else f"{count} entries", _changed(entry)]
    return [entry.name, bytes_text(entry.stat().st_size) if entry.exists() else "–", _changed(entry)]


def _changed(entry: Path) -> str:
    return moment_text(entry.stat().st_mtime) if entry.exists() else "–"


def facts_html(services: Services, path: Path) -> str:
    """Return what a file is: size, date and, for an image, shape, type, axes and pixel size."""
    relative = services.relative(path)
    rows = [("Size", _size_text(path)), ("Changed", _changed(path))]
    note, links = "", []
    if path.is_file():
        # A plain link: Gradio's download button would first copy the file, minutes for a large stack.
        address = f"gradio_api/file={quote(str(path))}"
        links.append(f'<a href="{address}" download="{escape(path.name)}">Download</a>')
    if path.is_dir():
        links.append(zips.link_html(path, relative, "Download as ZIP"))
    if is_zarr(path) or (path.is_file() and path.suffix.lower() in IMAGES):
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
    what = f"{relative} ({_size_text(path)})"
    if path.is_dir():
        count = sum(part.is_file() for part in path.rglob("*"))
        what = f"The folder {relative} with {count} files ({_size_text(path)})"
    return f"{what} is deleted for good. {_meaning(path, Path(relative).parts)}".strip()


def delete(services: Services, chosen: str | None) -> tuple[str, str]:
    """Delete a file or a folder; return how that went and what is chosen afterwards: the folder it was in."""
    done = attempt(lambda: services.delete(chosen or ""))
    if isinstance(done, Problem):
        return mark_html("error", done.message, done.remedy), chosen or ""
    return mark_html("ok", f"{chosen} is deleted."), Path(chosen or "").parent.as_posix()


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


def _meaning(path: Path, parts: tuple[str, ...]) -> str:
    """Return what a path inside a run means to its owner."""
    if parts[0] == "models" and len(parts) > 1:
        what = (
            "It belongs to a training run" if path.is_file() else "It holds training runs with their models"
        )
        return f"{what}; versions registered from it stay in MLflow, but the run cannot be used any more."
    if parts[0] == "results":
        return "It belongs to a segmentation, which can be made again with the same model and image."
    return ""


def _size_text(path: Path) -> str:
    return bytes_text(sum(map(_size, [path] if path.is_file() else path.rglob("*"))))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:
        return 0  # gone since it was listed: a run replaces its files while it works
