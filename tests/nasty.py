"""Files that are not what they should be, or are in a way that few programs expect: made here, in a folder.

Every `Nasty` makes its file and says what must become of it: it reads, and as which pixels, or it is refused,
and with which words. The folder is the data folder of a workspace: what lies beside that is out of bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

HUGE = (40_000, 25_000)
"""Rows and columns of 10⁹ pixels."""
Make = Callable[[Path], Path]


@dataclass(frozen=True)
class Reads:
    """The file is read as these pixels; `notes` are words that must be said about it."""

    pixels: np.ndarray
    axes: str = "YX"
    within: float = 0.0
    notes: str = ""


@dataclass(frozen=True)
class Refused:
    """The file is refused, when opened or when read, in words that match this pattern."""

    words: str


@dataclass(frozen=True)
class Nasty:
    """A file to be made in a folder, and what must become of it."""

    name: str
    make: Make
    expectation: Reads | Refused


NASTY: list[Nasty] = []


def reads(name: str, pixels: np.ndarray, axes: str = "YX", within: float = 0.0, notes: str = "") -> Any:
    """Register a maker of a file that is read."""
    return _register(name, Reads(pixels, axes, within, notes))


def refused(name: str, words: str) -> Any:
    """Register a maker of a file that is refused."""
    return _register(name, Refused(words))


def _register(name: str, expectation: Reads | Refused) -> Callable[[Make], Make]:
    def register(make: Make) -> Make:
        NASTY.append(Nasty(name, make, expectation))
        return make

    return register


def noise(*shape: int, dtype: str = "uint8") -> np.ndarray:
    """Return pixels over the whole range of a type."""
    rng = np.random.default_rng(7)
    if dtype == "bool":
        return rng.random(shape) < 0.5
    if dtype.startswith(("float", "complex")):
        return rng.normal(0, 10, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


GREY = noise(40, 50)
DEEP = noise(40, 50, dtype="uint16")
COLOUR = noise(40, 50, 3)
STACK = noise(3, 40, 50)
SMOOTH = np.add.outer(np.arange(40), np.arange(50)).astype(np.uint8)


def tif(folder: Path, pixels: np.ndarray, name: str = "image.tif", **options: Any) -> Path:
    """Write a TIFF."""
    tifffile.imwrite(folder / name, pixels, **{"photometric": "minisblack", **options})
    return folder / name


def cut(path: Path, share: float) -> Path:
    """Cut a file off."""
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    return path


# --- what can be wrong with any file


@refused("zero-length", "is empty")
def _(folder: Path) -> Path:
    (folder / "image.tif").write_bytes(b"")
    return folder / "image.tif"


@refused("text-named-tif", "a text file")
def _(folder: Path) -> Path:
    (folder / "image.tif").write_text("Dear colleague,\nhere are the labels.\n")
    return folder / "image.tif"


@refused("folder-named-tif", "is a folder")
def _(folder: Path) -> Path:
    (folder / "image.tif").mkdir()
    return folder / "image.tif"


@refused("png-named-tif", "a PNG image")
def _(folder: Path) -> Path:
    Image.fromarray(GREY).save(folder / "image.png")
    return (folder / "image.png").rename(folder / "image.tif")


@refused("tif-named-png", "cannot be opened")
def _(folder: Path) -> Path:
    return tif(folder, GREY).rename(folder / "image.png")


@reads("non-ascii-name", GREY)
def _(folder: Path) -> Path:
    return tif(folder, GREY, "Zellkörper 10 µm 细胞 ✓ (Kopie).tif")


@refused("link-out-of-the-workspace", "outside the workspace")
def _(folder: Path) -> Path:
    secret = tif(folder.parent.parent, GREY, "secret.tif")
    (folder / "image.tif").symlink_to(secret)
    return folder / "image.tif"


@refused("dots-out-of-the-workspace", "outside the workspace")
def _(folder: Path) -> Path:
    tif(folder.parent.parent, GREY, "secret.tif")
    return folder / ".." / ".." / "secret.tif"


@reads("link-within-the-workspace", GREY)
def _(folder: Path) -> Path:
    (folder / "link.tif").symlink_to(tif(folder, GREY))
    return folder / "link.tif"


@refused("link-to-nothing", "does not exist")
def _(folder: Path) -> Path:
    (folder / "image.tif").symlink_to(folder / "old image.tif")
    return folder / "image.tif"


@refused("link-to-itself", "is not a path")
def _(folder: Path) -> Path:
    (folder / "image.tif").symlink_to(folder / "image.tif")
    return folder / "image.tif"


for share in (0.001, 0.05, 0.25, 0.5, 0.75, 0.99):

    @refused(f"tiff-cut-off-at-{share:.1%}", "cut off")
    def _(folder: Path, share: float = share) -> Path:
        return cut(tif(folder, STACK, compression="zlib"), share)
