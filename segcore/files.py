"""Files that are either whole or not there: written beside their place, then renamed."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed and replaces `path`, else it is removed.

    A reader, a crash or a full disk therefore never meets a half-written file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace `path` by `content` in one step."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def share_file(source: Path, target: Path) -> None:
    """Let `target` be the same file as `source`, or a copy where the disk knows no links; whole or not.

    Only for files that are replaced and never changed in place.
    """
    with atomic_path(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copy2(source, temporary)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder nobody writes to."""
    for path in folder.rglob(".*.part"):
        path.unlink(missing_ok=True)


def sha256(*paths: Path) -> str:
    """Return the SHA-256 over the contents of `paths` in turn; of a folder, over all files in it."""
    digest = hashlib.sha256()
    for path in paths:
        for file in _files(path):
            if file != path:  # the same contents under other names are another folder
                digest.update(file.relative_to(path).as_posix().encode())
            with file.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
