"""Thinning: a picture of a large plane shows the pixels of the plane, and reads a small part of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from segcore.card import PixelSize
from segcore.data import thinning
from segcore.data.open import open_source
from segcore.data.planes import Planes
from segcore.data.source import Region
from segcore.data.thinning import Copy, pick, thinned
from segcore.inference.pyramid import build_pyramid
from segcore.inference.sinks import SinkSpec, create_sink

STEPS = (1, 2, 3, 7)


def blocky(shape: tuple[int, ...]) -> np.ndarray:
    """Return an image in which pixels less than a step apart differ little."""
    return np.indices(shape).sum(0).astype(np.uint16)


def result(folder: Path, file_format: str, image: np.ndarray) -> Path:
    """Write an image as a segmentation is written."""
    path = folder / ("large.tif" if file_format == "tiff" else "large.ome.zarr")
    spec = SinkSpec("ZYX"[-image.ndim :], image.shape, image.dtype, PixelSize(), format=file_format)
    sink = create_sink(path, spec)
    planes = image.reshape(-1, *image.shape[-2:])
    sink.write(range(len(planes)), slice(0, image.shape[-2]), slice(0, image.shape[-1]), planes)
    sink.close()
    if file_format == "ome-zarr":
        build_pyramid(path, spec, None, lambda: None)
    return path


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("kind", ["one piece", "mosaic", "compressed", "colour"])
def test_thinned_pixels_of_tiff_files_are_those_of_the_file(tmp_path: Path, kind: str, step: int) -> None:
    image = blocky((2, 70, 93))
    options: dict[str, object] = {
        "one piece": {},
        "mosaic": {"tile": (32, 16)},
        "compressed": {"tile": (32, 32), "compression": "zlib"},
        "colour": {"tile": (32, 32), "photometric": "rgb"},
    }[kind]
    if kind == "colour":
        image = np.stack([image[0]] * 3, -1)
    tifffile.imwrite(tmp_path / "a.tif", image, **({"photometric": "minisblack"} | options))
    planes = Planes(open_source(tmp_path / "a.tif"))
    last = planes.count - 1
    assert np.array_equal(thinned(planes, last, step), planes.read(last)[:, ::step, ::step])


@pytest.mark.parametrize("factors", [(2, 4), (4,)])
def test_a_tiff_with_a_pyramid_is_read_from_it(tmp_path: Path, factors: tuple[int, ...]) -> None:
    image = blocky((200, 300))
    with tifffile.TiffWriter(tmp_path / "slide.tif") as writer:
        writer.write(image, tile=(64, 64), compression="zlib", subifds=len(factors))
        for factor in factors:
            writer.write(image[::factor, ::factor], tile=(64, 64), compression="zlib", subfiletype=1)
    planes = Planes(open_source(tmp_path / "slide.tif"))
    for step in (3, 5, 9):
        found, exact = thinned(planes, 0, step)[0], image[::step, ::step]
        assert found.shape == exact.shape
        assert np.abs(found.astype(int) - exact).max() <= 2 * step


@pytest.mark.parametrize("file_format", ["tiff", "ome-zarr"])
def test_large_results_are_thinned_without_reading_them(
    tmp_path: Path, file_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = blocky((4100, 4200))
    planes = Planes(open_source(result(tmp_path, file_format, image)))
    read: list[int] = []
    monkeypatch.setattr(thinning, "BAND_BYTES", 2**20)
    monkeypatch.setattr(type(planes.source), "read", lambda self, region: read.append(1))
    for step in (3, 5):
        found, exact = thinned(planes, 0, step)[0], image[::step, ::step]
        assert found.shape == exact.shape
        assert np.abs(found.astype(int) - exact).max() <= 2 * step
    assert not read


@given(
    height=st.integers(1, 60), width=st.integers(1, 60), step=st.integers(1, 9), band=st.integers(1, 10**4)
)
def test_picked_pixels_do_not_depend_on_the_bands(height: int, width: int, step: int, band: int) -> None:
    image = blocky((2, height, width))

    def read(region: Region) -> np.ndarray:
        return image[region]

    copy = Copy("ZYX", image.shape, image.dtype, read)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(thinning, "BAND_BYTES", band)
        found = pick(copy, (slice(1, 2), slice(None), slice(None)), image.shape, step)
    assert np.array_equal(found, image[1:2, ::step, ::step])
