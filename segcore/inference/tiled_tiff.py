"""OME-BigTIFF of planes too large for one piece: uncompressed tiles, every one at a known offset."""

from __future__ import annotations

import itertools
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from segcore.inference.sink_spec import SinkSpec, check_block, told_of_disk
from segcore.inference.tiff_sink import OpenTiff, first_pixel, ome_metadata, take_room

TILE = 512
"""Rows and columns of a tile, px; TIFF 6.0 demands a multiple of 16."""
_BLOCK = 4096
_TYPES = {"<u2": 3, "<u4": 4, "<u8": 16}
_SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}


class TiledSink(OpenTiff):
    """Tiles of every plane, and of probabilities of every class, one after the other; a `Sink`.

    A block of whole tiles costs one write per tile; one whose border cuts tiles, one per row of these.

    Parameters
    ----------
    path : Path
        A file made by `create_tiled`.
    spec : SinkSpec
        What it holds.

    Raises
    ------
    JobError
        The file is missing or too short.
    """

    def __init__(self, path: Path, spec: SinkSpec) -> None:
        self._spec = spec
        self._grid = _Grid.of(spec)
        self._offset = first_pixel(path, self._grid.bytes)
        super().__init__(path)

    def write(self, planes: range, rows: slice, columns: slice, values: np.ndarray) -> None:
        """Put a block at its place; see `Sink.write`."""
        check_block(self._spec, planes, rows, columns, values)
        pages = values.reshape(-1, *values.shape[-2:])
        first = planes.start * max(self._spec.classes, 1)
        with told_of_disk(self.path):
            for page, pixels in enumerate(pages, first):
                for row, column in itertools.product(_touched(rows), _touched(columns)):
                    at = self._offset + self._grid.tile_at(page, row, column)
                    self._write_tile(at, (row, column), (rows, columns), pixels)

    def _write_tile(
        self, at: int, tile: tuple[int, int], block: tuple[slice, slice], pixels_YX: np.ndarray
    ) -> None:
        """Write what a block holds of a tile; if that is the whole tile, in one go."""
        sides = list(zip(tile, block, self._spec.shape[-2:], strict=True))
        spans = [
            (max(part.start, TILE * number), min(part.stop, TILE * (number + 1))) for number, part, _ in sides
        ]
        (top, bottom), (left, right) = spans
        rows, columns = block
        inner_YX = pixels_YX[
            top - rows.start : bottom - rows.start, left - columns.start : right - columns.start
        ]
        dtype = self._spec.stored_dtype.newbyteorder("<")
        if all(
            span == (TILE * number, min(TILE * (number + 1), size))
            for span, (number, _, size) in zip(spans, sides, strict=True)
        ):
            whole_YX = np.zeros((TILE, TILE), dtype)  # what lies beyond the image's border is 0
            whole_YX[: bottom - top, : right - left] = inner_YX
            self.put(at, whole_YX)
            return
        at += ((top % TILE) * TILE + left % TILE) * dtype.itemsize
        for number, line in enumerate(np.ascontiguousarray(inner_YX, dtype)):
            self.put(at + number * TILE * dtype.itemsize, line)


def create_tiled(path: Path, spec: SinkSpec) -> None:
    """Write the tags of an OME-BigTIFF and take room for its tiles.

    The pages stand together in front of the pixels, written one by one: memory does not grow with their
    number. All share one list of tile sizes. BigTIFF as in https://www.awaresystems.be/imaging/tiff/bigtiff.html

    Raises
    ------
    OSError
        The disk is too full, or the like.
    """
    grid, description = _Grid.of(spec), _ome_xml(spec)
    sizes_at = _aligned(16 + len(description), 8)
    first = _aligned(sizes_at + 4 * grid.tiles, 8)
    pixels_at = _aligned(first + grid.pages * _page_bytes(grid.tiles), _BLOCK)
    sizes = np.full(grid.tiles, grid.tile_bytes, "<u4")
    offsets = pixels_at + np.arange(grid.tiles, dtype="<u8") * grid.tile_bytes
    with path.open("wb") as stream:
        stream.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, first) + description)
        stream.seek(sizes_at)
        stream.write(sizes.tobytes())
        for page in range(grid.pages):
            at = first + page * _page_bytes(grid.tiles)
            entries = [*_layout_entries(spec), _entry(324, offsets, at + _DIRECTORY_BYTES)]
            entries.append(_entry(325, sizes, sizes_at))
            if page == 0:
                entries.append(struct.pack("<HHQQ", 270, 2, len(description), 16))
            following = at + _page_bytes(grid.tiles) if page + 1 < grid.pages else 0
            stream.seek(at)
            stream.write(_directory(entries, following))
            stream.seek(at + _DIRECTORY_BYTES)
            stream.write(offsets.tobytes())
            offsets += grid.tiles * grid.tile_bytes
    take_room(path, pixels_at, grid.bytes)


