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
