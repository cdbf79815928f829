"""COCO JSON: what an annotation file says about its pictures, checked as a whole before anything is drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from segcore.data.coco_outlines import outline
from segcore.data.drawn import Drawing, DrawnLabels, Grid, largest_first, value_table
from segcore.data.integrity import check_readable
from segcore.data.json_files import read_json
from segcore.data.outlines import Outline
from segcore.data.pictures import MOST_PIXELS
from segcore.data.planes import Planes
from segcore.data.source import ImageSource
from segcore.errors import DataError

Meaning = Literal["semantic", "instance", "panoptic"]
_MOST_TOLD = 10
_REMEDY = "Export the annotations again as COCO instances (polygons or run lengths)."


@dataclass(frozen=True, eq=False)
class Annotation:
    """One object: its category, whether it is a crowd that nobody drew apart, and what it covers."""

    category: int
    crowd: bool
    outline: Outline


@dataclass(frozen=True, eq=False)
class CocoImage:
    """One picture of an annotation file, with its objects."""

    file_name: str
    height: int
    width: int
    annotations: tuple[Annotation, ...] = ()


@dataclass(frozen=True, eq=False)
class _Coco:
    images: tuple[CocoImage, ...]
    categories: dict[int, str]
    stamp: tuple[int, int]
    """When the file was changed, and its size."""


def coco_images(path: Path) -> tuple[CocoImage, ...]:
    """Return the pictures that an annotation file describes, in its order.

    Raises
    ------
    DataError
        It is no COCO JSON, or something in it is missing, double, or points nowhere: all problems at once.
    """
    return _load(Path(path)).images


def open_coco(
    path: Path, file_name: str = "", like: ImageSource | None = None, meaning: Meaning = "semantic"
) -> DrawnLabels:
    """Open the annotations of one picture as labels.

    Small objects lie on top of large ones. Crowds are 0 and not `annotated`, where no object lies on them.

    Parameters
    ----------
    path : Path
        The JSON file.
    file_name : str
        The picture, by its name in the file; may be left out where there is one only, or with `like`.
    like : ImageSource, optional
        The picture itself.
    meaning : str
        Values. semantic: one per category, in the order of their ids, from 1. instance: one per object, from
        1. panoptic: value of the category times 1000 (more where there are more objects), plus number of the
        object within it.

    Raises
    ------
    DataError
        See `coco_images`; there is no such picture, or it has another size than `like`.
    """
    path = Path(path)
    coco = _load(path)
    image = _choose(path, coco, file_name, like)
    grid = _grid(path, image, like)
    objects = [entry for entry in image.annotations if not entry.crowd]
    values, names, notes = _values(coco.categories, objects, meaning)
    drawings = largest_first(
        [Drawing(entry.outline, value) for entry, value in zip(objects, values, strict=True)]
    )
    crowds = [Drawing(entry.outline, 0) for entry in image.annotations if entry.crowd]
    if crowds:
        notes += (f"{len(crowds)} crowds, whose objects nobody drew apart, count as not annotated.",)
    key = (path, coco.stamp, image.file_name, meaning)
    labels = DrawnLabels(path, grid, drawings, names, notes, key=key)
    if crowds:
        covered = [Drawing(drawing.outline, 1) for drawing in drawings]
        labels.annotated = DrawnLabels(path, grid, (*crowds, *covered), background=1, key=(*key, "annotated"))
    return labels


def _values(
    categories: Mapping[int, str], objects: Sequence[Annotation], meaning: Meaning
) -> tuple[list[int], dict[int, str], tuple[str, ...]]:
    rank = {category: at + 1 for at, category in enumerate(sorted(categories))}
    names = {rank[category]: name for category, name in categories.items()}
    if meaning == "instance":
        return list(range(1, len(objects) + 1)), {}, ()
    if meaning == "semantic":
        note = f"Values of the categories: {value_table(names)}; 0 is what no object covers."
        return [rank[entry.category] for entry in objects], names, (note,)
    most = max(Counter(entry.category for entry in objects).values(), default=0)
    factor = max(1000, 10 ** len(str(most)))
    seen: Counter[int] = Counter()
    values = []
    for entry in objects:
        seen[entry.category] += 1
        values.append(rank[entry.category] * factor + seen[entry.category])
    note = f"Values are {factor} × category + number of the object, with {value_table(names)}."
    return values, {}, (note,)


def _choose(path: Path, coco: _Coco, file_name: str, like: ImageSource | None) -> CocoImage:
    wanted = _slashes(file_name or (like.path.as_posix() if like else ""))
    for fits in (_same, _ends, _base, _stem):
        found = [image for image in coco.images if wanted and fits(_slashes(image.file_name), wanted)]
        if len(found) == 1:
            return found[0]
    if not wanted and len(coco.images) == 1:
        return coco.images[0]
    known = ", ".join(image.file_name for image in coco.images[:_MOST_TOLD])
    said = f"says nothing about {Path(wanted).name}" if wanted else f"describes {len(coco.images)} pictures"
    raise DataError(f"{path} {said}.", f"Name one of them, as in {path.name}::NAME; there are: {known}.")


def _slashes(name: str) -> str:
    return name.replace("\\", "/")


def _same(name: str, wanted: str) -> bool:
    return name == wanted


def _ends(name: str, wanted: str) -> bool:
    return f"/{wanted}".endswith(f"/{name}") or f"/{name}".endswith(f"/{wanted}")


def _base(name: str, wanted: str) -> bool:
    return Path(name).name == Path(wanted).name


def _stem(name: str, wanted: str) -> bool:
    return Path(name).stem == Path(wanted).stem


def _grid(path: Path, image: CocoImage, like: ImageSource | None) -> Grid:
    if like is None:
        return Grid("YX", (image.height, image.width))
    planes = Planes(like)
    if planes.count > 1:
        raise DataError(
            f"{like.path} has {planes.count} slices, but COCO JSON describes single pictures.",
            "Give one picture per slice, or labels of another format.",
        )
    if (planes.height, planes.width) != (image.height, image.width):
        raise DataError(
            f"{path} says that {image.file_name} has {image.height} × {image.width} pixels, but the image "
            f"has {planes.height} × {planes.width}.",
            "Give the picture on which the annotations were drawn.",
        )
    return Grid.of(like)


def _load(path: Path) -> _Coco:
    check_readable(path)
    facts = path.stat()
    return _parse(path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=4)
def _parse(path: Path, changed: int, size: int) -> _Coco:
    """Read the file once for all its pictures, and again when it has changed."""
    content = read_json(path)
    problems: list[str] = []
    if not isinstance(content, dict):
        raise DataError(f"{path} is no COCO JSON: it holds a {type(content).__name__}.", _REMEDY)
    tables = {key: _table(content, key, problems) for key in ("images", "categories", "annotations")}
    categories = _categories(tables["categories"], problems)
    sizes = _images(tables["images"], problems)
    objects: dict[int, list[Annotation]] = {number: [] for number in sizes}
    for at, entry in enumerate(tables["annotations"]):
        try:
            number, annotation = _annotation(entry, categories, sizes)
            objects[number].append(annotation)
        except ValueError as error:
            problems.append(f"annotation {entry.get('id', at)} {error}")
    if problems:
        told = "; ".join(problems[:_MOST_TOLD])
        more = f"; and {len(problems) - _MOST_TOLD} more" if len(problems) > _MOST_TOLD else ""
        raise DataError(f"{path} cannot be used as COCO JSON: {told}{more}.", _REMEDY)
    images = tuple(CocoImage(*sizes[number], tuple(objects[number])) for number in sizes)
    return _Coco(images, categories, (changed, size))


def _table(content: dict[str, Any], key: str, problems: list[str]) -> list[dict[str, Any]]:
    entries = content.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        problems.append(f"it has no list {key!r}")
        return []
    return entries


def _categories(entries: list[dict[str, Any]], problems: list[str]) -> dict[int, str]:
    categories: dict[int, str] = {}
    for entry in entries:
        number: Any = entry.get("id")
        if not _whole(number):
            problems.append(f"category {entry.get('name')!r} has the id {number!r}, which is no whole number")
        elif number in categories:
            problems.append(f"two categories have the id {number}")
        else:
            categories[number] = str(entry.get("name", number))
    return categories


def _images(entries: list[dict[str, Any]], problems: list[str]) -> dict[int, tuple[str, int, int]]:
    sizes: dict[int, tuple[str, int, int]] = {}
    names: set[str] = set()
    for entry in entries:
        number: Any
        height: Any
        width: Any
        number, name = entry.get("id"), entry.get("file_name")
        height, width = entry.get("height"), entry.get("width")
        if not _whole(number) or not isinstance(name, str) or not name:
            problems.append(f"an image has the id {number!r} and the file_name {name!r}")
        elif not _whole(height, 1) or not _whole(width, 1) or height * width > MOST_PIXELS:
            problems.append(f"image {name} has the height {height!r} and the width {width!r}")
        elif number in sizes or name in names:
            problems.append(f"two images have the id {number} or the file_name {name}")
        else:
            sizes[number] = (name, height, width)
            names.add(name)
    return sizes


def _annotation(
    entry: dict[str, Any], categories: Mapping[int, str], sizes: Mapping[int, tuple[str, int, int]]
) -> tuple[int, Annotation]:
    image: Any = entry.get("image_id")
    category: Any = entry.get("category_id")
    if not _whole(image) or image not in sizes:
        raise ValueError(f"is about image {image!r}, which is not listed")
    if not _whole(category) or category not in categories:
        raise ValueError(f"has the category {category!r}, which is not listed")
    _, height, width = sizes[image]
    drawn = outline(entry.get("segmentation"), height, width)
    return image, Annotation(category, bool(entry.get("iscrowd", 0)), drawn)


def _whole(value: Any, least: int | None = None) -> bool:
    return type(value) is int and (least is None or value >= least)
