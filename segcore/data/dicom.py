"""DICOM: a folder of slices that make up one series, or a single file, as one image."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segcore.axes import sizes_text
from segcore.card import PixelSize
from segcore.data.arrays import ArraySource, Facts, LazyArray, as_data_error
from segcore.data.integrity import check_proportion
from segcore.errors import DataError

if TYPE_CHECKING:
    from pydicom import Dataset

SUFFIXES = (".dcm", ".dicom")
_SIGNATURE_AT, _SIGNATURE = 128, b"DICM"
_LOOKED_AT = 5
"""Files of a folder, by name, that are looked into: a note or a table may lie among the slices."""
_MICROMETRES = 1000.0
_UNEVEN = 0.05
"""Distances of slices may differ by this share before it is told."""
_ONE_FOLDER = "Put the files of each series into a folder of their own, or name one, as in"
_HEADER = (
    "SeriesInstanceUID", "SeriesDescription", "InstanceNumber", "ImagePositionPatient",
    "ImageOrientationPatient", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel",
    "PhotometricInterpretation", "BitsAllocated", "BitsStored", "PixelRepresentation", "PixelSpacing",
    "ImagerPixelSpacing", "SpacingBetweenSlices", "SliceThickness", "RescaleSlope", "RescaleIntercept",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
)  # fmt: skip


def is_dicom_series(path: Path) -> bool:
    """Say whether a folder holds DICOM files, with or without the usual ending, and no folders."""
    if not os.path.isdir(path):
        return False
    with os.scandir(path) as entries:
        files = sorted(entry.path for entry in entries if not entry.name.startswith((".", "DICOMDIR")))
    return any(is_dicom_file(Path(file)) for file in files[:_LOOKED_AT])


def is_dicom_file(path: Path) -> bool:
    """Say whether a file begins as DICOM files do; the usual ending is often left out."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as stream:
            return stream.read(_SIGNATURE_AT + 4)[_SIGNATURE_AT:] == _SIGNATURE
    except (OSError, ValueError):
        return False


def open_dicom(path: Path, name: str = "", axes: str | None = None) -> ArraySource:
    """Open a file, or the files of a folder as one stack `Z Y X`, sorted by their position in the patient.

    Grey values are those the rescale slope and intercept mean, for example Hounsfield units.

    Parameters
    ----------
    path : Path
        A file or a folder.
    name : str
        The series, by its instance UID, where a folder holds several.
    axes : str, optional
        See `ArraySource`.

    Raises
    ------
    DataError
        The files are damaged, belong to several series, or do not make up a stack.
    """
    with as_data_error(path, "opened"), _quiet():
        files = _files(path) if path.is_dir() else (path,)
        headers = _one_series(path, [_Header(file) for file in files], name)
        stack, notes = _sorted(path, headers)
        series = _Series(stack)
        for header in stack:
            header.check_size()
        size, size_notes = _pixel_size(stack)

    @contextmanager
    def array() -> Iterator[LazyArray]:
        yield series

    return ArraySource(path, array, Facts(series.axes, size, (*notes, *size_notes)), axes)


