"""Index: what was once read of files, kept in a cache until they change, so that large folders open fast."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import chain
from pathlib import Path
from stat import S_ISREG
from typing import Any

from segcore import __version__
from segcore.addresses import is_url, split_address
from segcore.card import PixelSize
from segcore.errors import DataError

ENVIRONMENT = "SEGCORE_CACHE"
FORMAT = 2
"""Goes up whenever the same file is read differently."""
SETTLED = 2.0
"""Seconds: a file changed since could change again without another time stamp on some disks."""
MOST = 1_000_000
"""So many facts are kept; then the older half goes."""
THREADS = 4
"""Reading headers is waiting for the disk, and work for the interpreter, for which more would only fight."""
_CHUNK = 1000
"""Facts that are kept together: what is lost if somebody breaks off."""
_TASK = 16
"""Facts a thread makes in one go, where there are many: handing over costs as much as a short header."""
_SCHEMA = "CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, stored REAL, content TEXT) WITHOUT ROWID"

Progress = Callable[[int, int], None]


class Index:
    """Facts about files, in a SQLite file; without a word empty where that is damaged or cannot be written.

    Parameters
    ----------
    folder : Path, optional
        Where it lies; by default $SEGCORE_CACHE, or `segcore` in the user's cache folder.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.path = (folder or cache_folder()) / "index.sqlite"

    def find(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the facts that are known."""
        found: dict[str, Any] = {}
        if not self.path.exists():
            return found
        wanted = list(keys)
        try:
            with closing(self._connect()) as connection:
                for start in range(0, len(wanted), _CHUNK):
                    part = wanted[start : start + _CHUNK]
                    marks = ",".join("?" * len(part))
                    query = f"SELECT key, content FROM facts WHERE key IN ({marks})"
                    found.update(
                        (key, json.loads(content)) for key, content in connection.execute(query, part)
                    )
        except (sqlite3.Error, OSError, ValueError) as error:
            self._give_up(error)
            return {}
        return found

    def keep(self, facts: Mapping[str, Any]) -> None:
        """Keep facts: all of them, or none where they cannot be written."""
        now = time.time()
        rows = [(key, now, json.dumps(content)) for key, content in facts.items()]
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(self._connect()) as connection, connection:
                connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", rows)
                count = connection.execute("SELECT COUNT(*) FROM facts").fetchone()[0]
                if count > MOST:
                    oldest = "SELECT key FROM facts ORDER BY stored LIMIT ?"
                    connection.execute(f"DELETE FROM facts WHERE key IN ({oldest})", (count - MOST // 2,))
        except (sqlite3.Error, OSError) as error:
            self._give_up(error)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=5)
        try:
            connection.execute("PRAGMA synchronous=OFF")  # what a crash loses is read again
            connection.execute(_SCHEMA)
        except sqlite3.Error:
            connection.close()
            raise
        return connection

    def _give_up(self, error: Exception) -> None:
        """Remove a damaged file; one that is locked or may not be written stays."""
        if not isinstance(error, (sqlite3.OperationalError, OSError)):
            try:
                self.path.unlink(missing_ok=True)
            except OSError:
                return


def cache_folder() -> Path:
    """Return where things are kept that can be made again: $SEGCORE_CACHE, or the user's cache folder."""
    given = os.environ.get(ENVIRONMENT)
    return (
        Path(given)
        if given
        else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "segcore"
    )


def key_of(kind: str, addresses: Sequence[str], options: str = "") -> str | None:
    """Return under which key facts about files are kept; it changes whenever one of the files does.

    Parameters
    ----------
    kind : str
        What the facts are.
    addresses : sequence of str
        The files they are about.
    options : str
        Everything else the facts depend on.

    Returns
    -------
    str or None
        None for URLs, folders, missing files and such as were changed in the last seconds: from outside
        nobody can see whether these have changed.
    """
    digest = hashlib.sha256("\n".join((__version__, str(FORMAT), kind, options)).encode())
    newest = (time.time() - SETTLED) * 1e9
    for address in addresses:
        if is_url(address):
            return None
        file, name = split_address(address)
        try:
            status = os.stat(file)
        except (OSError, ValueError):
            return None
        if not S_ISREG(status.st_mode) or status.st_mtime_ns > newest:
            return None
        place = file if os.path.isabs(file) else os.path.abspath(file)
        stamp = f"{place}\n{name}\n{status.st_mtime_ns} {status.st_size} {status.st_ino}\n"
        digest.update(stamp.encode(errors="surrogateescape"))
    return digest.hexdigest()


def recall(
    keys: Sequence[str | None],
    make: Callable[[int], Any],
    progress: Progress | None = None,
    index: Index | None = None,
) -> list[Any]:
    """Return the facts for all keys: from the index, or made anew, in threads, and kept there.

    Parameters
    ----------
    keys : sequence of str or None
        None: made anew every time.
    make : callable
        From a position in `keys` to the facts, as JSON can hold them; None is never kept. What it raises ends
        everything.
    progress : callable, optional
        Called with facts at hand and facts in all.
    index : Index, optional
        By default the user's.
    """
    index = index or Index()
    known = index.find(key for key in keys if key is not None)
    facts: list[Any] = [known.get(key) if key is not None else None for key in keys]
    missing = [position for position, fact in enumerate(facts) if fact is None]
    done = len(keys) - len(missing)
    if progress and done:
        progress(done, len(keys))
    task = max(1, min(_TASK, len(missing) // (4 * THREADS)))
    with ThreadPoolExecutor(min(THREADS, len(missing)) or 1) as pool:
        for start in range(0, len(missing), _CHUNK):
            chunk = missing[start : start + _CHUNK]
            fresh: dict[str, Any] = {}
            parts = [chunk[first : first + task] for first in range(0, len(chunk), task)]
            made = chain.from_iterable(pool.map(lambda part: [make(number) for number in part], parts))
            for position, fact in zip(chunk, made, strict=True):
                facts[position] = fact
                key = keys[position]
                if key is not None and fact is not None:
                    fresh[key] = fact
                done += 1
                if progress:
                    progress(done, len(keys))
            if fresh:
                index.keep(fresh)
    return facts


def probe_all(
    addresses: Sequence[str],
    progress: Progress | None = None,
    axes: str | None = None,
    index: Index | None = None,
) -> list[Any]:
    """Return what the header of every image says, a `Probe`, or the `DataError` why it cannot be read.

    Parameters
    ----------
    addresses : sequence of str
        The images.
    progress : callable, optional
        Called with images looked at and images in all.
    axes : str, optional
        Axes where the metadata is missing or wrong.
    index : Index, optional
        By default the user's.
    """
    from segcore.data.open import Probe, probe

    errors: dict[int, DataError] = {}

    def make(position: int) -> dict[str, Any] | None:
        try:
            found = probe(addresses[position], axes)
        except DataError as error:
            errors[position] = error
            return None
        return {**vars(found), "pixel_size": found.pixel_size.model_dump()}

    facts = recall([key_of("probe", [one], axes or "") for one in addresses], make, progress, index)
    return [
        errors[position]
        if fact is None
        else Probe(
            fact["axes"],
            tuple(fact["shape"]),
            fact["dtype"],
            PixelSize(**fact["pixel_size"]),
            tuple(fact["notes"]),
        )
        for position, fact in enumerate(facts)
    ]
