"""Nasty PNG, JPEG and BMP files; see `nasty`."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from nasty import COLOUR, DEEP, GREY, HUGE, cut, noise, reads, refused
from PIL import Image


def picture(folder: Path, image: Image.Image, name: str = "image.png", **options: Any) -> Path:
    image.save(folder / name, **options)
    return folder / name


def raw_png(folder: Path, size: tuple[int, int], bits: int, kind: int, rows: bytes) -> Path:
    """Write a PNG; `kind` 0 is grey, 2 colour, 4 and 6 the same with transparency."""

    def chunk(name: bytes, content: bytes) -> bytes:
        body = name + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", size[1], size[0], bits, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (folder / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    return folder / "image.png"


def png_rows(pixels: np.ndarray) -> bytes:
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(len(pixels), -1)
    return b"".join(b"\x00" + row.tobytes() for row in rows)


_FEW = GREY % 16
_DEEP_COLOUR = noise(40, 50, 4, dtype="uint16")
_INDICES = Image.fromarray(GREY % 7)
_INDICES.putpalette(noise(21).tobytes())
reads("png-palette", GREY % 7, notes="palette")(lambda folder: picture(folder, _INDICES))
reads("png-16-bit", DEEP)(lambda folder: picture(folder, Image.fromarray(DEEP)))
reads("png-4-bit", _FEW)(
    lambda folder: raw_png(folder, (40, 50), 4, 0, png_rows((_FEW[:, ::2] << 4) | _FEW[:, 1::2]))
)
reads("png-16-bit-colour", _DEEP_COLOUR[..., :3], "YXC")(
    lambda folder: raw_png(folder, (40, 50), 16, 2, png_rows(_DEEP_COLOUR[..., :3]))
)
reads("png-16-bit-transparent", _DEEP_COLOUR[..., :3], "YXC", notes="transparency")(
    lambda folder: raw_png(folder, (40, 50), 16, 6, png_rows(_DEEP_COLOUR))
)
reads("png-transparent", COLOUR, "YXC", notes="transparency")(
    lambda folder: picture(folder, Image.fromarray(np.dstack([COLOUR, GREY])))
)
reads("png-grey-and-transparent", GREY, notes="transparency")(
    lambda folder: picture(folder, Image.fromarray(np.dstack([GREY, GREY[::-1]])))
)
reads("bmp-palette", GREY % 7, notes="palette")(lambda folder: picture(folder, _INDICES, "image.bmp"))
reads("jpeg-printing-colours", np.full((40, 50, 3), 255, np.uint8), "YXC", within=3, notes="printing")(
    lambda folder: picture(folder, Image.new("CMYK", (50, 40)), "image.jpg")
)
reads("jpeg-turned", np.full((40, 50), 128, np.uint8), within=3, notes="turned")(
    lambda folder: picture(
        folder, Image.new("L", (50, 40), 128), "image.jpeg", exif=b"Exif\x00\x00" + _turned()
    )
)
refused("png-huge-header", "pixels")(lambda folder: raw_png(folder, HUGE, 8, 0, bytes(900)))
refused("png-large-header", "declares")(lambda folder: raw_png(folder, (12_000, 12_000), 8, 0, bytes(900)))
refused("png-of-no-size", "cannot be")(lambda folder: raw_png(folder, (0, 0), 8, 0, b""))
refused("png-cut-off", "cannot be")(lambda folder: cut(picture(folder, Image.fromarray(GREY)), 0.5))
refused("jpeg-cut-off", "cannot be")(
    lambda folder: cut(picture(folder, Image.fromarray(GREY), "image.jpg"), 0.5)
)
refused("bmp-cut-off", "cannot be")(
    lambda folder: cut(picture(folder, Image.fromarray(GREY), "image.bmp"), 0.5)
)


def _turned() -> bytes:
    exif = Image.Exif()
    exif[274] = 6
    return exif.tobytes().removeprefix(b"Exif\x00\x00")


@refused("bmp-huge-header", "pixels")
def _(folder: Path) -> Path:
    path = picture(folder, Image.fromarray(GREY), "image.bmp")
    content = bytearray(path.read_bytes())
    content[18:26] = struct.pack("<ii", HUGE[1], HUGE[0])
    path.write_bytes(bytes(content[:1000]))
    return path
