"""Zarr arrays and OME-Zarr images (0.4 and 0.5): the full resolution, its axes and voxel size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from segcore.card import PixelSize
from segcore.data.arrays import ArraySource, Facts, LazyArray, as_data_error
from segcore.data.calibration import MICROMETRES
from segcore.errors import DataError

MARKERS = ("zarr.json", ".zarray", ".zgroup")
"""Files one of which lies in every Zarr folder."""


def is_zarr(path: Path) -> bool:
    """Say whether a folder is a Zarr array or group."""
    return path.is_dir() and any((path / name).is_file() for name in MARKERS)


def open_zarr(path: Path, name: str = "", axes: str | None = None) -> ArraySource:
    """Open a Zarr array, or the full resolution of an OME-Zarr image.

    Parameters
    ----------
    path : Path
        The folder.
    name : str
        Array within a group that is no OME-Zarr image.
    axes : str, optional
        See `ArraySource`.

    Raises
    ------
    DataError
        The folder is no Zarr, or holds several images and none is named.
    """
    import zarr

    with as_data_error(path, "opened"):
        node = zarr.open(str(path), mode="r")
        within, facts = _choose(path, node, name.strip("/"))

    @contextmanager
    def array() -> Iterator[LazyArray]:
        opened: Any = zarr.open(str(path), mode="r")
        yield opened[within] if within else opened

    return ArraySource(path, array, facts, axes)


def _choose(path: Path, node: Any, name: str) -> tuple[str, Facts]:
    import zarr

    if isinstance(node, zarr.Array):
        return "", Facts(_named(node))
    attributes = dict(node.attrs)
    image = (attributes.get("ome") or attributes).get("multiscales")
    if image and not name:
        return _full_resolution(image[0])
    arrays = [key for key, member in node.members(max_depth=None) if isinstance(member, zarr.Array)]
    arrays = [key for key in arrays if node[key].ndim >= 2]
    if name in arrays or (not name and len(arrays) == 1):
        chosen = name or arrays[0]
        return chosen, Facts(_named(node[chosen]))
    wanted = f"has no array {name!r}" if name else f"holds {len(arrays)} arrays"
    raise DataError(
        f"{path} {wanted}.", f"Name one, as in {path.name}::NAME; there are: {', '.join(arrays) or 'none'}."
    )


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
