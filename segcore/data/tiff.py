"""TiffSource: TIFF files (ImageJ, OME, plain; tiled, compressed, BigTIFF) as an ImageSource."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from segcore.axes import AXES, canonical_axes, parse_axes, sizes_text
from segcore.data.arrays import hushed, naming_file
from segcore.data.calibration import ome_sizes, read_pixel_size
from segcore.data.integrity import check_proportion, truncated
from segcore.data.source import Region, full_region
from segcore.data.thinning import BAND_BYTES
from segcore.data.tiff_header import Facts, Headers, read_header
from segcore.data.tiff_thinning import thinned_page
from segcore.errors import DataError, SegcoreError

_HUGE_PAGE = 64 * 2**20
"""Pages of more bytes are read segment by segment instead of as a whole."""
_MOST_PLANES = 2**20
"""An OME file of a set may well declare more planes than it holds itself, but not more than these."""
_RESAVE = "Open the file in Fiji and save it as TIFF."
_HEADERS = Headers()


@dataclass(frozen=True)
class _Opened:
    """An open file as tifffile sees it.

    Parameters
    ----------
    series : TiffPageSeries
        The image that is read.
    outer : int
        Axes before those that one page holds.
    offset : int, optional
        Where the pixels begin, if they lie in the file as they are.
    is_plain : bool
        Whether the image is what its only page says, and nothing else.
    """

    series: Any
    outer: int
    offset: int | None
    is_plain: bool


class TiffSource:
    """A TIFF file; satisfies `ImageSource`.

    Parameters
    ----------
    path : Path
        A file that `integrity.check_whole` has let pass.
    axes : str, optional
        Axes of the image where its metadata is missing or wrong; axes of size 1 may be named or left out.

    Raises
    ------
    DataError
        The file is damaged, cut off, or holds something that is not an image of numbers.
    """

    def __init__(self, path: Path, axes: str | None = None) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._last: tuple[int, np.ndarray] | None = None
        self._given = axes
        self._opened: _Opened | None = None
        with _as_data_error(path, "opened"):
            header = read_header(path) if axes is None else None
            facts = _HEADERS.find(header) if header else None
            if facts is None:
                self._opened, facts = _open(path, axes)
                if header and self._opened.is_plain:
                    _HEADERS.keep(header, facts)
        self.axes, self.shape, self.dtype = facts.axes, facts.shape, facts.dtype
        self.pixel_size, self.notes = facts.pixel_size, facts.notes

    def read(self, region: Region) -> np.ndarray:
        """Return the pixels of `region`; see `ImageSource.read`."""
        bounds = full_region(region, self.shape)
        with self._lock, _as_data_error(self.path, "read"):
            if self._opened is None:  # so far it was enough that its header is like that of another file
                self._opened, _ = _open(self.path, self._given)
            if self._opened.offset is not None:
                return self._read_mapped(bounds, self._opened.offset)
            with self._file():
                keyframe = self._series.keyframe
                if keyframe.nbytes > _HUGE_PAGE and len(keyframe.dataoffsets) > 1:
                    return self._read_segments(bounds)
                return self._read_pages(bounds)

    def thinned(self, region: Region, step: int) -> np.ndarray | None:
        """Return every `step`-th pixel where the file makes that cheap; see `thinning.Thinnable`."""
        bounds = full_region(region, self.shape)
        with self._lock, _as_data_error(self.path, "read"):
            if self._opened is None:
                self._opened, _ = _open(self.path, self._given)
            if self._opened.offset is not None:
                return self._thinned_mapped(bounds, self._opened.offset, step)
            outer = [start for start, _ in bounds[: self._opened.outer]]
            number = int(np.ravel_multi_index(outer, self.shape[: self._opened.outer])) if outer else 0
            with self._file():
                return thinned_page(self._series, number, (self.axes, self.shape, self.dtype), region, step)

    @property
    def _series(self) -> Any:
        assert self._opened is not None
        return self._opened.series

    @contextmanager
    def _file(self) -> Iterator[None]:
        handle = self._series.parent.filehandle
        handle.open()
        try:
            yield
        finally:
            handle.close()

    def _read_mapped(self, bounds: tuple[tuple[int, int], ...], offset: int) -> np.ndarray:
        return np.array(self._mapped(offset)[_slices(bounds)], dtype=self.dtype, order="C", subok=False)

    def _thinned_mapped(self, bounds: tuple[tuple[int, int], ...], offset: int, step: int) -> np.ndarray:
        at = self.axes.index("Y")
        rows, line = bounds[at][1], math.prod(stop - start for start, stop in bounds) // bounds[at][1]
        band = max(1, BAND_BYTES // (line * self.dtype.itemsize * step)) * step
        steps = [slice(*one, step if axis == "X" else 1) for axis, one in zip(self.axes, bounds, strict=True)]
        found = []
        for start in range(0, rows, band):  # mapped anew every time, so that little of it stays in memory
            steps[at] = slice(start, min(start + band, rows), step)
            found.append(np.array(self._mapped(offset)[tuple(steps)], self.dtype, order="C", subok=False))
        return np.concatenate(found, axis=at)

    def _mapped(self, offset: int) -> np.ndarray:
        stored = self._series.dtype.newbyteorder(self._series.parent.byteorder)
        return np.memmap(self.path, dtype=stored, mode="r", offset=offset, shape=self.shape)

    def _read_segments(self, bounds: tuple[tuple[int, int], ...]) -> np.ndarray:
        import zarr

        with self._series.aszarr(level=0, squeeze=True) as store:
            array = zarr.open_array(store, mode="r")
            return np.array(array[_slices(bounds)], dtype=self.dtype, order="C")

    def _read_pages(self, bounds: tuple[tuple[int, int], ...]) -> np.ndarray:
        assert self._opened is not None
        split = self._opened.outer
        outer, inner = bounds[:split], bounds[split:]
        result = np.empty([stop - start for start, stop in bounds], self.dtype)
        for position in np.ndindex(*(stop - start for start, stop in outer)):
            page = tuple(start + step for (start, _), step in zip(outer, position, strict=True))
            number = int(np.ravel_multi_index(page, self.shape[:split])) if page else 0
            result[position] = self._page(number, self.shape[split:])[_slices(inner)]
        return result

    def _page(self, number: int, shape: tuple[int, ...]) -> np.ndarray:
        if self._last is not None and self._last[0] == number:
            return self._last[1]
        self._last = None
        page = self._series[number]
        pixels = np.zeros(shape, self.dtype) if page is None else page.asarray().reshape(shape)
        if self._series.transform is not None:
            pixels = self._series.transform(pixels)
        self._last = (number, pixels)
        return pixels


def _open(path: Path, axes: str | None) -> tuple[_Opened, Facts]:
    with tifffile.TiffFile(path, _multifile=False) as tif:
        _check_description(path, tif)
        series, notes = _choose_series(path, tif)
        dtype: np.dtype[Any] = series.dtype.newbyteorder("=")
        shape = tuple(int(size) for size in series.get_shape(squeeze=True))
        with naming_file(path):
            letters, axis_notes = _name_axes(series, shape, axes)
        offset = _contiguous_offset(series)
        size = math.prod(shape) * dtype.itemsize
        _check_extent(path, series, None if offset is None else offset + size, tif.filehandle.size)
        facts = Facts(
            letters, shape, dtype, read_pixel_size(tif), notes + axis_notes, size, offset is not None
        )
        plain = len(tif.pages) == len(tif.series) == len(series) == 1 and size == series.keyframe.nbytes
        return _Opened(series, _inner_axes(path, series, shape), offset, plain), facts


def _contiguous_offset(series: Any) -> int | None:
    if series.transform is not None or not series.keyframe.is_final:
        return None
    offset: int | None = series.dataoffset
    return offset


def _check_extent(path: Path, series: Any, end: int | None, size: int) -> None:
    """Refuse a file of `size` bytes that ends before its pixels; `end` is theirs if they lie in one piece."""
    if end is not None:
        if end > size:
            raise truncated(path, f"its pixels need {end} bytes, but it has {size}")
        return
    check_proportion(path, series.keyframe.nbytes, size)
    for index in range(len(series)):
        page = series[index]
        if page is None:
            continue
        if len(page.dataoffsets) != len(page.databytecounts):
            raise DataError(f"{path} is damaged: page {index} does not say where its pixels are.", _RESAVE)
        places = zip(page.dataoffsets, page.databytecounts, strict=True)
        last = max((start + count for start, count in places if count), default=0)
        if last > size:
            raise truncated(path, f"page {index} ends at byte {last}, but the file has {size} bytes")


def _choose_series(path: Path, tif: tifffile.TiffFile) -> tuple[Any, tuple[str, ...]]:
    """Return the series to read and what is to be said about it."""
    if tif.is_ndtiff:
        raise DataError(
            f"{path} is part of an NDTiff data set of several files.", "Export it as one TIFF stack."
        )
    if not tif.series:
        raise DataError(f"{path} holds no image.", _RESAVE)
    series = tif.series[0]
    notes = []
    _check_imagej(path, tif, series)
    if series.is_multifile:
        raise DataError(f"{path} is spread over several files.", "Export it as one TIFF stack.")
    if tif.is_ome and series.kind != "ome":
        notes.append("The file is part of an OME-TIFF of several files; only its own pages are read.")
    if len(tif.series) > 1:
        notes.append(
            f"The file holds {len(tif.series)} images of different kinds; the first is read: "
            f"{sizes_text(series.shape, series.axes)}."
        )
    _check_pixels(path, series)
    missing = sum(series[index] is None for index in range(len(series)))
    if missing:
        notes.append(f"{missing} of {len(series)} planes are missing in the file and read as 0.")
    if series.keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE:
        notes.append("The file has a colour palette; the stored values are read, not the colours.")
    return series, tuple(notes)


def _check_description(path: Path, tif: tifffile.TiffFile) -> None:
    """Refuse a description that unfolds, or of more planes than anybody has: tifffile would list them."""
    if not tif.is_ome or not tif.ome_metadata:
        return
    if "<!ENTITY" in tif.ome_metadata:
        raise DataError(f"{path} has a description that unfolds (it declares entities).", _RESAVE)
    for sizes in ome_sizes(tif.ome_metadata):
        planes = math.prod(sizes)
        if planes > max(_MOST_PLANES, tif.filehandle.size):
            raise DataError(f"{path} declares {planes} planes, but has {tif.filehandle.size} bytes.", _RESAVE)


def _check_imagej(path: Path, tif: tifffile.TiffFile, series: Any) -> None:
    # tifffile falls back to single pages where an ImageJ file is shorter than its header says.
    if tif.is_imagej and series.kind not in ("imagej", "shaped", "ome"):
        metadata = tif.imagej_metadata or {}
        declared = math.prod(int(metadata.get(key, 1)) for key in ("channels", "slices", "frames"))
        if declared > len(series):
            raise truncated(path, f"it declares {declared} planes, but holds {len(series)}")


def _check_pixels(path: Path, series: Any) -> None:
    keyframe = series.keyframe
    if keyframe.dtype is None or 0 in series.shape:
        raise DataError(f"{path} holds no pixels of a known type.", _RESAVE)
    if series.dtype.kind not in "biuf" or series.dtype.itemsize > 8:
        raise DataError(
            f"{path} holds {series.dtype} numbers; 8- to 64-bit integers, floats and bool can be used.",
            "Export the image as 8-bit, 16-bit or 32-bit float.",
        )
    if keyframe.compression != 1 and keyframe.compression not in tifffile.TIFF.DECOMPRESSORS:
        raise DataError(
            f"{path} is compressed in a way that cannot be read here ({keyframe.compression}).",
            "Save it without compression, or with zlib or LZW.",
        )


def _name_axes(series: Any, shape: tuple[int, ...], axes: str | None) -> tuple[str, tuple[str, ...]]:
    stored = series.get_axes(squeeze=True)
    if axes is None:
        return canonical_axes(stored, shape)
    letters = axes.strip().upper()
    whole = series.get_axes(squeeze=False)
    if len(letters) == len(whole) != len(shape):
        sizes = series.get_shape(squeeze=False)
        letters = "".join(
            letter
            for letter, size, name in zip(letters, sizes, whole, strict=True)
            if size > 1 or name in "YX"
        )
    if len(letters) > len(shape) and set(letters) <= set(AXES):
        raise DataError(
            f"Axes {letters!r} name {len(letters)} axes, but {series.parent.filename} has {len(shape)}: "
            f"{sizes_text(shape)}.",
            "Leave out axes of size 1.",
        )
    return parse_axes(letters, shape), ()


def _inner_axes(path: Path, series: Any, shape: tuple[int, ...]) -> int:
    """Return the number of axes before those that one page holds."""
    pixels = math.prod(series.keyframe.shape)
    for outer in range(len(shape) + 1):
        if math.prod(shape[outer:]) == pixels:
            return outer
    if series.dataoffset is not None:
        return len(shape)
    raise DataError(f"{path}: its pages do not make up an image of {sizes_text(shape)}.", _RESAVE)


def _slices(bounds: tuple[tuple[int, int], ...]) -> tuple[slice, ...]:
    return tuple(slice(start, stop) for start, stop in bounds)


@contextmanager
def _as_data_error(path: Path, doing: str) -> Iterator[None]:
    """Turn whatever a decoder raises into a DataError, and keep tifffile's log out of sight meanwhile."""
    try:
        with hushed("tifffile"):
            yield
    except SegcoreError:
        raise
    # A file made by anyone may fail in any decoder in any way, and the user can only be told that it is
    # damaged.
    except Exception as error:
        raise _damaged(path, doing, error) from error


def _damaged(path: Path, doing: str, error: Exception) -> DataError:
    detail = str(error).splitlines()[0] if str(error) else type(error).__name__
    return DataError(f"{path} cannot be {doing}: {detail[:200]}.", _RESAVE)
