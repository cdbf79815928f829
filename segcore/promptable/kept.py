"""Numbers of objects of one slice in a file: a 16-bit PNG, small, whole or not there. Torch-free."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from segcore.errors import DataError
from segcore.files import atomic_path

MOST = 65535
"""Objects that a slice can have."""


def keep_numbers(path: Path, numbers_YX: np.ndarray) -> None:
    """Write numbers of objects; 0 is none.

    Raises
    ------
    DataError
        There are more than 65535.
    OSError
        The disk is full, or the like.
    """
    if numbers_YX.size and int(numbers_YX.max()) > MOST:
        raise DataError(
            f"The slice has {int(numbers_YX.max())} objects; {MOST} can be kept.",
            "Work on a smaller part of the image.",
        )
    with atomic_path(path) as temporary:
        Image.fromarray(numbers_YX.astype(np.uint16)).save(temporary, "PNG", compress_level=1)


def kept_numbers(path: Path) -> np.ndarray | None:
    """Return the numbers of objects in a file `(Y, X)`, int32; None if there is no such file.

    Raises
    ------
    DataError
        It is damaged.
    """
    try:
        return png_pixels(path).astype(np.int32)
    except FileNotFoundError:
        return None
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"{path} is damaged: {error}.", "Delete it; the objects of this slice are then found anew."
        ) from error


def png_pixels(source: Path | BinaryIO) -> np.ndarray:
    """Return the pixels `(Y, X)` of a PNG that this program wrote, however many they are.

    `Image.open` refuses slices of more than 179 million pixels, as files of strangers could fill the memory.

    Raises
    ------
    OSError, SyntaxError, ValueError
        There is no such file, or it is damaged.
    """
    with PngImageFile(source) as picture:
        return np.asarray(picture)
