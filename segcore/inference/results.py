"""Where the segmentations of one or of many images go, and what is written of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from segcore.card import ModelCard
from segcore.config import InferenceConfig
from segcore.data.manifest import decode_labels
from segcore.data.planes import Planes
from segcore.inference.sinks import SinkSpec

SEGMENTATION = "segmentation"
PROBABILITIES = "probabilities"
ENDINGS = {"tiff": ".tif", "ome-zarr": ".ome.zarr"}
_FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f]+')


@dataclass(frozen=True)
class Place:
    """Files of the result of one image; None for probabilities nobody asked for."""

    segmentation: Path
    probabilities: Path | None = None

    @property
    def ending(self) -> str:
        """Ending of the label image, which may have dots in its name."""
        name = self.segmentation.name
        return next(ending for ending in ENDINGS.values() if name.endswith(ending))

    @property
    def objects(self) -> Path:
        """The table of the objects, where they are told apart: beside the label image."""
        return self.segmentation.with_name(f"{self.segmentation.name.removesuffix(self.ending)}.objects.csv")


def places(folder: Path, names: Sequence[str], options: InferenceConfig) -> list[Place]:
    """Return where the results of images go.

    Of one image `segmentation.tif`, of many `segmentation/<name>.tif` with their names and folders; where two
    names differ only in their ending, it stays: `cell.png.tif`. Probabilities likewise. OME-Zarr ends in
    `.ome.zarr`.

    Parameters
    ----------
    folder : Path
        The run folder.
    names : sequence of str
        Names of the images, unique.
    options : InferenceConfig
        File format, and whether probabilities are written, too.
    """
    ending, wide = ENDINGS[options.format], options.probabilities
    if len(names) == 1:
        files = (folder / f"{name}{ending}" for name in (SEGMENTATION, PROBABILITIES))
        found = [tuple(files)]
    else:
        found = [
            (folder / SEGMENTATION / name, folder / PROBABILITIES / name)
            for name in file_names(names, ending)
        ]
    return [Place(labels, probabilities if wide else None) for labels, probabilities in found]


def file_names(names: Sequence[str], ending: str = ".tif") -> list[str]:
    """Return a file's relative path for every name, no two equal on any file system.

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
        found.append(f"{candidate}{ending}")
    return found


def specs_of(
    images: Planes, card: ModelCard, chunk: tuple[int, int, int], options: InferenceConfig
) -> tuple[SinkSpec, SinkSpec | None]:
    """Return what is written of an image: label values, and on request the probability of every class.

    Parameters
    ----------
    images : Planes
        The image; gives axes, sizes and pixel size.
    card : ModelCard
        Gives values and names of the classes.
    chunk : tuple of int
        Planes, rows and columns of which blocks have a whole number.
    options : InferenceConfig
        File format, and whether probabilities are asked for.
    """
    grid = SinkSpec(images.label_axes, images.label_shape, np.dtype(np.uint8), images.source.pixel_size)
    return specs_on(replace(grid, chunk=chunk), card, options)


def specs_on(grid: SinkSpec, card: ModelCard, options: InferenceConfig) -> tuple[SinkSpec, SinkSpec | None]:
    """Return the same for a grid: axes, sizes, pixel size and chunks of `grid` count.

    Where objects are told apart, labels are their numbers, and there are no probabilities.
    """
    if card.head is not None:  # numbers, of which nobody knows yet how large they will be
        return replace(grid, dtype=np.dtype(np.uint32), format=options.format), None
    labels = replace(
        grid,
        dtype=decode_labels(np.zeros((1, 1), np.uint8), card.class_values).dtype,
        format=options.format,
        names=tuple(zip(card.class_values, card.class_names, strict=True)),
    )
    if not options.probabilities:
        return labels, None
    return labels, replace(labels, dtype=np.dtype(np.float32), classes=len(card.class_values))


def _safe(name: str) -> str:
    parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return "/".join(_FORBIDDEN.sub("_", part) for part in parts) or "image"
