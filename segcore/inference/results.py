"""Where the segmentations of one or of many images go, and writing them plane by plane."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from torch import Tensor

from segcore.data.manifest import decode_labels
from segcore.data.planes import Planes
from segcore.inference.sinks import TiffSink, check_space, tiff_sink
from segcore.predictor import to_labels, to_probabilities

SEGMENTATION = "segmentation.tif"
PROBABILITIES = "probabilities.tif"
_FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f]+')


@dataclass(frozen=True)
class Place:
    """Files of the result of one image; None for probabilities nobody asked for."""

    segmentation: Path
    probabilities: Path | None = None


def places(folder: Path, names: Sequence[str], probabilities: bool) -> list[Place]:
    """Return where the results of images go.

    Of one image `segmentation.tif`, of many `segmentation/<name>.tif` with their names and folders; where two
    names differ only in their ending, it stays: `cell.png.tif`. Probabilities likewise.

    Parameters
    ----------
    folder : Path
        The run folder.
    names : sequence of str
        Names of the images, unique.
    probabilities : bool
        Whether they are written, too.
    """
    if len(names) == 1:
        return [Place(folder / SEGMENTATION, folder / PROBABILITIES if probabilities else None)]
    inner, outer = (folder / Path(name).stem for name in (SEGMENTATION, PROBABILITIES))
    return [Place(inner / name, outer / name if probabilities else None) for name in file_names(names)]


def file_names(names: Sequence[str]) -> list[str]:
    """Return a TIFF's relative path for every name, no two equal on any file system.

    Examples
    --------
    >>> file_names(["a/cell.png", "a/cell.jpg", "b/cell.png", "stack.h5::raw"])
    ['a/cell.png.tif', 'a/cell.jpg.tif', 'b/cell.tif', 'stack.h5_raw.tif']
    """
    safe = [_safe(name) for name in names]
    short = [str(path.with_suffix("")) for path in map(PurePosixPath, safe)]
    folded = [name.casefold() for name in short]
    taken: set[str] = set()
    found = []
    for long, name, key in zip(safe, short, folded, strict=True):
        # What stands behind "::" is no ending, it tells arrays of a file apart.
        chosen = long if folded.count(key) > 1 or "_" in PurePosixPath(long).suffix else name
        number, candidate = 2, chosen
        while candidate.casefold() in taken:
            candidate, number = f"{chosen}-{number}", number + 1
        taken.add(candidate.casefold())
        found.append(f"{candidate}.tif")
    return found


def write_results(
    predicted: Iterable[tuple[int, Tensor]], images: Planes, values: tuple[int, ...], place: Place
) -> Iterator[np.ndarray]:
    """Write every predicted plane and yield the pixels of every class index in it.

    The files are there when the last plane is, and not at all if it fails before.

    Parameters
    ----------
    predicted : iterable of (int, Tensor)
        Number and logits `(K, Y, X)` of every plane.
    images : Planes
        The image; gives axes, sizes and pixel size.
    values : tuple of int
        Label value of every class index.
    place : Place
        The files to write.

    Raises
    ------
    JobError
        The disk is too full.
    """
    axes, shape, size = images.label_axes, images.label_shape, images.source.pixel_size
    dtype = decode_labels(np.zeros((1, 1), np.uint8), values).dtype
    pixels = int(np.prod(shape, dtype=np.int64))
    place.segmentation.parent.mkdir(parents=True, exist_ok=True)
    wide_bytes = 4 * len(values) if place.probabilities else 0
    check_space(place.segmentation.parent, pixels * (dtype.itemsize + wide_bytes))
    with ExitStack() as files:
        sink = files.enter_context(tiff_sink(place.segmentation, axes, shape, dtype, size))
        wide_sink: TiffSink | None = None
        if place.probabilities:
            wide = (*shape[:-2], len(values), *shape[-2:])
            wide_sink = files.enter_context(
                tiff_sink(place.probabilities, f"{axes[:-2]}CYX", wide, np.dtype(np.float32), size, 3)
            )
        for index, logits_KYX in predicted:
            labels_YX = to_labels(logits_KYX)
            sink.write(index, decode_labels(labels_YX, values))
            if wide_sink:
                wide_sink.write(index, to_probabilities(logits_KYX))
            yield np.bincount(labels_YX.ravel(), minlength=len(values))


def _safe(name: str) -> str:
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return "/".join(_FORBIDDEN.sub("_", part) for part in parts) or "image"
