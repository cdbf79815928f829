"""Pixel sizes from TIFF metadata: ImageJ, OME and the resolution tags, always in µm."""

from __future__ import annotations

import math
from typing import Any
from xml.etree import ElementTree

import tifffile

from segcore.card import PixelSize

MICROMETRES = {
    "µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "micrometre": 1.0,
    "micrometers": 1.0, "nm": 1e-3, "nanometer": 1e-3, "nanometre": 1e-3, "å": 1e-4, "pm": 1e-6,
    "mm": 1e3, "millimeter": 1e3, "cm": 1e4, "m": 1e6, "inch": 25400.0, "in": 25400.0,
}  # fmt: skip
_PRINT_RESOLUTIONS = (72, 75, 90, 96, 100, 144, 150, 200, 240, 300, 400, 600, 1200)


def read_pixel_size(tif: tifffile.TiffFile) -> PixelSize:
    """Return the voxel size an open TIFF file states, in µm; None for every axis it does not state."""
    if tif.is_ome and tif.ome_metadata:
        return _from_ome(tif.ome_metadata)
    if tif.is_imagej and tif.imagej_metadata:
        return _from_imagej(tif.pages.first, tif.imagej_metadata)
    return _from_resolution(tif.pages.first)


def ome_sizes(xml: str) -> list[tuple[int, ...]]:
    """Return the numbers of channels, slices and frames of every image that an OME description declares."""
    names = ("SizeC", "SizeZ", "SizeT")
    texts = [[pixels.get(name, "") for name in names] for pixels in _ome_pixels(xml)]
    return [tuple(int(text) for text in sizes) for sizes in texts if all(text.isdecimal() for text in sizes)]


def _ome_pixels(xml: str) -> list[ElementTree.Element]:
    # Python's parser opens no external entities, and expat bounds the expansion of internal ones.
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return []
    return [element for element in root.iter() if element.tag.endswith("Pixels")]


def _from_ome(xml: str) -> PixelSize:
    found = _ome_pixels(xml)
    if not found:
        return PixelSize()
    pixels, sizes = found[0], {}
    for axis in "ZYX":
        factor = MICROMETRES.get(pixels.get(f"PhysicalSize{axis}Unit", "µm").lower())
        sizes[axis.lower()] = _length(pixels.get(f"PhysicalSize{axis}"), factor)
    return PixelSize(**sizes)


def _from_imagej(page: tifffile.TiffPage, metadata: dict[str, Any]) -> PixelSize:
    unit = str(metadata.get("unit", "")).replace("\\u00B5", "µ").replace("\\u00b5", "µ").strip().lower()
    factor = MICROMETRES.get(unit)
    x, y = _pixels_per_unit(page)
    return PixelSize(
        z=_length(metadata.get("spacing"), factor),
        y=_length(1 / y if y else None, factor),
        x=_length(1 / x if x else None, factor),
    )


def _from_resolution(page: tifffile.TiffPage) -> PixelSize:
    unit = page.tags.valueof("ResolutionUnit", 1)
    factor = {2: 25400.0, 3: 10000.0}.get(int(unit))
    x, y = _pixels_per_unit(page)
    # 72 or 300 pixels per inch is what programs write for screen and paper; it says nothing about the
    # microscope.
    if factor is None or not x or not y or (int(unit) == 2 and round(x) in _PRINT_RESOLUTIONS):
        return PixelSize()
    return PixelSize(y=_length(1 / y, factor), x=_length(1 / x, factor))


def _pixels_per_unit(page: tifffile.TiffPage) -> tuple[float, float]:
    values = []
    for name in ("XResolution", "YResolution"):
        value = page.tags.valueof(name, (0, 1))
        numerator, denominator = value if isinstance(value, tuple) else (value, 1)
        values.append(numerator / denominator if denominator else 0.0)
    return values[0], values[1]


def _length(value: Any, factor: float | None) -> float | None:
    if value is None or factor is None:
        return None
    try:
        length = float(value) * factor
    except (TypeError, ValueError):
        return None
    return length if math.isfinite(length) and length > 0 else None
