"""Headers of TIFF files that are alike: what one says, the next thousand of the same folder say too.

A folder of very many images was nearly always written by one program with the same settings. Their headers
differ only in where the pixels lie, so that the first has to be understood and the others compared with it,
which takes a quarter of the time.
"""

from __future__ import annotations

import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from segcore.card import PixelSize
from segcore.data.integrity import HARMLESS

_ORDERS = {b"II*\x00": "<", b"MM\x00*": ">"}
_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
"""Bytes of a value of every type of TIFF 6.0."""
_OFFSETS, _COUNTS = (273, 324), (279, 325)
"""Tags that say where strips and tiles are, and how long."""
_WHEN = 306
"""Date and time."""
_BEGIN, _LONGEST = 4096, 2**16
"""Bytes that are read at once, and of the values of a header at most."""
_ELSEWHERE = 483729
"""What stands behind the header of an NDTiff, whose pixels are spread over several files."""
MOST = 256
"""Kinds of headers that are remembered."""


@dataclass(frozen=True)
class Header:
    """The only page of a file.

    Parameters
    ----------
    key : hashable
        Equal for headers that differ in nothing but the places of pixels and their date.
    first : int
        Where the first pixels begin.
    end : int
        Where the last ones end.
    size : int
        Bytes of the file.
    """

    key: Hashable
    first: int
    end: int
    size: int


@dataclass(frozen=True)
class Facts:
    """What was understood of a header.

    Parameters
    ----------
    axes, shape, dtype, pixel_size, notes
        See `ImageSource`.
    bytes : int
        Of all pixels, unpacked.
    in_one_piece : bool
        Whether the pixels lie in the file as they are, one behind the other.
    """

    axes: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pixel_size: PixelSize
    notes: tuple[str, ...]
    bytes: int
    in_one_piece: bool


class Headers:
    """The facts about headers that were seen last; safe to use from several threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, Facts] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, header: Header) -> Facts | None:
        """Return what is known of such a header, None if nothing is, or the file ends too early."""
        with self._lock:
            facts = self._known.get(header.key)
            if facts is None:
                return None
            self._known.move_to_end(header.key)
        end = header.first + facts.bytes if facts.in_one_piece else header.end
        return facts if max(end, header.end) <= header.size else None

    def keep(self, header: Header, facts: Facts) -> None:
        """Remember the facts, unless there are so many pixels that each file must show that it has them."""
        if facts.bytes <= HARMLESS:
            with self._lock:
                self._known[header.key] = facts
                while len(self._known) > MOST:
                    self._known.popitem(last=False)


def read_header(path: Path) -> Header | None:
    """Return the header of a plain TIFF file of one page; None of several pages, BigTIFF, OME and the like.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    with path.open("rb") as stream:
        begin = stream.read(_BEGIN)
        order = _ORDERS.get(begin[:4])
        if order is None or len(begin) < 12 or _ELSEWHERE in struct.unpack(f"{order}I", begin[8:12]):
            return None
        try:
            key, first, end = _read(_Bytes(stream, begin), order)
        except (struct.error, _Unusual):
            return None
        size = os.fstat(stream.fileno()).st_size
    return Header((path.suffix.lower(), order, *key), first, end, size)


class _Unusual(Exception):
    """Something that plain files do not have."""


class _Bytes:
    """Parts of a file, of which the begin is at hand."""

    def __init__(self, stream: BinaryIO, begin: bytes) -> None:
        self._stream, self._begin = stream, begin

    def read(self, start: int, length: int) -> bytes:
        """Return so many bytes; the file must have them."""
        if length > _LONGEST:
            raise _Unusual
        if start + length <= len(self._begin):
            return self._begin[start : start + length]
        self._stream.seek(start)
        found = self._stream.read(length)
        if len(found) < length:
            raise _Unusual
        return found


def _read(file: _Bytes, order: str) -> tuple[tuple[Hashable, ...], int, int]:
    """Return the key of the only page, and where its pixels begin and end."""
    (start,) = struct.unpack(f"{order}I", file.read(4, 4))
    (entries,) = struct.unpack(f"{order}H", file.read(start, 2))
    table = file.read(start + 2, 12 * entries + 4)
    if table[-4:] != bytes(4):
        raise _Unusual  # there are more pages
    tags: list[tuple[int, int, int, bytes]] = []
    places: dict[int, tuple[int, ...]] = {}
    left = _LONGEST
    for tag, kind, count, value in struct.iter_unpack(f"{order}HHI4s", table[:-4]):
        length = count * _BYTES.get(kind, _LONGEST)
        left -= length
        if left < 0:
            raise _Unusual
        content = value[:length] if length <= 4 else file.read(struct.unpack(f"{order}I", value)[0], length)
        if tag in _OFFSETS or tag in _COUNTS:
            places[tag] = struct.unpack(f"{order}{count}{'H' if kind == 3 else 'I'}", content)
            content = b""
        if b"<OME" in content:
            raise _Unusual  # may name other files
        tags.append((tag, kind, count, b"" if tag == _WHEN else content))
    offsets = [places[tag] for tag in _OFFSETS if tag in places]
    counts = [places[tag] for tag in _COUNTS if tag in places]
    if len(offsets) != 1 or len(counts) != 1 or not 0 < len(offsets[0]) == len(counts[0]):
        raise _Unusual
    ends = [first + count for first, count in zip(offsets[0], counts[0], strict=True)]
    follows = all(first == end for first, end in zip(offsets[0][1:], ends[:-1], strict=True))
    return (follows, tuple(tags)), offsets[0][0], max(ends)