class _Header:
    """What one file says about its pixels."""

    def __init__(self, path: Path) -> None:
        import pydicom

        self.path = path
        self.tags: Dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_HEADER))
        if "Rows" not in self.tags or "Columns" not in self.tags:
            raise DataError(f"{path} is a DICOM file without an image.", "Leave it out of the folder.")
        self.grid: tuple[int, int] = (int(self.tags.Rows), int(self.tags.Columns))
        self.frames: int = int(self.tags.get("NumberOfFrames") or 1)
        self.samples: int = int(self.tags.get("SamplesPerPixel") or 1)
        self.slope: float = float(self._functional("PixelValueTransformationSequence", "RescaleSlope", 1))
        self.intercept: float = float(
            self._functional("PixelValueTransformationSequence", "RescaleIntercept", 0)
        )
        self.spacing = self._functional("PixelMeasuresSequence", "PixelSpacing", None)
        self.thickness = self._functional("PixelMeasuresSequence", "SliceThickness", None)
        self.between = self._functional("PixelMeasuresSequence", "SpacingBetweenSlices", None)

    @property
    def position(self) -> float | None:
        """Distance along the normal of the slice, in mm."""
        where, turned = self.tags.get("ImagePositionPatient"), self.tags.get("ImageOrientationPatient")
        if where is None or turned is None or len(where) != 3 or len(turned) != 6:
            return None
        rows, columns = np.array(turned[:3], float), np.array(turned[3:], float)
        return float(np.dot(np.cross(rows, columns), np.array(where, float)))

    @property
    def kind(self) -> tuple[Any, ...]:
        """What all files of a stack share."""
        tags = self.tags
        return (*self.grid, self.samples, tags.get("BitsAllocated"), tags.get("PixelRepresentation"))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type that holds the rescaled values."""
        bits, signed = (
            int(self.tags.get("BitsAllocated") or 8),
            int(self.tags.get("PixelRepresentation") or 0),
        )
        stored = np.dtype(f"{'i' if signed else 'u'}{max(bits, 8) // 8}")
        if self.slope == 1 and self.intercept == 0:
            return stored
        if self.slope != 1 or self.intercept != int(self.intercept):
            return np.dtype(np.float32)
        depth = int(self.tags.get("BitsStored") or bits)
        low = -(2 ** (depth - 1)) if signed else 0
        lowest, highest = low + int(self.intercept), low + 2**depth - 1 + int(self.intercept)
        return np.dtype(np.int16 if min(lowest, -1 - highest) >= -(2**15) else np.int32)

    def check_size(self) -> None:
        """Raise if the file is too small for the pixels it declares."""
        plane = math.prod(self.grid) * self.samples * self.dtype.itemsize
        check_proportion(self.path, plane, self.path.stat().st_size)

    def read(self, frame: int) -> np.ndarray:
        """Return a frame with the values that are meant."""
        from pydicom.pixels.utils import pixel_array

        with _quiet():
            pixels = pixel_array(self.path, index=frame if self.frames > 1 else None)
        if self.slope == 1 and self.intercept == 0:
            return np.asarray(pixels, self.dtype)
        return (pixels * self.slope + self.intercept).astype(self.dtype)

    def _functional(self, group: str, name: str, default: Any) -> Any:
        """Return a value that multi-frame files keep in sequences, others at the top."""
        value = self.tags.get(name)
        for place in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
            for item in (self.tags.get(place) or [])[:1]:
                for inner in (item.get(group) or [])[:1]:
                    value = inner.get(name, value)
        return default if value in (None, "") else value


@dataclass(frozen=True)
class _Series:
    """Slices of one file or of many, seen as an array."""

    headers: tuple[_Header, ...]

    @property
    def frames(self) -> int:
        return sum(header.frames for header in self.headers)

    @property
    def axes(self) -> str:
        return "ZYXS" if self.headers[0].samples > 1 else "ZYX"

    @property
    def shape(self) -> tuple[int, ...]:
        first = self.headers[0]
        return (self.frames, *first.grid, *((first.samples,) if first.samples > 1 else ()))

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.result_type(*{header.dtype for header in self.headers})

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        places = [(header, frame) for header in self.headers for frame in range(header.frames)]
        planes = [header.read(frame)[region[1:]] for header, frame in places[region[0]]]
        return np.stack(planes).astype(self.dtype, copy=False)


def _files(folder: Path) -> tuple[Path, ...]:
    with os.scandir(folder) as entries:
        paths = sorted(Path(entry.path) for entry in entries if entry.is_file())
    for path in paths:
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{path} is a link that leads out of its folder.", "Copy the file itself there.")
    return tuple(path for path in paths if is_dicom_file(path))


def _one_series(path: Path, headers: Sequence[_Header], name: str) -> Sequence[_Header]:
    series: dict[str, list[_Header]] = {}
    for header in headers:
        series.setdefault(str(header.tags.get("SeriesInstanceUID") or ""), []).append(header)
    if name and name not in series:
        raise DataError(f"{path} has no series {name!r}.", f"There are: {', '.join(series)}.")
    if not name and len(series) != 1:
        told = "; ".join(
            f"{uid or 'without a number'} ({found[0].tags.get('SeriesDescription') or 'no name'}, "
            f"{len(found)} files)"
            for uid, found in list(series.items())[:10]
        )
        raise DataError(
            f"{path} holds {len(series)} series: {told}.",
            f"{_ONE_FOLDER} {path.name}::{next(iter(series), 'UID')}.",
        )
    return series[name] if name else next(iter(series.values()))


def _sorted(path: Path, headers: Sequence[_Header]) -> tuple[tuple[_Header, ...], tuple[str, ...]]:
    kinds = {header.kind for header in headers}
    if len(kinds) > 1:
        sizes = ", ".join(sorted(sizes_text(kind[:2]) for kind in kinds))
        raise DataError(
            f"{path}: its slices differ in size or type ({sizes}).", "Leave out localisers and other images."
        )
    notes = []
    if str(headers[0].tags.get("PhotometricInterpretation")) == "MONOCHROME1":
        notes.append("In this file 0 is white; the values are read as stored.")
    if len(headers) == 1:
        return tuple(headers), tuple(notes)
    positions = [header.position for header in headers]
    if None in positions:
        numbers = [header.tags.get("InstanceNumber") for header in headers]
        if None in numbers or len(set(numbers)) < len(numbers):
            notes.append(
                "The slices have neither positions nor numbers; they are in the order of their names."
            )
            return tuple(headers), tuple(notes)
        return tuple(sorted(headers, key=lambda header: int(header.tags.InstanceNumber))), tuple(notes)
    if len({round(position or 0, 4) for position in positions}) < len(positions):
        raise DataError(
            f"{path} holds several images of the same position (times, echoes or phases).",
            "Put the slices of each into a folder of their own.",
        )
    return tuple(sorted(headers, key=lambda header: header.position or 0.0)), tuple(notes)


def _pixel_size(stack: Sequence[_Header]) -> tuple[PixelSize, tuple[str, ...]]:
    first, notes = stack[0], []
    rows_columns = first.spacing if first.spacing is not None else first.tags.get("ImagerPixelSpacing")
    y, x = (_length(value) for value in rows_columns) if rows_columns is not None else (None, None)
    z = _length(first.between) or _length(first.thickness)
    positions = [header.position for header in stack]
    if len(stack) > 1 and None not in positions:
        steps = [later - earlier for earlier, later in pairwise(position or 0.0 for position in positions)]
        step = float(np.median(steps))
        z = _length(step)
        if max(steps) - min(steps) > _UNEVEN * step:
            notes.append(f"The slices lie {min(steps):g} to {max(steps):g} mm apart: some may be missing.")
    return PixelSize(z=z, y=y, x=x), tuple(notes)


def _length(millimetres: Any) -> float | None:
    value = float(millimetres or 0)
    return value * _MICROMETRES if math.isfinite(value) and value > 0 else None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep pydicom's remarks on values that break its rules to itself: most files have some."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