def tiled_bytes(spec: SinkSpec) -> int:
    """Return the bytes of the file that `create_tiled` makes, within some kB."""
    grid = _Grid.of(spec)
    return grid.bytes + grid.pages * _page_bytes(grid.tiles) + 4 * grid.tiles + 2**16


@dataclass(frozen=True)
class _Grid:
    """The tiles of all pages."""

    pages: int
    rows: int
    columns: int
    tile_bytes: int

    @classmethod
    def of(cls, spec: SinkSpec) -> _Grid:
        rows, columns = (math.ceil(size / TILE) for size in spec.shape[-2:])
        return cls(spec.pages, rows, columns, TILE * TILE * spec.stored_dtype.itemsize)

    @property
    def tiles(self) -> int:
        """Tiles of a page."""
        return self.rows * self.columns

    @property
    def bytes(self) -> int:
        """Bytes of all tiles."""
        return self.pages * self.tiles * self.tile_bytes

    def tile_at(self, page: int, row: int, column: int) -> int:
        """Return where a tile begins, counted from the first one."""
        return ((page * self.rows + row) * self.columns + column) * self.tile_bytes


def _touched(part: slice) -> range:
    return range(part.start // TILE, math.ceil(part.stop / TILE))


def _layout_entries(spec: SinkSpec) -> list[bytes]:
    height, width = spec.shape[-2:]
    bits, kind = 8 * spec.stored_dtype.itemsize, _SAMPLE_FORMATS[spec.stored_dtype.kind]
    values = {256: width, 257: height, 322: TILE, 323: TILE}
    shorts = {258: bits, 259: 1, 262: 1, 277: 1, 284: 1, 339: kind}
    return [
        *(_entry(tag, np.array([value], "<u4")) for tag, value in values.items()),
        *(_entry(tag, np.array([value], "<u2")) for tag, value in shorts.items()),
    ]


_DIRECTORY_BYTES = 8 + 20 * 13 + 8
"""Bytes of a page's directory: number, up to 13 entries, and where the next one is."""


def _page_bytes(tiles: int) -> int:
    return _DIRECTORY_BYTES + 8 * tiles


def _directory(entries: Sequence[bytes], following: int) -> bytes:
    ordered = sorted(entries, key=lambda entry: struct.unpack_from("<H", entry))
    return struct.pack("<Q", len(entries)) + b"".join(ordered) + struct.pack("<Q", following)


def _entry(tag: int, values: np.ndarray, at: int = 0) -> bytes:
    """Return an entry of a directory: the values if they need 8 bytes at most, else where they are."""
    place = values.tobytes() if values.nbytes <= 8 else struct.pack("<Q", at)
    return struct.pack("<HHQ", tag, _TYPES[values.dtype.str], len(values)) + place.ljust(8, b"\0")


def _ome_xml(spec: SinkSpec) -> bytes:
    height, width = spec.shape[-2:]
    xml = tifffile.OmeXml()
    xml.addimage(
        dtype=spec.stored_dtype,
        shape=spec.stored_shape,
        storedshape=(spec.pages, 1, 1, height, width, 1),
        **ome_metadata(spec.stored_axes, spec.pixel_size),
    )
    return bytes(xml.tostring(declaration=True).encode()) + b"\0"


def _aligned(position: int, step: int) -> int:
    return -(-position // step) * step
