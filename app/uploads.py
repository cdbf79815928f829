"""Uploads: a safe name in the data folder, never over an existing file, whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
import unicodedata
from pathlib import Path, PurePosixPath, PureWindowsPath

from segcore.errors import DataError
from segcore.files import atomic_path

_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*]')
_RESERVED = re.compile(r"^(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
LONGEST_NAME = 180
"""Bytes; file systems stop at 255, and our temporary names are longer than the name."""


def safe_name(name: str) -> str:
    r"""Return a file name that every system accepts; letters of any script are kept.

    Examples
    --------
    >>> safe_name("../../etc/passwd"), safe_name("C:\\data\\Zellen über Nacht.tif"), safe_name("..")
    ('passwd', 'Zellen über Nacht.tif', 'file')
    """
    name = PurePosixPath(PureWindowsPath(name).name).name
    name = _FORBIDDEN.sub("_", unicodedata.normalize("NFC", name)).strip().strip(".").strip()
    if _RESERVED.match(name):
        name = f"_{name}"
    stem, suffix = os.path.splitext(name)
    while len((stem + suffix).encode()) > LONGEST_NAME:
        stem, suffix = (stem[:-1], suffix) if stem else ("file", suffix[:20])
    return stem + suffix or "file"


def free_path(folder: Path, name: str) -> Path:
    """Claim `folder/name`, or `name-1`, `name-2` … where that is taken, by an empty file; return its path."""
    stem, suffix = os.path.splitext(name)
    number = 0
    while True:
        path = folder / (f"{stem}-{number}{suffix}" if number else name)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
            return path
        except FileExistsError:
            number += 1


def store(source: Path, folder: Path, name: str = "", limit_bytes: int | None = None) -> Path:
    """Copy an uploaded file into `folder` and return its path there.

    Parameters
    ----------
    source : Path
        The uploaded file.
    folder : Path
        Where it goes; made if missing.
    name : str
        The name the user's file had; that of `source` by default.
    limit_bytes : int, optional
        Larger files are refused.

    Raises
    ------
    DataError
        The file is too large, the disk is full, or the upload is gone.
    """
    name = safe_name(name or source.name)
    target: Path | None = None
    try:
        size = source.stat().st_size
        if limit_bytes is not None and size > limit_bytes:
            raise DataError(
                f"{name} has {size / 1e9:.1f} GB; uploads are limited to {limit_bytes / 1e9:.1f} GB.",
                "Copy it into the workspace's data folder, or start the app with a larger --max-upload-gb.",
            )
        folder.mkdir(parents=True, exist_ok=True)
        target = free_path(folder, name)
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
    except OSError as error:
        if target is not None:
            target.unlink(missing_ok=True)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise DataError(
            f"{name} could not be saved: {'the disk is full' if full else error.strerror or error}.",
            "Free some space (tab Files) and upload it again." if full else "Upload it again.",
        ) from error
    return target
