"""Unfinished work: what of a segmentation is on disk already, so that it goes on there after any end."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from segcore.card import Normalization
from segcore.files import write_atomic
from segcore.prediction import Division

PARTIAL = "partial"
"""Folder of unfinished results in the run folder."""
_PLAN, _DONE, _FINISHED = "plan.json", "done.jsonl", "finished.jsonl"


@dataclass
class Partial:
    """The unfinished result of one image.

    Parameters
    ----------
    folder : Path
        Where it lies; files of sinks lie there, too.
    key : str
        Stands for all that decides the result, see `key_of`.
    division : Division
        The blocks of the image.
    normalization : Normalization, optional
        The image's own statistics, where the model takes them.
    begun : bool
        Whether the files of the sinks exist.
    done : dict
        Number of every block that is on disk → pixels of every class index in it.
    devices : list of str
        Those that have worked on it: alike, see `Hardware.kind`, but perhaps with another number of cores.
    """

    folder: Path
    key: str
    division: Division
    normalization: Normalization | None
    begun: bool = False
    done: dict[int, list[int]] = field(default_factory=dict)
    devices: list[str] = field(default_factory=list)

    @classmethod
    def take_up(
        cls, folder: Path, key: str, divide: Callable[[], tuple[Division, Normalization | None]]
    ) -> Partial:
        """Return what is there, or a fresh beginning.

        Parameters
        ----------
        folder : Path
            Where it lies, or will lie.
        key : str
            Stands for all that decides the result, see `key_of`; what was made with another key is removed.
        divide : callable
            Returns blocks and statistics of a fresh beginning.
        """
        plan = _read(folder / _PLAN)
        if plan is None or plan["key"] != key:
            shutil.rmtree(folder, ignore_errors=True)
            return cls(folder, key, *divide())
        division = Division(**{name: _tupled(value) for name, value in plan["division"].items()})
        own = plan["normalization"]
        found = cls(folder, key, division, Normalization.model_validate(own) if own else None, begun=True)
        found.devices = plan["devices"]
        for line in _lines(folder / _DONE):
            found.done[line["block"]] = line["pixels"]
        return found

    def clear(self) -> None:
        """Forget what was done: its files are gone."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.begun, self.done, self.devices = False, {}, []

    def begin(self, device: str) -> None:
        """Write down how the image is divided, and what works on it, once the files of the sinks exist."""
        self.devices += [device] if device not in self.devices else []
        own = self.normalization.model_dump(mode="json") if self.normalization else None
        plan = {
            "key": self.key,
            "division": asdict(self.division),
            "normalization": own,
            "devices": self.devices,
        }
        write_atomic(self.folder / _PLAN, json.dumps(plan) + "\n")
        self.begun = True

    def note(self, blocks: Mapping[int, Sequence[int]]) -> None:
        """Write down blocks that are on disk, with the pixels of every class index in them."""
        _append(
            self.folder / _DONE,
            [{"block": number, "pixels": list(pixels)} for number, pixels in blocks.items()],
        )
        self.done |= {number: list(pixels) for number, pixels in blocks.items()}

    @property
    def pixels(self) -> list[int]:
        """Pixels of every class index in all blocks."""
        return [sum(column) for column in zip(*self.done.values(), strict=True)]


class Finished:
    """The images of a segmentation that are finished, or cannot be segmented.

    Parameters
    ----------
    folder : Path
        The folder of unfinished results.
    key : str
        Stands for all that decides the results.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._file = folder / _FINISHED
        self._key = key
        self._found = {line["name"]: line for line in _lines(self._file) if line["key"] == key}

    def get(self, name: str) -> dict[str, Any] | None:
        """Return what was noted of the image `name`: {"entry": …} or {"failed": …}."""
        return self._found.get(name)

    def note(self, name: str, **what: Any) -> None:
        """Write down that an image is finished."""
        self._found[name] = {"name": name, "key": self._key, **what}
        _append(self._file, [self._found[name]])


def key_of(*parts: Any) -> str:
    """Return a short text that stands for all of `parts`, which JSON can express."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def stamps(addresses: Sequence[str]) -> list[Any]:
    """Return name, size and time of the files of an image: another image has another stamp."""
    found: list[Any] = []
    for address in addresses:
        path = Path(address.partition("::")[0])
        try:
            status = path.stat()
        except OSError:
            found.append(address)
        else:
            found.append([address, status.st_size, status.st_mtime_ns])
    return found


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a file; the last may be cut off by a death."""
    found = []
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return []
    for line in text.split("\n")[:-1]:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def _append(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Add lines that are on disk when this returns; what a death left of a line stays a line of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 1))
        torn = stream.read(1) not in (b"", b"\n")
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        stream.write((("\n" if torn else "") + text).encode())
        stream.flush()
        os.fsync(stream.fileno())
