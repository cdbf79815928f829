"""Zarr arrays and OME-Zarr images (0.4 and 0.5), in a folder or behind a URL, at full resolution."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from segcore.addresses import is_url
from segcore.card import PixelSize
from segcore.data.arrays import ArraySource, Facts, LazyArray, OpenArray, as_data_error
from segcore.data.calibration import MICROMETRES
from segcore.data.integrity import HARMLESS
from segcore.data.remote import as_unreachable, open_store
from segcore.errors import DataError

MARKERS = ("zarr.json", ".zarray", ".zgroup")
"""Files one of which lies in every Zarr folder."""
_LARGEST_CHUNK = 2**31


def is_zarr(path: Path) -> bool:
    """Say whether a folder is a Zarr array or group."""
    return os.path.isdir(path) and any((path / name).is_file() for name in MARKERS)


def open_zarr(address: Path | str, name: str = "", axes: str | None = None) -> ArraySource:
    """Open a Zarr array, or the full resolution of an OME-Zarr image.

    Parameters
    ----------
    address : Path or str
        The folder, or a URL.
    name : str
        Array or image within a group that is no OME-Zarr image, as `labels/cells` or `A/1/0` of a plate.
    axes : str, optional
        See `ArraySource`.

    Raises
    ------
    DataError
        There is no Zarr, or it holds several images and none is named; the server is away.
    """
    with _said(address, "opened"):
        node = _open(address)
        within, facts = _choose(address, node, name.strip("/"))
        array = node[within] if within else node
        facts = replace(facts, piece=_check_chunk(address, array), levels=_levels(address, node, within))
        if not is_url(address):
            facts = replace(facts, stored=_stored(Path(address)))
    return ArraySource(address, _opener(address, lambda: array), facts, axes)


def _opener(address: Path | str, find: Callable[[], LazyArray]) -> OpenArray:
    @contextmanager
    def opened() -> Iterator[LazyArray]:
        with _said(address, "read"):
            yield find()

    return opened


def _levels(address: Path | str, node: Any, within: str) -> tuple[tuple[float, OpenArray], ...]:
    """Return the smaller levels of an OME-Zarr image by what it says of their pixels; nothing is read."""
    parent = within.rpartition("/")[0]
    images = _attributes(_member(node, parent)).get("multiscales") if within else None
    if not images:
        return ()
    scales = {}
    for level in images[0]["datasets"]:
        steps = level.get("coordinateTransformations", ())
        scales[str(level["path"])] = next(
            (each["scale"] for each in steps if each.get("type") == "scale"), ()
        )
    first = next(iter(scales.values()))
    if not all(map(float, first)):
        return ()
    found = []
    for path, scale in scales.items():
        ratios = [float(own) / float(full) for own, full in zip(scale, first, strict=False)]
        if (
            len(ratios) < 2
            or ratios[-1] != ratios[-2]
            or ratios[-1] <= 1
            or any(one != 1 for one in ratios[:-2])
        ):
            continue  # also where time, channels or planes are thinned out
        inside = _join(parent, path)
        found.append((ratios[-1], _opener(address, partial(_member, node, inside))))
    return tuple(found)


def _open(address: Path | str) -> Any:
    import zarr

    return zarr.open(open_store(str(address)) if is_url(address) else str(address), mode="r")


def _said(address: Path | str, doing: str) -> AbstractContextManager[None]:
    return as_unreachable(str(address)) if is_url(address) else as_data_error(address, doing)


def _choose(address: Path | str, node: Any, name: str) -> tuple[str, Facts]:
    import zarr

    if isinstance(node, zarr.Array):
        if name:
            raise DataError(f"{address} holds one image only.", f"Leave out ::{name}.")
        return "", Facts(_named(node))
    found = _member(node, name)
    if isinstance(found, zarr.Array):
        return name, Facts(_named(found))
    attributes = _attributes(found)
    if attributes.get("multiscales"):
        level, facts = _full_resolution(attributes["multiscales"][0])
        return _join(name, level), facts
    if not name and "bioformats2raw.layout" in attributes and _member(node, "0") is not None:
        within, facts = _choose(address, node, "0")
        return within, replace(facts, notes=("The file may hold several images; the first is read.",))
    return _only_array(address, node, name)


def _member(node: Any, name: str) -> Any:
    """Return an array or group by its path: unlike a list of all members, servers can be asked for that."""
    if not name:
        return node
    try:
        return node[name]
    except KeyError:
        return None


def _only_array(address: Path | str, node: Any, name: str) -> tuple[str, Facts]:
    import zarr

    arrays = [
        key
        for key, member in node.members(max_depth=None)
        if isinstance(member, zarr.Array) and member.ndim >= 2 and key.startswith(f"{name}/" if name else "")
    ]
    if len(arrays) == 1:
        return arrays[0], Facts(_named(node[arrays[0]]))
    wanted = f"has no array {name!r}" if name else f"holds {len(arrays)} arrays"
    known = ", ".join(arrays[:20]) + (f" and {len(arrays) - 20} more" if len(arrays) > 20 else "")
    raise DataError(
        f"{address} {wanted}.", f"Name one, as in {Path(address).name}::NAME; there are: {known or 'none'}."
    )


def _attributes(group: Any) -> dict[str, Any]:
    attributes = dict(group.attrs) if group is not None else {}
    inner = attributes.get("ome")
    return {**attributes, **inner} if isinstance(inner, dict) else attributes


def _full_resolution(image: Mapping[str, Any]) -> tuple[str, Facts]:
    """Return path and facts of the first level; see https://ngff.openmicroscopy.org/0.5."""
    level = image["datasets"][0]
    axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in image.get("axes", ())]
    letters = "".join(str(axis["name"]).upper()[:1] for axis in axes)
    scales = [
        [float(value) for value in step["scale"]]
        for step in (*level.get("coordinateTransformations", ()), *image.get("coordinateTransformations", ()))
        if step.get("type") == "scale"
    ]
    sizes: dict[str, float] = {}
    for position, axis in enumerate(axes):
        factor = MICROMETRES.get(str(axis.get("unit", "")).lower())
        if axis.get("type", "space") == "space" and factor is not None and scales:
            size = factor
            for scale in scales:
                size *= scale[position]
            sizes[str(axis["name"]).lower()] = size
    return str(level["path"]), Facts(letters, PixelSize(**{key: sizes.get(key) for key in "zyx"}))


def _named(array: Any) -> str:
    """Return the axes that a Zarr 3 array's dimension names or xarray's attribute give, "" if none."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS") or ()
    letters = [str(name or "").upper()[:1] for name in names]
    return "".join(letters) if len(letters) == array.ndim and all(letters) else ""


def _join(name: str, level: str) -> str:
    return f"{name}/{level}" if name else level


def _check_chunk(address: Path | str, array: Any) -> int:
    """Return the bytes of a chunk: reading one pixel costs as much."""
    chunk = int(array.dtype.itemsize)
    for size in array.chunks:
        chunk *= int(size)
    if chunk > _LARGEST_CHUNK:
        raise DataError(
            f"{address} is stored in chunks of {chunk} bytes; at most {_LARGEST_CHUNK} can be read.",
            "Save it with smaller chunks.",
        )
    return chunk


def _stored(folder: Path) -> int:
    """Return the bytes in a folder, or fewer once they are enough for anything: there may be many files."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            if name not in MARKERS:
                total += os.stat(os.path.join(parent, name)).st_size
            if total >= HARMLESS:
                return total
    return total
