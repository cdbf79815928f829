"""Archives: several uploaded files, or a zip of them, become one folder of images; whole or not at all."""

from __future__ import annotations

import errno
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath

from app.uploads import safe_name, store
from segcore.errors import DataError

MOST_FILES = 200_000
UNWANTED = ("__MACOSX", "Thumbs.db", "desktop.ini")
BLOCK = 2**20


def is_collection(path: Path) -> bool:
    """Say whether a file is a zip of images; one of ImageJ ROIs alone is labels, and stays a file."""
    if path.suffix.lower() != ".zip" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if _wanted(name)]
    return any(not name.lower().endswith(".roi") for name in names)


def take(sources: Sequence[Path], folder: Path, limit_bytes: int) -> Path:
    """Take uploaded files into `folder`: one as it is, several or a zip of images as a new folder.

    Raises
    ------
    DataError
        They are too large or damaged, or the disk is full.
    """
    if len(sources) > 1:
        return gather(sources, folder, limit_bytes)
    if is_collection(sources[0]):
        return unpack(sources[0], folder, limit_bytes)
    return store(sources[0], folder, limit_bytes=limit_bytes)


def unpack(source: Path, folder: Path, limit_bytes: int) -> Path:
    """Unpack a zip into a new folder in `folder`, with the folders it holds, and return it.

    Parameters
    ----------
    source : Path
        The zip.
    folder : Path
        Where the new folder goes.
    limit_bytes : int
        Largest sum of what is in it.

    Raises
    ------
    DataError
        It is damaged or empty, holds more than allowed, or the disk is full.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            members = [item for item in archive.infolist() if not item.is_dir() and _wanted(item.filename)]
            _check(source.name, members, limit_bytes)
            return _made(folder, source.stem, lambda target: _extract(archive, members, target, limit_bytes))
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
        # RuntimeError: it is encrypted; NotImplementedError: a kind of compression that nobody here knows.
        raise DataError(
            f"{source.name} cannot be unpacked: {error}.",
            "Make a plain zip without a password, or upload the files.",
        ) from error


def gather(sources: Sequence[Path], folder: Path, limit_bytes: int) -> Path:
    """Copy uploaded files into a new folder in `folder`, and return it.

    Raises
    ------
    DataError
        Together they are too large, or the disk is full.
    """
    size = sum(source.stat().st_size for source in sources)
    if size > limit_bytes:
        raise _too_large(f"The {len(sources)} files", size, limit_bytes)

    def copy(target: Path) -> None:
        for source in sources:
            shutil.copyfile(source, _free(target / safe_name(source.name)))

    return _made(folder, common_name([source.stem for source in sources]), copy)


def common_name(stems: Sequence[str]) -> str:
    """Return what files are called together.

    Examples
    --------
    >>> common_name(["cells_001", "cells_002"]), common_name(["a", "b"])
    ('cells', 'images')
    """
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*stems, strict=False))
    start = "".join(letters[0] for letters in same).rstrip("0123456789 ._-")
    return start if len(start) > 1 else "images"


def _made(folder: Path, name: str, fill: Callable[[Path], None]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".upload-", dir=folder))
    try:
        fill(temporary)
        temporary.chmod(0o755)
        number, plain = 0, safe_name(name)
        while True:
            target = folder / (f"{plain}-{number}" if number else plain)
            number += 1
            if not target.exists():
                return temporary.rename(target)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise DataError(
            f"{name} could not be saved: {'the disk is full' if full else error.strerror or error}.",
            "Free some space (tab Files) and upload it again." if full else "Upload it again.",
        ) from error
    finally:
        if temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def _check(name: str, members: Sequence[zipfile.ZipInfo], limit_bytes: int) -> None:
    if not members:
        raise DataError(f"{name} holds no files.", "Put the images into the zip.")
    if len(members) > MOST_FILES:
        raise DataError(
            f"{name} holds {len(members)} files; {MOST_FILES} are the most.",
            "Copy the images into the workspace's data folder.",
        )
    size = sum(member.file_size for member in members)
    if size > limit_bytes:
        raise _too_large(f"What is in {name}", size, limit_bytes)


def _extract(
    archive: zipfile.ZipFile, members: Sequence[zipfile.ZipInfo], target: Path, limit_bytes: int
) -> None:
    # A zip may lie about the sizes: what is written is counted.
    written, outer = 0, _shared_folder([member.filename for member in members])
    for member in members:
        if stat.S_ISLNK(member.external_attr >> 16):
            continue
        parts = [
            safe_name(part) for part in PurePosixPath(member.filename).parts if part not in ("/", "..", ".")
        ]
        path = target.joinpath(*parts[outer:])
        path.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(member) as packed, _free(path).open("wb") as plain:
            while block := packed.read(BLOCK):
                written += len(block)
                if written > limit_bytes:
                    raise _too_large("What is in the zip", written, limit_bytes)
                plain.write(block)


def _shared_folder(names: Sequence[str]) -> int:
    """Return 1 if all files lie in one folder, whose name says nothing that the zip's name does not."""
    first = {PurePosixPath(name).parts[0] for name in names}
    return int(len(first) == 1 and all(len(PurePosixPath(name).parts) > 1 for name in names))


def _wanted(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return (
        bool(parts)
        and not any(part.startswith(".") and part != ".." for part in parts)
        and not (set(parts) & set(UNWANTED) or name.endswith("/"))
    )


def _free(path: Path) -> Path:
    number, free = 0, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free


def _too_large(what: str, size: int, limit: int) -> DataError:
    return DataError(
        f"{what} has {size / 1e9:.1f} GB; uploads are limited to {limit / 1e9:.1f} GB.",
        "Copy it into the workspace's data folder, or start the app with a larger --max-upload-gb.",
    )
