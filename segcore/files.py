"""Files that are either whole or not there: written beside their place, then renamed."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

HASHED_BYTES = 4 * 10**9


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


def sync_file(path: Path) -> None:
    """Return when a file is on the disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Return when the names of a folder's files are on the disk, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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


def remove_leftovers(folder: Path, spared: str = "") -> None:
    """Remove the temporary files that killed processes left in a folder nobody writes to.

    Folders of the name `spared` are not looked into: they may hold a million files.
    """
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != spared]
        for name in files:
            if name.startswith(".") and name.endswith(".part"):
                Path(place, name).unlink(missing_ok=True)


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


def sha256_of_all(addresses: Iterable[str]) -> str:
    """Return a hash over files, folders and addresses in turn.

    Up to 4 GB it is the SHA-256 of their contents. Beyond, which would take minutes, it is that of names,
    sizes and times, and begins with "stamp:"; of what lies on a server only the address counts.
    """
    paths, digest = [], hashlib.sha256()
    for address in addresses:
        path = Path(address.partition("::")[0])
        if path.exists():
            paths.append(path)
        else:
            digest.update(address.encode())
    files = [file for path in dict.fromkeys(paths) for file in _files(path)]
    if sum(file.stat().st_size for file in files) <= HASHED_BYTES:
        if len(paths) == len(files) and paths:
            return sha256(*dict.fromkeys(paths))
        digest.update(sha256(*dict.fromkeys(paths)).encode())
        return digest.hexdigest()
    for file in files:
        status = file.stat()
        digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns}".encode())
    return f"stamp:{digest.hexdigest()}"


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
