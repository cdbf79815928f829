"""Every n-th pixel of a TIFF: from its pyramid, or of uncompressed tiles straight from their place."""

from __future__ import annotations

from typing import Any

import numpy as np
import tifffile

from segcore.data.source import Region, full_region
from segcore.data.thinning import Copy, pick

Form = tuple[str, tuple[int, ...], np.dtype[Any]]
"""Axes, shape and type of an image."""


def thinned_page(series: Any, number: int, form: Form, region: Region, step: int) -> np.ndarray | None:
    """Return every `step`-th row and column of a page; None where the file has no fast way to them.

    Parameters
    ----------
    series : TiffPageSeries
        Of an open file.
    number : int
        The page that holds `region`.
    form : tuple
        Axes, shape and type of the image.
    region : tuple of slice
        Whole rows and columns.
    step : int
        In pixels.
    """
    axes, shape, dtype = form
    if series.transform is not None:
        return None
    if axes.endswith("YX") and series.keyframe.shape == shape[-2:]:
        page = series[number]
        if page is not None and _is_mosaic(page, series.keyframe):
            whole = full_region(region, shape)[:-2]
            return _from_tiles(page, series.keyframe, dtype, step).reshape(
                *(stop - start for start, stop in whole), *_size(shape, step)
            )
    return _from_pyramid(series, form, region, step)


def _size(shape: tuple[int, ...], step: int) -> tuple[int, int]:
    return -(-shape[-2] // step), -(-shape[-1] // step)


def _is_mosaic(page: Any, form: Any) -> bool:
    """Say whether tiles of one sample lie uncompressed one behind the other; `form` is the first page."""
    if not (form.is_tiled and form.compression == tifffile.COMPRESSION.NONE and form.predictor == 1):
        return False
    if form.samplesperpixel != 1 or form.fillorder != 1 or form.bitspersample != 8 * form.dtype.itemsize:
        return False
    size = form.tilelength * form.tilewidth * form.dtype.itemsize
    offsets, counts = np.asarray(page.dataoffsets), np.asarray(page.databytecounts)
    return bool((counts == size).all() and (np.diff(offsets) == size).all())


def _from_tiles(page: Any, form: Any, dtype: np.dtype[Any], step: int) -> np.ndarray:
    high, wide = form.tilelength, form.tilewidth
    rows, columns = np.arange(0, form.imagelength, step), np.arange(0, form.imagewidth, step)
    across = -(-form.imagewidth // wide)
    found = []
    for row in np.unique(rows // high):  # mapped anew for every row of tiles, so that few stay in memory
        tiles = np.memmap(
            form.parent.filehandle.path,
            dtype=form.dtype.newbyteorder(form.parent.byteorder),
            mode="r",
            offset=page.dataoffsets[int(row) * across],
            shape=(across, high, wide),
        )
        inner = rows[rows // high == row] % high
        found.append(np.asarray(tiles[columns // wide, inner[:, None], columns % wide], dtype))
    return np.concatenate(found)


def _from_pyramid(series: Any, form: Form, region: Region, step: int) -> np.ndarray | None:
    """Read a smaller copy of the image that lies in the same file."""
    import zarr

    axes, shape, dtype = form
    best: tuple[float, int, tuple[int, ...]] | None = None
    for level, smaller in enumerate(series.levels[1:], start=1):
        size = tuple(int(one) for one in smaller.get_shape(squeeze=True))
        if len(size) != len(shape) or any(
            one != other for axis, one, other in zip(axes, size, shape, strict=True) if axis not in "YX"
        ):
            continue
        # Writers round the sizes of levels in their own ways.
        factor = shape[axes.index("Y")] / size[axes.index("Y")]
        if factor <= step and (best is None or factor > best[0]):
            best = factor, level, size
    if best is None:
        return None
    factor, level, size = best
    with series.aszarr(level=level, squeeze=True) as store:
        array = zarr.open_array(store, mode="r")

        def read(part: Region) -> np.ndarray:
            return np.array(array[part], dtype=dtype, order="C")

        return pick(Copy(axes, size, dtype, read), region, shape, step, factor)
