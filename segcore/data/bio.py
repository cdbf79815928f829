"""CZI, ND2 and LIF: microscopes' own formats, read through bioio where it is installed."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from segcore.card import PixelSize
from segcore.data.arrays import ArraySource, Facts, LazyArray, as_data_error
from segcore.errors import DataError

SUFFIXES = (".czi", ".nd2", ".lif")
_PLANEWISE: dict[str, dict[str, Any]] = {suffix: {"chunk_dims": "YX"} for suffix in (".czi", ".lif")}
"""By default these readers decode a whole stack for every plane of it; nd2 decodes planes."""


def open_bio(path: Path, name: str = "", axes: str | None = None) -> ArraySource:
    """Open one scene of a file of a microscope.

    Parameters
    ----------
    path : Path
        The file.
    name : str
        Name or number (from 0) of the scene; by default the first, with a note where there are several.
    axes : str, optional
        See `ArraySource`.

    Raises
    ------
    DataError
        bioio is not installed, the file is damaged, or there is no such scene.
    """
    with as_data_error(path, "opened"), _image(path, name) as image:
        facts = Facts(image.dims.order, _pixel_size(image), _notes(image, name))

    @contextmanager
    def array() -> Iterator[LazyArray]:
        with _image(path, name) as opened:
            yield _Lazy(opened)

    return ArraySource(path, array, facts, axes)


class _Lazy:
    """The pixels of a scene; only the planes that are asked for are decoded."""

    def __init__(self, image: Any) -> None:
        self._image = image
        self.shape: tuple[int, ...] = tuple(image.shape)
        self.dtype: np.dtype[Any] = np.dtype(image.dtype)

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        return np.asarray(self._image.dask_data[region].compute(scheduler="synchronous"))


@contextmanager
def _image(path: Path, scene: str) -> Iterator[Any]:
    # The readers warn of what they do not know in a file's metadata; people can do nothing about it.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _open(path)
        if scene:
            _choose(path, image, scene)
        yield image


def _open(path: Path) -> Any:
    try:
        from bioio import BioImage
        from bioio_base.exceptions import UnsupportedFileFormatError
    except ImportError as error:
        raise DataError(
            f"{path} is read through bioio, which is not installed.",
            "Run pip install segcore-studio[bio], or save the image as OME-TIFF.",
        ) from error
    try:
        return BioImage(path, **_PLANEWISE.get(path.suffix.lower(), {}))
    except UnsupportedFileFormatError as error:
        raise DataError(
            f"{path} is damaged, or bioio has no reader for it.",
            "Run pip install segcore-studio[bio], or save the image as OME-TIFF.",
        ) from error


def _choose(path: Path, image: Any, scene: str) -> None:
    scenes = list(image.scenes)
    if scene in scenes:
        image.set_scene(scene)
    elif scene.isdigit() and int(scene) < len(scenes):
        image.set_scene(int(scene))
    else:
        raise DataError(f"{path} has no scene {scene!r}.", f"There are: {', '.join(scenes)}.")


def _pixel_size(image: Any) -> PixelSize:
    sizes = image.physical_pixel_sizes
    found = {axis.lower(): getattr(sizes, axis, None) for axis in "ZYX"}
    return PixelSize(**{axis: abs(size) if size else None for axis, size in found.items()})


def _notes(image: Any, scene: str) -> tuple[str, ...]:
    if scene or len(image.scenes) < 2:
        return ()
    return (f"The file holds {len(image.scenes)} scenes; the first is read. Name another with ::NUMBER.",)
