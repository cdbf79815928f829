"""Is this file a whole TIFF? Signature and page chain, checked before anything is decoded."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from segcore.errors import DataError

_TIFF = {b"II*\x00": ("<", False), b"MM\x00*": (">", False), b"II+\x00": ("<", True), b"MM\x00+": (">", True)}
_OTHERS = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89HDF": "an HDF5 file",
    b"PK\x03\x04": "a zip archive",
    b"\x1f\x8b": "a gzip archive",
    b"BM": "a BMP image",
    b"GIF8": "a GIF image",
    b"%PDF": "a PDF document",
    b"\x93NUM": "a NumPy array",
}

HARMLESS = 2**26
"""Bytes that may be allocated whatever a header says."""
MOST_PACKED = 10_000
"""More than any codec shrinks pixels: a blank 1-bit PNG reaches 8256."""
_TYPE_BYTES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_NEEDED_TAGS = (258, 270, 273, 279, 324, 325)
"""Bits per sample, image description, and where strips and tiles are; a file can do without the others."""


def check_whole(path: Path) -> None:
    """Return if `path` is a TIFF file whose pages all lie within the file.

    A file cut off in transfer often loses its last pages without another sign: the page before them still
    points to where they were.

    Raises
    ------
    DataError
        The file is missing, empty, not a TIFF, or cut off.
    """
    try:
        if not path.exists():
            raise DataError(f"{path} does not exist.", "Check the name, or upload the file.")
        if path.is_dir():
            raise DataError(f"{path} is a folder.", "Choose a TIFF file in it.")
        if not path.is_file():
            raise DataError(f"{path} is not a file.", "Choose a TIFF file.")
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(512)
            if not head:
                raise DataError(f"{path} is empty (0 bytes).", "Save or copy the file again.")
            if head[:4] not in _TIFF:
                raise DataError(
                    f"{path} is not a TIFF file: it is {_kind(head)}.", "Open it in Fiji and save it as TIFF."
                )
            _walk_pages(path, stream, size)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}.", "Check its permissions."
        ) from error


def check_readable(path: Path) -> None:
    """Return if `path` is a file that can be opened and is not empty.

    Raises
    ------
    DataError
        It is missing, a folder, empty, or may not be read.
    """
    try:
        if not path.exists():
            raise DataError(f"{path} does not exist.", "Check the name, or upload the file.")
        if not path.is_file():
            raise DataError(f"{path} is a folder.", "Choose a file in it.")
        with path.open("rb") as stream:
            if not stream.read(1):
                raise DataError(f"{path} is empty (0 bytes).", "Save or copy the file again.")
    except OSError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror or error}.", "Check its permissions."
        ) from error


def check_proportion(path: Path | str, unpacked: int, stored: int, most: int = MOST_PACKED) -> None:
    """Return if so many bytes of pixels can come out of the bytes that are stored.

    A header of a few bytes can declare any size, and whoever believes it allocates it.

    Parameters
    ----------
    path : Path or str
        Told in the error.
    unpacked : int
        Bytes that have to be decoded at once.
    stored : int
        Bytes they are decoded from.
    most : int
        How many of the former can come out of one of the latter.

    Raises
    ------
    DataError
        No compression packs real images like that.
    """
    if unpacked > HARMLESS and unpacked > most * stored:
        raise DataError(
            f"{path} declares {unpacked} bytes of pixels in one piece, but holds {stored} bytes: no image "
            f"shrinks more than {most}-fold.",
            "It is damaged; export or copy it again.",
        )


def truncated(path: Path, detail: str) -> DataError:
    """Return the error for a file that ends too early."""
    return DataError(f"{path} is cut off: {detail}.", "Copy or export the file again and check its size.")


def _kind(head: bytes) -> str:
    for signature, kind in _OTHERS.items():
        if head.startswith(signature):
            return kind
    readable = sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    return "a text file" if readable > 0.95 * len(head) else "of an unknown format"


def _walk_pages(path: Path, stream: BinaryIO, size: int) -> None:
    stream.seek(0)
    order, big = _TIFF[stream.read(4)]
    count_format, entry_bytes, offset_format = ("Q", 20, "Q") if big else ("H", 12, "I")
    if big:
        stream.seek(8)
    offset = _number(path, stream, order + offset_format)
    seen: set[int] = set()
    while offset:
        if offset in seen:
            raise DataError(f"{path} is damaged: its pages form a circle.", "Export the file again.")
        seen.add(offset)
        if offset >= size:
            raise truncated(
                path, f"page {len(seen)} should start at byte {offset}, but the file has {size} bytes"
            )
        stream.seek(offset)
        entries = _number(path, stream, order + count_format)
        table = stream.read(min(entries * entry_bytes, size))
        if len(table) < entries * entry_bytes:
            raise truncated(path, f"it ends within the description of page {len(seen)}")
        for tag, kind, count, value in struct.iter_unpack(f"{order}HH{offset_format * 2}", table):
            length = count * _TYPE_BYTES.get(kind, 1)
            if tag in _NEEDED_TAGS and length > struct.calcsize(offset_format) and value + length > size:
                raise truncated(path, f"the description of page {len(seen)} points beyond its {size} bytes")
        offset = _number(path, stream, order + offset_format)
    if not seen:
        raise DataError(f"{path} holds no image.", "Export the file again.")


def _number(path: Path, stream: BinaryIO, code: str) -> int:
    raw = stream.read(struct.calcsize(code))
    if len(raw) < struct.calcsize(code):
        raise truncated(path, "it ends within the description of a page")
    return int(struct.unpack(code, raw)[0])
