"""ImageJ ROI files and sets: the outlines in them, the slices they lie in, and their classes."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segcore.data.arrays import as_data_error
from segcore.data.drawn import AnnotatedPlanes, Drawing, DrawnLabels, Grid, value_table
from segcore.data.integrity import check_readable
from segcore.data.naming import NameTable, classes_of
from segcore.data.outlines import FARTHEST, Polygons
from segcore.data.planes import Planes
from segcore.data.source import ImageSource
from segcore.errors import DataError

if TYPE_CHECKING:
    from roifile import ImagejRoi

SUFFIXES = (".roi", ".zip")
MOST_ROIS = 200_000
MOST_BYTES = 2**24
"""Of one ROI: a polygon of two million corners."""
MOST_BYTES_TOGETHER = 2**28
_AREAS = ("POLYGON", "RECT", "OVAL", "FREEHAND", "TRACED")


@dataclass(frozen=True, eq=False)
class Roi:
    """An area in an ImageJ file.

    Parameters
    ----------
    name : str
        As in the ROI manager.
    group : int
        1 to 255, or 0 for none.
    polygons : Polygons
        What it covers.
    position : int
        Number of the slice in the stack, channels counted too, from 1; 0: all.
    z, t : int
        Numbers of its slice and frame, from 1; 0 where it has none.
    """

    name: str
    group: int
    polygons: Polygons
    position: int = 0
    z: int = 0
    t: int = 0


def read_rois(path: Path) -> tuple[tuple[Roi, ...], tuple[str, ...]]:
    """Return the areas of a ROI file or set, and notes about what else is in it.

    Raises
    ------
    DataError
        The file is damaged, or far larger than any set of ROIs.
    """
    check_readable(path)
    areas: list[Roi] = []
    others = 0
    with as_data_error(path, "read"):
        for name, content in _contents(path):
            area = _area(name, content)
            areas += [area] if area else []
            others += area is None
    notes = (f"{others} ROIs are points, lines or texts, which cover no area; they are left out.",)
    return tuple(areas), notes if others else ()


def _area(name: str, content: bytes) -> Roi | None:
    from roifile import ImagejRoi

    try:
        roi = ImagejRoi.frombytes(content)
        if roi.roitype.name not in _AREAS:
            return None
        polygons = Polygons((_rings(roi),))
    except Exception as error:  # whatever the library makes of damaged bytes
        raise ValueError(f"ROI {name} is damaged") from error
    return Roi(roi.name or name, roi.group, polygons, roi.position, roi.z_position, roi.t_position)


def open_rois(
    path: Path,
    like: ImageSource,
    names: NameTable | None = None,
    joined: bool = False,
    apart: bool = False,
) -> DrawnLabels:
    """Open a ROI file or set as labels of an image.

    The value of a ROI is its group where ROIs have groups, else that of its name where names tell classes,
    else its own number, from 1. ROIs that are tied to no slice lie in all; where all are tied, the slices
    without any are not `annotated`.

    Parameters
    ----------
    path : Path
        A `.roi` file or a `.zip` of them.
    like : ImageSource
        The image on which they were drawn.
    names : NameTable, optional
        Values of names, where several files have to agree.
    joined : bool
        All ROIs get the value 1.
    apart : bool
        Every ROI gets its own number, from 1.

    Raises
    ------
    DataError
        The file cannot be read, or a ROI lies in a slice that the image does not have, or only some ROIs have
        a group.
    """
    path = Path(path)
    rois, notes = read_rois(path)
    grid = Grid.of(like)
    planes = _planes(path, rois, like)
    values: list[int]
    legend: Mapping[int, str]
    told: tuple[str, ...]
    if joined or apart:
        values, legend, told = [1] * len(rois) if joined else list(range(1, len(rois) + 1)), {}, ()
    else:
        values, legend, told = _values(path, rois, names)
    drawings = [
        Drawing(roi.polygons, value, plane)
        for roi, value, where in zip(rois, values, planes, strict=True)
        for plane in (where or (None,))
    ]
    tied = frozenset(plane for where in planes for plane in where)
    if grid.planes > 1 and rois and not tied:
        notes += ("The ROIs are tied to no slice; they are drawn in every one.",)
    labels = DrawnLabels(path, grid, drawings, legend, notes + told)
    if tied and () not in planes and len(tied) < grid.planes:
        note = f"{grid.planes - len(tied)} of {grid.planes} slices have no ROI and count as not annotated."
        labels.annotated = AnnotatedPlanes(path, grid, tied, note)
        labels.notes += (note,)
    return labels


def _values(
    path: Path, rois: tuple[Roi, ...], names: NameTable | None
) -> tuple[list[int], Mapping[int, str], tuple[str, ...]]:
    without = sum(roi.group == 0 for roi in rois)
    if without < len(rois):
        if without:
            raise DataError(
                f"{path}: {without} of {len(rois)} ROIs have no group; the groups tell the classes.",
                "Give every ROI a group in Fiji, or none.",
            )
        groups = sorted({roi.group for roi in rois})
        legend = {group: f"group {group}" for group in groups}
        return [roi.group for roi in rois], legend, ("Values are the groups of the ROIs.",)
    classes = classes_of([roi.name for roi in rois])
    if not classes:
        return list(range(1, len(rois) + 1)), {}, ("Every ROI is an object with its own number.",)
    table = names or NameTable.over(classes)
    legend = table.legend()
    return table.values(path, classes), legend, (f"Values: {value_table(legend)}.",)


def roi_classes(path: Path) -> tuple[str, ...]:
    """Return the classes that names in a file tell, for `NameTable.over`; () where they tell none.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    rois, _ = read_rois(Path(path))
    return () if any(roi.group for roi in rois) else classes_of([roi.name for roi in rois])


