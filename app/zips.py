"""Zips: a folder of the workspace as one ZIP file, made while it is sent; nothing is copied."""

from __future__ import annotations

import asyncio
import io
import os
import zipfile
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from segcore.errors import DataError, SegcoreError
from segcore.workspace import Workspace

ADDRESS = "download-zip"
PART = 2**20
"""Bytes read and sent at once."""
WORTH_PACKING = (".tif", ".tiff", ".json", ".jsonl", ".csv", ".txt", ".npy")
"""Files that become much smaller; chunks of Zarr are packed already."""


def link_html(path: Path, relative: str, text: str) -> str:
    """Return a link that downloads a folder of the workspace as ZIP.

    Parameters
    ----------
    path : Path
        The folder.
    relative : str
        The same as workspace path.
    text : str
        What the link says.
    """
    address = f"{ADDRESS}?path={quote(relative)}"
    return f'<a class="download" href="{address}" download="{escape(path.name)}.zip">{escape(text)}</a>'


def zip_route(workspace: Workspace) -> Route:
    """Return the route that answers `link_html`; whoever may not see the page gets nothing."""

    async def answer(request: Request) -> Response:
        if not await _is_welcome(request):
            return PlainTextResponse("Log in first.", 401)
        try:
            folder = find_folder(workspace, request.query_params.get("path", ""))
        except SegcoreError as error:
            return PlainTextResponse(f"{error.message} {error.remedy}", 404)
        name = f"attachment; filename*=utf-8''{quote(folder.name)}.zip"
        headers = {"content-disposition": name, "x-content-type-options": "nosniff"}
        return StreamingResponse(zip_parts(folder), media_type="application/zip", headers=headers)

    return Route(f"/{ADDRESS}", answer)


def find_folder(workspace: Workspace, path: str) -> Path:
    """Return a folder that may be taken along: one of the data, the models or the results.

    Raises
    ------
    DataError
        There is no such folder.
    """
    folder = workspace.resolve(path)
    open_to_all = (workspace.data, workspace.models, workspace.results)
    if not folder.is_dir() or not any(folder.is_relative_to(root) for root in open_to_all):
        raise DataError(f"{path!r} is no folder that can be downloaded.", "Choose a folder in the tab Files.")
    return folder


def zip_parts(folder: Path) -> Iterator[bytes]:
    """Yield a ZIP of all files below a folder piece by piece; hidden files and links are left out."""
    outlet = _Outlet()
    with zipfile.ZipFile(outlet, "w") as archive:
        for file in _files(folder):
            yield from _packed(archive, file, file.relative_to(folder.parent), outlet)
    yield outlet.take()


def _packed(archive: zipfile.ZipFile, file: Path, name: Path, outlet: _Outlet) -> Iterator[bytes]:
    try:
        source = file.open("rb")
    except OSError:
        return  # gone since it was listed
    with source:
        entry = zipfile.ZipInfo.from_file(file, name.as_posix(), strict_timestamps=False)
        if file.suffix.lower() in WORTH_PACKING:
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry._compresslevel = 1  # type: ignore[attr-defined]
        # A file may grow while it is read.
        with archive.open(entry, "w", force_zip64=entry.file_size > 2**30) as target:
            while part := source.read(PART):
                target.write(part)
                if outlet.size >= PART:
                    yield outlet.take()


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            file = Path(parent, name)
            if not name.startswith(".") and not file.is_symlink() and file.is_file():
                yield file


class _Outlet(io.RawIOBase):
    """What the archive is written to: keeps what was not sent yet."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return len(self._waiting)

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: Any) -> int:
        """Take bytes."""
        self._waiting += data
        return len(data)

    def take(self) -> bytes:
        """Return the bytes that wait, and forget them."""
        taken = bytes(self._waiting)
        self._waiting.clear()
        return taken


async def _is_welcome(request: Request) -> bool:
    """Say whether somebody is logged in, where the app asks for that; as Gradio's own `login_check`."""
    app = request.app
    if getattr(app, "auth", None) is None and getattr(app, "auth_dependency", None) is None:
        return True
    if app.auth_dependency is not None:
        user = app.auth_dependency(request)
        return (await user if asyncio.iscoroutine(user) else user) is not None
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    token = next((found for name in names if (found := request.cookies.get(name))), None)
    return app.tokens.get(token) is not None
