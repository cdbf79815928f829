"""GeoJSON as QuPath writes it: areas with holes, their classes and the slices they lie in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segcore.data.drawn import AnnotatedPlanes, Drawing, DrawnLabels, Grid, largest_first, value_table
from segcore.data.json_files import read_json
from segcore.data.naming import UNNAMED, NameTable
from segcore.data.outlines import FARTHEST, Polygons
from segcore.data.planes import Planes
from segcore.data.source import ImageSource
from segcore.errors import DataError

_REMEDY = "Export the objects again as GeoJSON (a FeatureCollection)."
_MOST_TOLD = 10


@dataclass(frozen=True, eq=False)
class Area:
    """A feature that covers pixels: its class ("" for none) and its slice and frame, counted from 0."""

    name: str
    polygons: Polygons
    plane: tuple[int, int] | None = None


def is_geojson(content: Any) -> bool:
    """Return whether parsed JSON looks like GeoJSON: a collection, a feature, or a list of features."""
    if isinstance(content, list):
        return bool(content) and all(is_geojson(entry) for entry in content)
    return isinstance(content, dict) and content.get("type") in ("FeatureCollection", "Feature")


def read_areas(path: Path) -> tuple[tuple[Area, ...], tuple[str, ...]]:
    """Return the areas of a GeoJSON file, and notes about what else is in it.

    Raises
    ------
    DataError
        It is no GeoJSON, or coordinates are missing or no numbers: all problems at once.
    """
    content = read_json(path)
    if not is_geojson(content):
        raise DataError(f"{path} is no GeoJSON: it holds no features.", _REMEDY)
    areas, problems, others = [], [], 0
    for number, feature in enumerate(_features(content)):
        try:
            area = _area(feature)
        except ValueError as error:
            problems.append(f"feature {number}: {error}")
            continue
        areas += [area] if area else []
        others += area is None
    if problems:
        more = f"; and {len(problems) - _MOST_TOLD} more" if len(problems) > _MOST_TOLD else ""
        raise DataError(f"{path} cannot be used: {'; '.join(problems[:_MOST_TOLD])}{more}.", _REMEDY)
    notes = (f"{others} objects are points or lines, which cover no area; they are left out.",)
    return tuple(areas), notes if others else ()


def open_geojson(
    path: Path,
    like: ImageSource,
    names: NameTable | None = None,
    joined: bool = False,
    apart: bool = False,
) -> DrawnLabels:
    """Open a GeoJSON file as labels of an image; small objects lie on top of large ones.

    The value of an object is that of its classification, where objects have one, else its own number, from 1.
    Objects without a plane lie in all slices if no object has one, else in the first; once one has a plane,
    the slices without objects are not `annotated`.

    Parameters
    ----------
    path : Path
        The file.
    like : ImageSource
        The image on which it was drawn.
    names : NameTable, optional
        Values of classes, where several files have to agree.
    joined : bool
        All objects get the value 1.
    apart : bool
        Every object gets its own number, from 1.

    Raises
    ------
    DataError
        See `read_areas`; or an object lies in a slice that the image does not have.
    """
    path = Path(path)
    areas, notes = read_areas(path)
    grid = Grid.of(like)
    planes = _planes(path, areas, like)
    classes = _classes(areas)
    legend: dict[int, str] = {}
    if joined:
        values = [1] * len(areas)
    elif classes and not apart:
        table = names or NameTable.over(classes)
        values, legend = table.values(path, classes), table.legend()
        notes += (f"Values: {value_table(legend)}.",)
    else:
        values = list(range(1, len(areas) + 1))
        why = "are read one by one" if apart else "have no classes"
        notes += (f"The objects {why}; every object has its own number.",)
    drawings = largest_first(
        [Drawing(area.polygons, value, at) for area, value, at in zip(areas, values, planes, strict=True)]
    )
    labels = DrawnLabels(path, grid, drawings, legend, notes)
    tied = frozenset(plane for plane in planes if plane is not None)
    if tied and len(tied) < grid.planes:
        note = f"{grid.planes - len(tied)} of {grid.planes} slices have no object and count as not annotated."
        labels.annotated = AnnotatedPlanes(path, grid, tied, note)
        labels.notes += (note,)
    return labels


def geojson_classes(path: Path) -> tuple[str, ...]:
    """Return the classes in a file, for `NameTable.over`; () where there are none.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    return _classes(read_areas(Path(path))[0])


def _classes(areas: tuple[Area, ...]) -> tuple[str, ...]:
    if not any(area.name for area in areas):
        return ()
    return tuple(area.name or UNNAMED for area in areas)


def _features(content: Any) -> list[Any]:
    if isinstance(content, list):
        return [feature for entry in content for feature in _features(entry)]
    if content["type"] == "Feature":
        return [content]
    features = content.get("features")
    return features if isinstance(features, list) else [None]


def _area(feature: Any) -> Area | None:
    if not isinstance(feature, dict) or not isinstance(feature.get("geometry"), dict):
        raise ValueError("it has no geometry")
    geometry = feature["geometry"]
    kind, coordinates = geometry.get("type"), geometry.get("coordinates")
    if kind not in ("Polygon", "MultiPolygon"):
        return None
    polygons = _filled(coordinates if kind == "MultiPolygon" else [coordinates])
    parts = tuple(tuple(_ring(ring) for ring in _filled(polygon)) for polygon in polygons)
    return Area(_name(feature.get("properties")), Polygons(parts), _plane(geometry.get("plane")))


def _filled(value: Any) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError("its polygon has no corners")
    return value


def _ring(corners: Any) -> np.ndarray:
    good = [
        (corner[1], corner[0])
        for corner in _filled(corners)
        if isinstance(corner, list)
        and len(corner) > 1
        and all(type(number) in (int, float) and abs(number) < FARTHEST for number in corner[:2])
    ]
    if len(good) < max(3, len(corners)):
        raise ValueError("a polygon needs at least three corners, each of two numbers")
    return np.array(good, np.float64)


def _name(properties: Any) -> str:
    classification = properties.get("classification") if isinstance(properties, dict) else None
    if isinstance(classification, dict):
        # Newer files give a class and its parts as a list of names.
        names = classification.get("names")
        parts = names if isinstance(names, list) and names else [classification.get("name") or ""]
        return ": ".join(str(part) for part in parts)
    return str(classification or "")


def _plane(plane: Any) -> tuple[int, int] | None:
    if plane is None:
        return None
    numbers: list[Any] = [plane.get(axis, 0) if isinstance(plane, dict) else None for axis in "zt"]
    if not all(type(number) is int for number in numbers):
        raise ValueError(f"its plane is {plane!r}, not whole numbers z and t")
    return max(0, numbers[0]), max(0, numbers[1])


def _planes(path: Path, areas: tuple[Area, ...], like: ImageSource) -> list[int | None]:
    planes = Planes(like)
    if planes.count == 1 or not any(area.plane for area in areas):
        return [None] * len(areas)
    found: list[int | None] = []
    for area in areas:
        z, t = area.plane or (0, 0)
        at = {"Z": z, "T": t}
        if len(planes.outer) == 1:  # what we call frames may be slices to QuPath, and the reverse
            at = dict.fromkeys("ZT", max(z, t))
        if any(at[axis] >= size for axis, size in planes.outer):
            raise DataError(
                f"{path} has an object in slice {z}, frame {t}, counted from 0, which {like.path.name} "
                f"({planes.shape_text}) does not have.",
                "Choose the stack on which it was drawn.",
            )
        where = [at[axis] for axis, _ in planes.outer]
        found.append(int(np.ravel_multi_index(where, [size for _, size in planes.outer])))
    return found