def _planes(path: Path, rois: tuple[Roi, ...], like: ImageSource) -> list[tuple[int, ...]]:
    """Return the planes of every ROI, () for all."""
    planes = Planes(like)
    sizes = dict(planes.outer)
    # Samples of a colour image stand behind its columns: to ImageJ they are no channels.
    channels = planes.channels if like.axes.find("C") < like.axes.index("Y") else 1
    numbers = np.arange(planes.count).reshape([size for _, size in planes.outer])
    found: list[tuple[int, ...]] = []
    outside = []
    for roi in rois:
        at = _position(roi, sizes, channels)
        if planes.count == 1 or not any(at[axis] for axis in sizes):
            found.append(())
        elif any(at[axis] > size for axis, size in sizes.items()):
            outside.append(roi.name)
        else:  # tied to a slice but to no frame: in that slice of all frames
            where = tuple(
                slice(at[axis] - 1, at[axis]) if at[axis] else slice(None) for axis, _ in planes.outer
            )
            found.append(tuple(numbers[where].ravel().tolist()))
    if outside:
        more = f" and {len(outside) - 5} more" if len(outside) > 5 else ""
        raise DataError(
            f"{path}: {', '.join(outside[:5])}{more} lie in slices that {like.path.name} "
            f"({planes.shape_text}) does not have.",
            "Choose the stack on which the ROIs were drawn.",
        )
    return found


def _position(roi: Roi, sizes: Mapping[str, int], channels: int) -> dict[str, int]:
    """Return the numbers of frame and slice from 1, 0 for none; ImageJ counts channels first, then slices."""
    if roi.z > 0 or roi.t > 0:
        if len(sizes) == 1:  # what we call frames may be slices to ImageJ, and the reverse
            return dict.fromkeys("TZ", max(roi.z, roi.t))
        return {"T": max(0, roi.t), "Z": max(0, roi.z)}
    if roi.position <= 0:
        return dict.fromkeys("TZ", 0)
    number = (roi.position - 1) // channels
    if len(sizes) == 1:
        return dict.fromkeys("TZ", number + 1)
    frame, plane = divmod(number, sizes.get("Z", 1))
    return {"T": frame + 1, "Z": plane + 1}


def _rings(roi: ImagejRoi) -> tuple[np.ndarray, ...]:
    """Return the corners of an area, row and column; a composite has several rings."""
    if roi.roitype.name in ("RECT", "OVAL") and not roi.composite:
        exact = roi.subpixelrect and roi.widthd > 0 and roi.heightd > 0
        top, left = (roi.yd, roi.xd) if exact else (roi.top, roi.left)
        height, width = (roi.heightd, roi.widthd) if exact else (roi.bottom - roi.top, roi.right - roi.left)
        rings = [_oval(height, width) if roi.roitype.name == "OVAL" else _RECTANGLE * [height, width]]
        rings = [np.add(ring, [top, left]) for ring in rings]
    else:
        rings = [np.asarray(ring, np.float64)[:, ::-1] for ring in roi.coordinates(multi=True)]
    rings = [ring for ring in rings if len(ring) > 2]  # paths may end in a mere move of the pen
    if not rings or not all(np.all(np.abs(ring) < FARTHEST) for ring in rings):
        raise ValueError("it has no corners, or some that are no numbers")
    return tuple(rings)


_RECTANGLE = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])


def _oval(height: float, width: float) -> np.ndarray:
    corners = int(np.clip(4 * (height + width), 64, 4096))
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([(1 + np.sin(angle)) * height, (1 + np.cos(angle)) * width], 1) / 2


def _contents(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every ROI; sizes are checked as they are read, whatever the file declares."""
    if path.suffix.lower() != ".zip":
        with path.open("rb") as stream:
            yield path.stem, _limited(stream.read(MOST_BYTES + 1))
        return
    with zipfile.ZipFile(path) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.lower().endswith(".roi")]
        entries = [entry for entry in entries if not entry.filename.startswith("__MACOSX/")]
        if not entries:
            raise DataError(f"{path} holds no ROIs.", "Save the ROI manager's list in Fiji (More > Save).")
        if len(entries) > MOST_ROIS:
            raise ValueError(f"it holds {len(entries)} ROIs, more than {MOST_ROIS}")
        together = 0
        for entry in entries:
            with archive.open(entry) as packed:
                content = _limited(packed.read(MOST_BYTES + 1))
            together += len(content)
            if together > MOST_BYTES_TOGETHER:
                raise ValueError(f"its ROIs unpack to more than {MOST_BYTES_TOGETHER >> 20} MB")
            yield Path(entry.filename).stem, content


def _limited(content: bytes) -> bytes:
    if len(content) > MOST_BYTES:
        raise ValueError(f"it holds a ROI of more than {MOST_BYTES >> 20} MB")
    return content
