"""PNG, JPEG and BMP pictures as images of one plane."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from segcore.data.arrays import ArraySource, Facts, LazyArray, as_data_error
from segcore.data.integrity import check_proportion
from segcore.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp")
MOST_PIXELS = 2**30
"""A picture that declares more is refused: nobody's photograph, but a trap."""
_PNG = b"\x89PNG\r\n\x1a\n"
_COLOUR = ("RGB", "RGBA", "CMYK", "YCbCr")
_ORIENTATION = 274
"""EXIF tag; 1 is upright."""


@dataclass(frozen=True)
class _Layout:
    """How the pixels of a picture are stored; `bits` per sample are known of a PNG only."""

    mode: str
    bits: int = 8
    turned: bool = False
    frames: int = 1

    @property
    def axes(self) -> Literal["YX", "YXS"]:
        return "YXS" if self.mode in _COLOUR else "YX"

    @property
    def notes(self) -> tuple[str, ...]:
        told = {
            "P": "The file has a colour palette; the stored values are read, not the colours.",
            "RGBA": "The transparency of the picture is left out.",
            "LA": "The transparency of the picture is left out.",
            "CMYK": "The picture is in printing colours (CMYK); it is read as red, green and blue.",
        }
        notes = [told[self.mode]] if self.mode in told else []
        if self.turned:
            notes.append("The picture asks to be shown turned; it is read as it is stored.")
        if self.frames > 1:
            notes.append(f"The picture has {self.frames} frames; the first is read.")
        return tuple(notes)


def open_picture(path: Path, axes: str | None = None) -> ArraySource:
    """Open a picture: `Y X`, or `Y X C` in colour.

    A palette is read as its indices, as label files use it; transparency is left out.

    Raises
    ------
    DataError
        The file is damaged, cut off, or declares an absurd size.
    """
    with as_data_error(path, "opened"), _image(path) as image:
        layout = _layout(path, image)

    @contextmanager
    def array() -> Iterator[LazyArray]:
        yield _Picture(path, layout)

    return ArraySource(path, array, Facts(layout.axes, notes=layout.notes), axes)


class _Picture:
    """A picture that is decoded as a whole when a part of it is asked for."""

    def __init__(self, path: Path, layout: _Layout) -> None:
        self._path = path
        self._layout = layout
        with _image(path) as image:
            rows_columns = (image.height, image.width)
            self.shape: tuple[int, ...] = rows_columns if layout.axes == "YX" else (*rows_columns, 3)
            self.dtype: np.dtype[np.generic] = _dtype(image.mode, layout.bits)

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        return self._decode()[region]

    def _decode(self) -> np.ndarray:
        layout = self._layout
        if layout.bits == 16 and layout.mode in ("RGB", "RGBA", "LA"):
            import imagecodecs  # Pillow keeps the upper 8 bits only

            pixels = np.asarray(imagecodecs.png_decode(self._path.read_bytes()))
            return pixels[..., 0] if layout.mode == "LA" else pixels[..., :3]
        with _image(self._path) as image:
            if layout.mode in _COLOUR and layout.mode != "RGB":
                return np.asarray(image.convert("RGB"))
            if layout.mode == "LA":
                return np.asarray(image.getchannel("L"))
            pixels = np.asarray(image)
        # Grey values of 2 and 4 bits are stretched to 255 by the decoder; labels mean what is stored.
        return (
            pixels // (255 // (2**layout.bits - 1))
            if layout.mode == "L" and layout.bits in (2, 4)
            else pixels
        )


def _layout(path: Path, image: Image.Image) -> _Layout:
    with path.open("rb") as stream:
        head = stream.read(26)
    # The header of a PNG comes first; its 25th byte is the number of bits.
    bits = head[24] if head.startswith(_PNG) and len(head) == 26 else 8
    if image.width * image.height > MOST_PIXELS:
        raise _too_large(path, MOST_PIXELS)
    check_proportion(path, image.width * image.height * len(image.getbands()), path.stat().st_size)
    turned = image.format == "JPEG" and image.getexif().get(_ORIENTATION, 1) != 1
    return _Layout(image.mode, bits, turned, getattr(image, "n_frames", 1))


def _dtype(mode: str, bits: int) -> np.dtype[np.generic]:
    if mode in ("RGB", "RGBA", "LA") and bits == 16:
        return np.dtype(np.uint16)
    stored = {
        "1": "bool",
        "I": "int32",
        "F": "float32",
        "I;16": "uint16",
        "I;16B": "uint16",
        "I;16L": "uint16",
    }
    return np.dtype(stored.get(mode, "uint8"))


@contextmanager
def _image(path: Path) -> Iterator[Image.Image]:
    with warnings.catch_warnings():
        # Our own limit is another: stitched overviews are large, and honest.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            opened = Image.open(path, formats=("PNG", "JPEG", "BMP"))
        except Image.DecompressionBombError as error:
            raise _too_large(path, 2 * (Image.MAX_IMAGE_PIXELS or 0)) from error
        with opened as image:
            yield image


def _too_large(path: Path, most: int) -> DataError:
    return DataError(
        f"{path} declares more than {most} pixels; pictures are read up to that size.",
        "Save it as a tiled TIFF or as OME-Zarr.",
    )
