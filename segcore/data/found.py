"""Found files: the images and labels below a folder, without opening any of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

from segcore.addresses import INSIDE
from segcore.data.report import Finding, Level

LABEL_SUFFIXES = (".json", ".geojson", ".roi", ".zip")
"""Files that can be labels, but never images."""
MORE_IMAGES = (".lsm",)
"""TIFF files that are called differently."""
_QUIET = (
    "", ".txt", ".md", ".rst", ".csv", ".tsv", ".xml", ".html", ".pdf", ".log", ".ini", ".db", ".yaml",
    ".yml", ".toml", ".py", ".ipynb", ".xls", ".xlsx", ".doc", ".docx", ".sh", ".bat", ".m", ".ijm",
)  # fmt: skip
"""Files that lie beside images and are none; nobody needs to hear of them."""
_NOTICES: dict[str, tuple[Level, str, str]] = {
    "outside": (
        "warning",
        "Links that lead out of the folder, or nowhere, are left out",
        "Copy the files into the folder.",
    ),
    "strange": ("warning", "Names that are no UTF-8 text are left out", "Rename the files."),
    "closed": ("warning", "Cannot be read", "Ask for the right to read them."),
    "unknown": ("info", "Files of an unknown kind are left out", ""),
}
"""What is said of files that are left out."""
_STEP = 1000
"""Files between two reports of progress."""
_DIGITS = re.compile("[0-9]+")
LISTED = 10
"""So many file names a finding lists."""


@dataclass(frozen=True)
class Found:
    """A file, or a folder that is one image.

    Parameters
    ----------
    name : str
        Its path below the folder that was searched, with forward slashes.
    address : str
        What opens it.
    """

    name: str
    address: str

    @cached_property
    def stem(self) -> str:
        """The name of the file without its ending."""
        return stem_of(self.name.partition(INSIDE)[0].rpartition("/")[2])

    @cached_property
    def folder(self) -> tuple[str, ...]:
        """The folders between what was searched and the file."""
        return tuple(self.name.partition(INSIDE)[0].split("/")[:-1])

    @property
    def suffix(self) -> str:
        """Ending of the file in small letters, with its dot."""
        return os.path.splitext(self.name)[1].lower()


@dataclass
class Search:
    """What lies below a folder.

    Parameters
    ----------
    files : list of Found
        Images and label files in the natural order of their names.
    findings : list of Finding
        What was not looked at, and why.
    """

    files: list[Found] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def search_folder(root: Path, progress: Callable[[int], None] | None = None) -> Search:
    """Return images and label files in a folder and all folders within it.

    A Zarr, and a folder of DICOM files, is one image. Hidden files and links out of the folder are left out.

    Parameters
    ----------
    root : Path
        The folder.
    progress : callable, optional
        Called now and then with the number of files found.
    """
    search = Search()
    left_out: dict[str, list[str]] = {kind: [] for kind in _NOTICES}
    known, real = image_suffixes(), os.path.realpath(root)
    pending = [""]
    while pending:
        below = pending.pop()
        entries = _entries(root, below, left_out["closed"])
        if below and _is_one_image(entries):
            search.files.append(Found(below.rstrip("/"), str(root / below)))
            continue
        for entry in entries:
            name = below + entry.name
            kind = _kind(entry, known, real)
            if kind == "folder":
                pending.append(f"{name}/")
            elif kind == "image":
                search.files.append(Found(name, entry.path))
                if progress and len(search.files) % _STEP == 0:
                    progress(len(search.files))
            elif kind:
                left_out[kind].append(name.encode(errors="backslashreplace").decode())
    search.files.sort(key=lambda file: natural(file.name))
    if progress:
        progress(len(search.files))
    for kind, names in left_out.items():
        level, what, remedy = _NOTICES[kind]
        search.findings.extend(about(level, names, what, root.name, remedy))
    return search


def search_pattern(pattern: str, progress: Callable[[int], None] | None = None) -> Search:
    """Return the files that a pattern like `data/*_raw.tif` or `data/**/raw.tif` means."""
    fixed, rest = _fixed_part(pattern)
    search = search_folder(Path(fixed), progress)
    wanted = glob_expression(rest)
    search.files = [file for file in search.files if wanted.fullmatch(file.name)]
    if not search.files:
        search.findings.append(
            Finding(
                level="error",
                what=f"No file fits {pattern!r}.",
                where=fixed,
                remedy="Write * for any letters of a name and **/ for any folders.",
            )
        )
    return search


def caught_by(pattern: str, name: str) -> tuple[str, ...] | None:
    """Return what the stars of a pattern stand for in the name of a file that it means."""
    match = glob_expression(_fixed_part(pattern)[1]).fullmatch(name)
    return match.groups() if match else None


def is_one_image(folder: Path) -> bool:
    """Say whether a folder is opened as a whole: a Zarr, or DICOM files only."""
    return _is_one_image(_entries(folder, "", []))


@lru_cache(maxsize=1)
def stem_of(file: str) -> str:
    """Return the name of a file without what says how it is stored; other endings belong to the name."""
    for suffix in (".nii.gz", ".ome.tiff", ".ome.tif", ".ome.zarr"):
        if file.lower().endswith(suffix):
            return file[: -len(suffix)]
    stem, suffix = os.path.splitext(file)
    return stem if suffix.lower() in image_suffixes() else file


def image_suffixes() -> tuple[str, ...]:
    """Return the endings of all files that can be images or labels."""
    from segcore.data.open import SUFFIXES

    return (*SUFFIXES, *MORE_IMAGES, *LABEL_SUFFIXES)


def natural(name: str) -> str:
    """Return a key that sorts names as people do: slice2 before slice10.

    Examples
    --------
    >>> sorted(["slice10", "slice2"], key=natural)
    ['slice2', 'slice10']
    """
    return f"{_DIGITS.sub(_by_length, name.casefold())}\0{name}"


def _by_length(match: re.Match[str]) -> str:
    number = match[0].lstrip("0")
    return f"{len(number):03}{number}"


def about(level: Level, names: list[str], what: str, where: str, remedy: str) -> list[Finding]:
    """Return a finding about some files, which names the first of them; none if there are no files."""
    if not names:
        return []
    shown = ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} more" if names[LISTED:] else "")
    count = "" if len(names) == 1 else f" ({len(names)})"
    return [Finding(level=level, what=f"{what}{count}: {shown}.", where=where, remedy=remedy)]


@lru_cache(maxsize=64)
def glob_expression(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a pattern; every star is a group."""
    text = ""
    for part in re.split(r"(\*\*/|\*|\?|\[[^\]]+\])", pattern):
        if part == "**/":
            text += r"(?:(.+)/)?"
        elif part == "*":
            text += "([^/]*)"
        elif part == "?":
            text += "([^/])"
        elif part.startswith("[") and part.endswith("]"):
            text += f"({part.replace('[!', '[^', 1)})"
        else:
            text += re.escape(part)
    return re.compile(text)


