"""Opening an image: path in, ImageSource out."""

from __future__ import annotations

from pathlib import Path

from segcore.data.integrity import check_whole
from segcore.data.source import ImageSource
from segcore.data.tiff import TiffSource


def open_source(path: Path, axes: str | None = None) -> ImageSource:
    """Open an image file for lazy reading.

    Parameters
    ----------
    path : Path
        A TIFF file.
    axes : str, optional
        Axes of the image where its metadata is missing or wrong, for example CYX.

    Raises
    ------
    DataError
        The file is missing, a folder, empty, not a TIFF, cut off, damaged, or not an image of numbers; or
        `axes` do not fit it.
    """
    check_whole(path)
    return TiffSource(path, axes)


def open_labels(path: Path) -> ImageSource:
    """Open a label file. Labels have no channels: channels in front of the rows are read as slices.

    Raises
    ------
    DataError
        The file cannot be read.
    """
    return read_as_slices(open_source(path))


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
    as_slices = TiffSource(source.path, axes)
    as_slices.notes += (f"{source.path.name} calls its {source.shape[0]} slices channels; read as {axes}.",)
    return as_slices
