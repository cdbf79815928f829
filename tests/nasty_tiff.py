"""Nasty TIFF files; see `nasty`."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from nasty import DEEP, GREY, HUGE, SMOOTH, noise, reads, refused, tif


def raw_tiff(
    path: Path, tags: dict[int, tuple[int, int, int]], following: int = 0, rest: bytes = b""
) -> Path:
    """Write a little-endian TIFF of one page, tag by tag: number → (type, count, value or offset)."""
    page = struct.pack("<H", len(tags))
    for number, (kind, count, value) in sorted(tags.items()):
        page += struct.pack("<HHII", number, kind, count, value)
    path.write_bytes(b"II*\x00" + struct.pack("<I", 8) + page + struct.pack("<I", following) + rest)
    return path


def grey_page(rows: int, columns: int, compression: int = 1, offset: int = 200, size: int = 100) -> Any:
    """Return the tags of an 8-bit grey page of one strip."""
    short, long = 3, 4
    return {
        256: (long, 1, columns), 257: (long, 1, rows), 258: (short, 1, 8), 259: (short, 1, compression),
        262: (short, 1, 1), 273: (long, 1, offset), 277: (short, 1, 1), 278: (long, 1, rows),
        279: (long, 1, size),
    }  # fmt: skip


# --- TIFF: unusual, and right


def _tiff(name: str, pixels: np.ndarray, axes: str = "YX", notes: str = "", **options: Any) -> None:
    reads(name, pixels, axes, notes=notes)(lambda folder: tif(folder, pixels, **options))


_tiff("tiff-1-bit", noise(40, 50, dtype="bool"))
_tiff("tiff-lzw", DEEP, compression="lzw", predictor=True)
_tiff("tiff-packbits", GREY, compression="packbits")
_tiff("tiff-jpeg2000", DEEP, compression="jpeg2000")
_tiff("tiff-float-predictor", noise(40, 50, dtype="float32"), compression="zlib", predictor=3)
_tiff("tiff-tiled", noise(100, 90, dtype="uint16"), tile=(32, 48), compression="zlib")
_tiff("tiff-big-endian", DEEP, byteorder=">")
_tiff("tiff-bigtiff-big-endian-zlib", noise(2, 9, 8, dtype="int32"), "ZYX", bigtiff=True, byteorder=">",
      compression="zlib")  # fmt: skip
_tiff("tiff-negative-labels", noise(40, 50, dtype="int16"))
_tiff("tiff-float16", noise(40, 50, dtype="float16"))
_tiff("tiff-uint64", noise(40, 50, dtype="uint64"))
_tiff("tiff-nan-and-infinity", np.where(GREY > 99, np.nan, np.inf).astype(np.float32))
_tiff("tiff-white-is-zero", GREY, photometric="miniswhite")
_tiff(
    "tiff-colour-by-planes", noise(3, 40, 50), "CYX", "channels", photometric="rgb", planarconfig="separate"
)
_tiff("tiff-colour-and-alpha", noise(40, 50, 4), "YXC", photometric="rgb", extrasamples=["unassalpha"])
_tiff("tiff-printing-colours", noise(40, 50, 4), "YXC", photometric="separated")
_tiff("tiff-palette", GREY, notes="palette", photometric="palette", colormap=noise(3, 256, dtype="uint16"))
_tiff("tiff-one-row", noise(1, 50))
_tiff("tiff-one-pixel", noise(1, 1))


@reads("tiff-jpeg", SMOOTH, within=3)
def _(folder: Path) -> Path:
    return tif(folder, SMOOTH, compression="jpeg", compressionargs={"level": 100})


@reads("tiff-jpeg-colour", np.full((40, 50, 3), (200, 100, 50), np.uint8), "YXC", within=3)
def _(folder: Path) -> Path:
    pixels = np.full((40, 50, 3), (200, 100, 50), np.uint8)
    return tif(folder, pixels, photometric="rgb", compression="jpeg")


@reads("tiff-pyramid", noise(128, 96))
def _(folder: Path) -> Path:
    pixels = noise(128, 96)
    with tifffile.TiffWriter(folder / "image.tif") as writer:
        writer.write(pixels, tile=(32, 32), subifds=2, photometric="minisblack")
        for step in (2, 4):
            writer.write(pixels[::step, ::step], tile=(32, 32), subfiletype=1, photometric="minisblack")
    return folder / "image.tif"


@reads("tiff-several-images", GREY, notes="2 images")
def _(folder: Path) -> Path:
    tif(folder, GREY)
    tifffile.imwrite(folder / "image.tif", noise(9, 8, dtype="float32"), append=True, metadata=None)
    return folder / "image.tif"


@reads("tiff-of-an-ome-set-without-its-files", GREY, notes="several files")
def _(folder: Path) -> Path:
    plane = '<TiffData IFD="0" FirstZ="{z}"><UUID FileName="{name}">urn:uuid:{z}</UUID></TiffData>'
    planes = "".join(
        plane.format(z=z, name=name) for z, name in enumerate(("/etc/hostname", "image.ome.tif"))
    )
    return tif(folder, GREY, "image.ome.tif", metadata=None, description=_ome(2, planes))


def _ome(slices: int, planes: str = "<TiffData/>", before: str = "") -> str:
    return (
        f'<?xml version="1.0"?>{before}<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        'UUID="urn:uuid:1"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" '
        f'SizeX="50" SizeY="40" SizeZ="{slices}" SizeC="1" SizeT="1">{planes}</Pixels></Image></OME>'
    )


# --- TIFF: wrong


@refused("tiff-ome-of-a-billion-planes", "declares")
def _(folder: Path) -> Path:
    return tif(folder, GREY, "image.ome.tif", metadata=None, description=_ome(10**9))


@refused("tiff-ome-that-laughs-a-billion-times", "unfolds")
def _(folder: Path) -> Path:
    entities = '<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    xml = _ome(1, "<TiffData/>&a9;", f"<!DOCTYPE OME [{entities}]>")
    return tif(folder, GREY, "image.ome.tif", metadata=None, description=xml)


@refused("tiff-imagej-of-a-hundred-thousand-planes", "cut off|declares")
def _(folder: Path) -> Path:
    text = "ImageJ=1.54f\nimages=100000\nslices=100000\n"
    return tif(folder, GREY, metadata=None, description=text)


@refused("tiff-shaped-of-a-billion-planes", "cannot be opened")
def _(folder: Path) -> Path:
    text = json.dumps({"shape": [10**9, 40, 50], "axes": "ZYX"})
    return tif(folder, GREY, metadata=None, description=text)


@refused("tiff-huge-header", "cut off")
def _(folder: Path) -> Path:
    return raw_tiff(folder / "image.tif", grey_page(*HUGE), rest=bytes(1000))


@refused("tiff-huge-header-compressed", "declares")
def _(folder: Path) -> Path:
    return raw_tiff(folder / "image.tif", grey_page(*HUGE, compression=8), rest=bytes(1000))


@refused("tiff-huge-stack-compressed", "declares|circle")
def _(folder: Path) -> Path:
    return raw_tiff(folder / "image.tif", grey_page(2**31 - 1, 2**31 - 1, compression=5), rest=bytes(1000))


@refused("tiff-cyclic-pages", "circle")
def _(folder: Path) -> Path:
    return raw_tiff(folder / "image.tif", grey_page(10, 10), following=8, rest=bytes(300))


@refused("tiff-missing-page", "cut off")
def _(folder: Path) -> Path:
    return raw_tiff(folder / "image.tif", grey_page(10, 10), following=99_999, rest=bytes(300))


@refused("tiff-without-pages", "no image")
def _(folder: Path) -> Path:
    (folder / "image.tif").write_bytes(b"II*\x00\x00\x00\x00\x00")
    return folder / "image.tif"


@refused("tiff-of-too-many-tags", "cut off")
def _(folder: Path) -> Path:
    (folder / "image.tif").write_bytes(b"II*\x00\x08\x00\x00\x00\xff\xff" + bytes(500))
    return folder / "image.tif"


@refused("tiff-strips-beyond-the-end", "cut off")
def _(folder: Path) -> Path:
    tags = grey_page(10, 10, compression=8, offset=2**31)
    return raw_tiff(folder / "image.tif", tags, rest=bytes(300))


@refused("tiff-of-no-columns", "no pixels|no image|cannot be opened|damaged")
def _(folder: Path) -> Path:
    return raw_tiff(folder / "image.tif", grey_page(10, 0), rest=bytes(300))


@refused("tiff-unknown-compression", "compressed|cannot be")
def _(folder: Path) -> Path:
    return raw_tiff(folder / "image.tif", grey_page(10, 10, compression=65_000), rest=bytes(300))


@refused("tiff-corrupt-zlib", "cannot be read")
def _(folder: Path) -> Path:
    path = tif(folder, np.zeros((400, 500), np.uint8), compression="zlib")
    with tifffile.TiffFile(path) as file:
        at = file.pages[0].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[at : at + 20] = b"\xff" * 20
    path.write_bytes(bytes(content))
    return path


@refused("tiff-corrupt-jpeg", "cannot be read")
def _(folder: Path) -> Path:
    return raw_tiff(folder / "image.tif", grey_page(40, 50, compression=7), rest=b"\xff\xd8" + bytes(500))


@refused("tiff-complex-numbers", "complex64")
def _(folder: Path) -> Path:
    return tif(folder, noise(8, 9, dtype="complex64"))