def _fixed_part(pattern: str) -> tuple[str, str]:
    parts = Path(pattern).parts
    first = next((number for number, part in enumerate(parts) if re.search(r"[*?\[]", part)), len(parts) - 1)
    return str(Path(*parts[:first])) if first else ".", "/".join(parts[first:])


def _entries(root: Path, below: str, closed: list[str]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(root / below) as entries:
            found = list(entries)
    except OSError:
        closed.append(below or root.name)
        return []
    if any(entry.name in (".zarray", ".zgroup") for entry in found):
        return found
    return [entry for entry in found if not entry.name.startswith(".")]


def _is_one_image(entries: list[os.DirEntry[str]]) -> bool:
    from segcore.data.dicom import SUFFIXES, is_dicom_file
    from segcore.data.zarr_files import MARKERS

    if any(entry.name in MARKERS for entry in entries):
        return True
    kinds = {os.path.splitext(entry.name)[1].lower() for entry in entries if entry.is_file()}
    if kinds & set(image_suffixes()) - {*SUFFIXES, *LABEL_SUFFIXES}:
        return False
    bare = sorted(entry.path for entry in entries if "." not in entry.name and entry.is_file())
    return bool(kinds & set(SUFFIXES)) or (bool(bare) and is_dicom_file(Path(bare[0])))


def _kind(entry: os.DirEntry[str], known: tuple[str, ...], real_root: str) -> str:
    """Return what an entry is: image, folder, a key of `_NOTICES`, or "" for what is passed over."""
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return "strange"
    if entry.is_symlink() and not _stays_inside(entry.path, real_root):
        return "outside"
    if entry.is_dir():  # what a link leads to is found where it lies
        return "" if entry.is_symlink() else "folder"
    if not entry.is_file():  # a pipe or a device: reading from it would wait for ever
        return ""
    if entry.name.lower().endswith(known):
        return "image"
    return "" if os.path.splitext(entry.name)[1].lower() in _QUIET else "unknown"


def _stays_inside(path: str, real_root: str) -> bool:
    target = os.path.realpath(path)
    return os.path.exists(target) and (target == real_root or target.startswith(real_root + os.sep))
