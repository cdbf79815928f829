"""PNG, JPEG and BMP pictures as images of one plane."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from segcore.data.arrays import ArraySource, Facts, LazyArray, as_data_error

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
MOST_PIXELS = 2**30
"""A picture that declares more is refused: nobody's PNG, but a trap."""


def open_picture(path: Path, axes: str | None = None) -> ArraySource:
    """Open a picture: `Y X`, or `Y X C` in colour. A palette is read as its indices, as label files use it.

    Raises
    ------
    DataError
        The file is damaged, cut off, or declares an absurd size.
    """
    with as_data_error(path, "opened"), _image(path) as image:
        mode = image.mode
    notes: tuple[str, ...] = ()
    if mode == "P":
        notes = ("The file has a colour palette; the stored values are read, not the colours.",)
    if mode in ("RGBA", "LA"):
        notes = ("The picture has a transparency channel; it is read as one more channel.",)
    letters = "YX" if mode in ("1", "L", "P", "I", "F", "I;16", "I;16B", "I;16L") else "YXS"

    @contextmanager
    def array() -> Iterator[LazyArray]:
        with _image(path) as opened:
            yield np.asarray(opened)

    return ArraySource(path, array, Facts(letters, notes=notes), axes)


@contextmanager
def _image(path: Path) -> Iterator[Image.Image]:
    with warnings.catch_warnings():
        # Our own limit is higher: stitched overviews are large, and honest.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        with Image.open(path, formats=("PNG", "JPEG", "BMP")) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ValueError(f"it declares {image.width} × {image.height} pixels")
            yield image
