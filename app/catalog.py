"""Catalog: what of a workspace can be chosen as images or labels: files, folders of files, Zarr folders."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

IMAGES = (
    ".tif", ".tiff", ".npy", ".npz", ".h5", ".hdf5", ".nii", ".gz", ".zarr", ".png", ".jpg", ".jpeg", ".bmp",
    ".dcm", ".czi", ".nd2", ".lif",
)  # fmt: skip
LABELS = (*IMAGES, ".json", ".geojson", ".roi", ".zip")
OURS = ("models", "mlruns")
"""Folders of the workspace in which there are no images of the user."""
ROOTS = ("", "data", "results")
"""They hold the images of all, and are no data set themselves."""
LISTED = 40
"""Of a folder with more images only the folder is offered: nobody reads a longer list."""
Choice = tuple[str, str]


@dataclass
class _Folder:
    files: list[str] = field(default_factory=list)
    folders: int = 0
    """Folders in it that hold images themselves."""


def choices(root: Path, suffixes: tuple[str, ...] = IMAGES) -> list[Choice]:
    """Return `(text, workspace path)` of everything that can be chosen below `root`, sorted; none hidden.

    Parameters
    ----------
    root : Path
        The workspace.
    suffixes : tuple of str
        Endings of the files that are offered, lower case with dot.
    """
    found: dict[str, _Folder] = {}
    whole: list[str] = []
    _walk(root, "", suffixes, found, whole)
    entries: list[Choice] = [(f"{path}/", path) for path in whole]
    for path, folder in found.items():
        if path not in ROOTS and (len(folder.files) > 1 or folder.folders > 1):
            entries.append((f"{path}/ · {_count_text(folder)}", path))
        if len(folder.files) <= LISTED or path in ROOTS:
            names = [f"{path}/{name}" if path else name for name in folder.files]
            entries += [(name, name) for name in names]
    return sorted(entries, key=lambda entry: entry[1].casefold())


def _walk(
    root: Path, inside: str, suffixes: tuple[str, ...], found: dict[str, _Folder], whole: list[str]
) -> bool:
    """Look into one folder; say whether there are images in it or below."""
    here, below = _Folder(), False
    try:
        entries = sorted(os.scandir(root / inside), key=lambda entry: entry.name)
    except OSError:
        return False
    for entry in entries:
        path = f"{inside}/{entry.name}" if inside else entry.name
        if entry.name.startswith(".") or path in OURS:
            continue
        if not entry.is_dir(follow_symlinks=False):
            if entry.is_file() and os.path.splitext(entry.name)[1].lower() in suffixes:
                here.files.append(entry.name)
        elif _is_zarr(entry):
            whole.append(path)
            here.folders += 1
        elif _walk(root, path, suffixes, found, whole):
            here.folders += 1
    below = bool(here.files or here.folders)
    if below:
        found[inside] = here
    return below


def _is_zarr(entry: os.DirEntry[str]) -> bool:
    marks = (".zarray", ".zgroup", "zarr.json", ".zattrs")
    return entry.name.lower().endswith(".zarr") or any(
        os.path.exists(f"{entry.path}/{mark}") for mark in marks
    )


def _count_text(folder: _Folder) -> str:
    parts = [f"{len(folder.files)} files"] if len(folder.files) > 1 else []
    return ", ".join([*parts, *([f"{folder.folders} folders"] if folder.folders > 1 else [])])
