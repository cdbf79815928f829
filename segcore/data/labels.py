"""Labels: any label or mask file as a label image on the grid of the image it belongs to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segcore.addresses import split_address
from segcore.card import PixelSize
from segcore.data import rois
from segcore.data.coco import Meaning, open_coco
from segcore.data.colours import ColourLabels, ColourTable, count_colours, is_coloured, is_grey, known_colours
from segcore.data.geojson import geojson_classes, open_geojson
from segcore.data.integrity import check_readable
from segcore.data.naming import NameTable
from segcore.data.open import open_source
from segcore.data.renamed import Renamed
from segcore.data.source import ImageSource, Region, full_region
from segcore.errors import DataError

LabelsAs = Literal["classes", "foreground", "objects"]
SUFFIXES = (".json", ".geojson", *rois.SUFFIXES)
"""Names of files that hold outlines; what `open_source` takes can be labels too."""
_HEAD = 2**16


@dataclass(frozen=True)
class LabelTable:
    """Values of colours, names and objects in all files of a data set; None: every file has its own."""

    colours: ColourTable | None = None
    names: NameTable | None = None
    coco: Meaning = "semantic"
    """What the values of COCO objects are, see `open_coco`."""


def open_labels(
    address: str | Path,
    like: ImageSource | None = None,
    labels_as: LabelsAs = "classes",
    table: LabelTable | None = None,
) -> ImageSource:
    """Open a label file as a label image without channels, lazily.

    Numbers are read as they are, palettes as indices, colours by a table; outlines (COCO JSON, ImageJ ROIs,
    GeoJSON) are drawn on the grid of `like`. Channels in front of the rows are read as slices.

    Parameters
    ----------
    address : str or Path
        A file; `annotations.json::NAME` for one picture of a COCO file.
    like : ImageSource, optional
        The image; ROIs and GeoJSON need it.
    labels_as : str
        With "foreground" all outlines of ROIs and GeoJSON are 1. With "objects" every outline has a number of
        its own, also of COCO. Other labels keep their numbers.
    table : LabelTable, optional
        From `label_table`, so that a colour or name has the same value in all files.

    Raises
    ------
    DataError
        The file cannot be read, or does not fit `like`.
    """
    place, name = split_address(address)
    file = Path(place)
    table = table or LabelTable()
    kind = outlines_kind(file, name)
    if kind == "coco":
        return open_coco(file, name, like, "instance" if labels_as == "objects" else table.coco)
    if kind:
        if like is None:
            raise DataError(
                f"{file} holds outlines, which have no size of their own.", "Open it with its image."
            )
        opener = open_geojson if kind == "geojson" else rois.open_rois
        return opener(file, like, table.names, joined=labels_as == "foreground", apart=labels_as == "objects")
    source = open_source(address)
    if is_coloured(source, like):
        return ColourLabels(source, table.colours, str(address))
    return read_as_slices(source)


def open_mask(address: str | Path, like: ImageSource | None = None) -> ImageSource:
    """Open what says where an image is annotated: 1 there, 0 elsewhere.

    Parameters
    ----------
    address : str or Path
        An image, above 0 where annotated (a colour image where it is not black), or outlines of what is.
    like : ImageSource, optional
        The image; ROIs and GeoJSON need it.

    Raises
    ------
    DataError
        The file cannot be read, or does not fit `like`.
    """
    place, name = split_address(address)
    if outlines_kind(Path(place), name):
        return AboveZero(open_labels(address, like, "foreground"))
    source = open_source(address)
    return AboveZero(source if is_coloured(source, like) else read_as_slices(source))


def label_table(addresses: Iterable[str | Path]) -> LabelTable:
    """Return the values that colours and names get when these files are labels of one data set.

    Masks in colours are read as a whole for it, unless the index knows their colours; other images are only
    opened.

    Raises
    ------
    DataError
        A file cannot be read.
    """
    names: list[str] = []
    masks: list[str] = []
    for address in addresses:
        place, name = split_address(address)
        file = Path(place)
        kind = outlines_kind(file, name)
        if kind == "coco":
            continue
        if kind:
            names += geojson_classes(file) if kind == "geojson" else rois.roi_classes(file)
            continue
        masks.append(str(address))
    colours = {colour for counts in known_colours(masks, _colours, "set") for colour in counts}
    grey = all(is_grey(colour) for colour in colours)
    return LabelTable(
        None if grey else ColourTable.over(frozenset(colours)), NameTable.over(names) if names else None
    )


def _colours(address: str) -> dict[int, int]:
    source = open_source(address)
    return count_colours(source) if is_coloured(source) else {}


def annotated_part(labels: ImageSource) -> ImageSource | None:
    """Return what a label file itself says of where it is annotated, as `open_mask` does; None: everywhere.

    Crowds of COCO are not, nor are the slices of a stack without any ROI where ROIs are tied to slices.
    """
    return getattr(labels, "annotated", None)


def value_names(labels: ImageSource) -> dict[int, str]:
    """Return the names of the label values, as far as the file has any."""
    return dict(getattr(labels, "names", {}))


def outlines_kind(file: Path, name: str = "") -> Literal["", "coco", "geojson", "rois"]:
    """Return what kind of outlines a file holds, "" for an image.

    Raises
    ------
    DataError
        It is a JSON file that cannot be read.
    """
    suffix = file.suffix.lower()
    if suffix in rois.SUFFIXES:
        return "rois"
    if suffix == ".geojson":
        return "geojson"
    if suffix != ".json":
        return ""
    check_readable(file)
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
    return "geojson" if not name and b'"Feature' in head else "coco"


class AboveZero:
    """1 where an image is above 0 in some channel, alpha left aside; satisfies `ImageSource`."""

    def __init__(self, source: ImageSource) -> None:
        self.source = source
        self._channel = source.axes.find("C")
        kept = [at for at in range(len(source.axes)) if at != self._channel]
        self.axes: str = "".join(source.axes[at] for at in kept)
        self.shape: tuple[int, ...] = tuple(source.shape[at] for at in kept)
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)

    @property
    def path(self) -> Path:
        """The file."""
        return self.source.path

    @property
    def pixel_size(self) -> PixelSize:
        """Voxel size in µm."""
        return self.source.pixel_size

    @property
    def notes(self) -> tuple[str, ...]:
        """What had to be assumed."""
        return self.source.notes

    def read(self, region: Region) -> np.ndarray:
        """Return the pixels of `region`; see `ImageSource.read`."""
        full_region(region, self.shape)
        if self._channel < 0:
            return (self.source.read(region) > 0).astype(self.dtype)
        samples = slice(0, 3) if self.source.shape[self._channel] == 4 else slice(None)
        whole = (*region[: self._channel], samples, *region[self._channel :])
        return (self.source.read(whole) > 0).any(self._channel).astype(self.dtype)


def match_labels(images: ImageSource, labels: ImageSource) -> ImageSource:
    """Return `images`, with channels read as slices if only so they have the axes of their labels."""
    if images.axes != labels.axes and images.shape == labels.shape:
        as_slices = read_as_slices(images)
        if as_slices.axes == labels.axes:
            return as_slices
    return images


def read_as_slices(source: ImageSource) -> ImageSource:
    """Return `source` with its channels read as slices, with a note, or as it is if it has slices.

    Some writers call every unnamed axis of an ImageJ file "channels"; a stack of 30 slices then looks like
    one slice with 30 channels. Colour samples (C behind Y and X) are never slices.
    """
    if not source.axes.startswith("C") or {"Z", "T"} & set(source.axes):
        return source
    axes = source.axes.replace("C", "Z")
    note = f"{source.path.name} calls its {source.shape[0]} slices channels; read as {axes}."
    return Renamed(source, axes, note)
