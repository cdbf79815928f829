"""HDF5 datasets as images, with what ilastik and others write about their axes and voxel size."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segcore.card import PixelSize
from segcore.data.arrays import ArraySource, Facts, LazyArray, as_data_error
from segcore.errors import DataError

if TYPE_CHECKING:
    import h5py


def open_hdf5(path: Path, name: str = "", axes: str | None = None) -> ArraySource:
    """Open one dataset of an HDF5 file.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        The dataset, as in `volumes/raw`; needed if there are several that could be images.
    axes : str, optional
        See `ArraySource`.

    Raises
    ------
    DataError
        The file is damaged, or the dataset is not in it.
    """
    import h5py

    with as_data_error(path, "opened"), h5py.File(path, "r", locking=False) as file:
        chosen = _choose(path, file, name.strip("/"))
        _check_self_contained(path, file[chosen])
        facts = _facts(file[chosen])

    @contextmanager
    def array() -> Iterator[LazyArray]:
        with h5py.File(path, "r", locking=False) as opened:
            yield opened[chosen]

    return ArraySource(path, array, facts, axes)


def _choose(path: Path, file: h5py.File, name: str) -> str:
    import h5py

    found: list[str] = []

    def visit(where: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.ndim >= 2 and node.dtype.kind in "biuf":
            found.append(where)

    # visititems does not follow links: one that leads out of the file is never opened.
    file.visititems(visit)
    if name in found:
        return name
    known = ", ".join(found) or "none"
    if name or len(found) != 1:
        wanted = f"has no image {name!r}" if name else f"holds {len(found)} images"
        raise DataError(
            f"{path} {wanted}.", f"Name one of them, as in {path.name}::NAME; there are: {known}."
        )
    return found[0]


def _check_self_contained(path: Path, dataset: h5py.Dataset) -> None:
    """Refuse pixels that lie in other files: they may be any file of this machine."""
    elsewhere = [name for name, *_ in dataset.external or ()]
    if dataset.is_virtual:
        elsewhere += [source.file_name for source in dataset.virtual_sources() if source.file_name != "."]
    if elsewhere:
        raise DataError(
            f"{path}: {dataset.name} has its pixels in another file ({elsewhere[0]}).",
            "Copy it into one file, as h5repack does, or choose that file.",
        )


def _facts(dataset: h5py.Dataset) -> Facts:
    piece = math.prod(dataset.chunks or ()) * dataset.dtype.itemsize if dataset.chunks else 0
    stored = int(dataset.id.get_storage_size())
    return Facts(_axes(dataset), _pixel_size(dataset), stored=stored, piece=piece)


def _axes(dataset: h5py.Dataset) -> str:
    tags = dataset.attrs.get("axistags")
    with suppress(ValueError, KeyError, TypeError):
        keys = [str(axis["key"]).upper() for axis in json.loads(tags)["axes"]]
        if len(keys) == dataset.ndim and all(len(key) == 1 for key in keys):
            return "".join(keys)
    labels = [str(dimension.label).strip().upper()[:1] for dimension in dataset.dims]
    return "".join(labels) if all(labels) else ""


def _pixel_size(dataset: h5py.Dataset) -> PixelSize:
    size = dataset.attrs.get("element_size_um")
    with suppress(ValueError, TypeError):
        z, y, x = (float(value) for value in size)
        if min(z, y, x) > 0:
            return PixelSize(z=z, y=y, x=x)
    return PixelSize()
