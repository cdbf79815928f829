"""What an OME-Zarr 0.5 image says of itself, and its empty levels: https://ngff.openmicroscopy.org/0.5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from segcore.files import sync_file, sync_folder
from segcore.inference.sink_spec import SinkSpec

SMALLEST_LEVEL = 1024
"""Rows and columns of a level of the pyramid, px, at or below which no smaller one follows."""
_ORDER = "TCZYX"
_FILE_BYTES = 2 * 4096
"""Bytes that a chunk's file takes beyond its pixels at most: header, and the disk's last block."""


def create_zarr(path: Path, spec: SinkSpec) -> None:
    """Make the folder with the description of the image and of all levels of its pyramid, all 0.

    Axes are in the order TCZYX, sizes in µm where they are known.

    Raises
    ------
    OSError
        The disk is full, or the like.
    """
    import zarr
    from zarr.codecs import BloscCodec

    order = stored_order(spec)
    compressor = BloscCodec(cname="zstd", clevel=1, shuffle="bitshuffle")
    group = zarr.create_group(str(path), zarr_format=3, attributes={"ome": describe(spec)})
    for number, shape in enumerate(level_shapes(spec)):
        chunks = chunk_shape(spec, shape)
        group.create_array(
            str(number),
            shape=[shape[axis] for axis in order],
            chunks=tuple(chunks[axis] for axis in order),
            dtype=spec.stored_dtype,
            compressors=compressor,
            fill_value=0,
            dimension_names=[spec.stored_axes[axis].lower() for axis in order],
            config={"write_empty_chunks": False},
        )
        for file in (path / str(number)).iterdir():
            sync_file(file)
        sync_folder(path / str(number))
    sync_file(path / "zarr.json")
    sync_folder(path)


def describe(spec: SinkSpec) -> dict[str, Any]:
    """Return what the attribute `ome` says: axes, levels with the size of their pixels, and of labels that.

    Levels of labels keep every second pixel, whose centre stays where it was; those of probabilities are
    means, whose centre moves by half a pixel of the finer level.
    """
    order = stored_order(spec)
    axes = [spec.stored_axes[axis] for axis in order]
    sizes = {"Z": spec.pixel_size.z, "Y": spec.pixel_size.y, "X": spec.pixel_size.x}
    levels: list[dict[str, Any]] = []
    for number in range(len(level_shapes(spec))):
        factors = {"Y": 2.0**number, "X": 2.0**number}
        scale = [(sizes.get(axis) or 1.0) * factors.get(axis, 1.0) for axis in axes]
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if number and spec.classes:
            shift = [(sizes.get(axis) or 1.0) * (factors.get(axis, 1.0) - 1) / 2 for axis in axes]
            steps.append({"type": "translation", "translation": shift})
        levels.append({"path": str(number), "coordinateTransformations": steps})
    image = {
        "name": "probabilities" if spec.classes else "segmentation",
        "type": "mean" if spec.classes else "nearest",
        "axes": [_axis(axis, sizes.get(axis)) for axis in axes],
        "datasets": levels,
    }
    described: dict[str, Any] = {"version": "0.5", "multiscales": [image]}
    return described if spec.classes else described | {"image-label": _image_label(spec)}


def zarr_bytes(spec: SinkSpec) -> int:
    """Return the disk space at most: pixels that cannot be compressed, and a file for every chunk."""
    total = 2**16
    for shape in level_shapes(spec):
        chunks = chunk_shape(spec, shape)
        counts = [-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True)]
        pixels = int(np.prod(shape, dtype=np.int64)) * spec.stored_dtype.itemsize
        total += pixels + int(np.prod(counts, dtype=np.int64)) * _FILE_BYTES
    return total


def level_shapes(spec: SinkSpec) -> list[tuple[int, ...]]:
    """Return the shape of every level: rows and columns halved, rounded up, while one is above 1024 px."""
    shapes = [spec.stored_shape]
    while max(shapes[-1][-2:]) > SMALLEST_LEVEL:
        *outer, height, width = shapes[-1]
        shapes.append((*outer, -(-height // 2), -(-width // 2)))
    return shapes


def chunk_shape(spec: SinkSpec, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the chunk of a level: `spec.chunk`, one class, and one of all axes before the planes'."""
    sizes = dict(zip(spec.axes[-3:], spec.chunk[-len(spec.axes[-3:]) :], strict=True))
    wanted = [sizes.get(axis, 1) for axis in spec.stored_axes]
    return tuple(min(size, chunk) for size, chunk in zip(shape, wanted, strict=True))


def stored_order(spec: SinkSpec) -> list[int]:
    """Return the positions of `spec.stored_axes` in the order of the file: time, channel, space."""
    return sorted(range(len(spec.stored_axes)), key=lambda axis: _ORDER.index(spec.stored_axes[axis]))


def _axis(axis: str, size: float | None) -> dict[str, str]:
    kind = {"T": "time", "C": "channel"}.get(axis, "space")
    unit = {"unit": "micrometer"} if size else {}
    return {"name": axis.lower(), "type": kind} | unit


def _image_label(spec: SinkSpec) -> dict[str, Any]:
    if not spec.names:
        return {"version": "0.5"}
    named = [{"label-value": value, "class": name} for value, name in spec.names]
    return {"version": "0.5", "properties": named}
