"""Channel files that do not fit are refused; what differs between those that do is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segcore.card import PixelSize
from segcore.data.channels import Calibrated, Chosen, Joined
from segcore.data.open import open_source
from segcore.data.source import ImageSource
from segcore.errors import DataError


def stack(
    path: Path, axes: str, *shape: int, dtype: str = "uint8", pixel: float | None = None
) -> ImageSource:
    pixels = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    resolution = {"resolution": (1 / pixel, 1 / pixel), "resolutionunit": 1} if pixel else {}
    metadata = {"axes": axes, **({"unit": "um"} if pixel else {})}
    tifffile.imwrite(path, pixels, photometric="minisblack", imagej=True, metadata=metadata, **resolution)
    return open_source(path)


def read_all(source: ImageSource) -> np.ndarray:
    return source.read((slice(None),) * len(source.axes))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_choosing_from_what_was_joined_gives_the_files_back(tmp_path: Path, chosen: list[int]) -> None:
    sources = [stack(tmp_path / "a.tif", "ZCYX", 2, 3, 9, 8), stack(tmp_path / "b.tif", "ZCYX", 2, 2, 9, 8)]
    pixels = np.concatenate([read_all(source) for source in sources], axis=1)
    found = Chosen(Joined(sources), tuple(chosen))
    assert found.shape == (2, len(chosen), 9, 8)
    assert np.array_equal(read_all(found), pixels[:, chosen])


@pytest.mark.parametrize(
    ("axes", "shape"), [("YX", (9, 7)), ("ZYX", (2, 9, 8)), ("TYX", (3, 9, 8)), ("ZCYX", (3, 2, 9, 8))]
)
def test_files_of_another_grid_are_refused(tmp_path: Path, axes: str, shape: tuple[int, ...]) -> None:
    first = stack(tmp_path / "first.tif", "TZYX", 3, 3, 9, 8)
    with pytest.raises(DataError, match=r"first\.tif is 3 × 3 × 9 × 8, TZYX, other\.tif is") as caught:
        Joined([first, stack(tmp_path / "other.tif", axes, *shape)])
    assert "one per channel" in caught.value.remedy


def test_what_differs_between_channel_files_is_told(tmp_path: Path) -> None:
    first = stack(tmp_path / "a.tif", "YX", 9, 8, pixel=0.5)
    second = stack(tmp_path / "b.tif", "YX", 9, 8, dtype="uint16", pixel=0.25)
    joined = Joined([first, second])
    assert joined.dtype == np.uint16
    assert joined.pixel_size == first.pixel_size
    told = " ".join(joined.notes)
    assert "uint8, uint16" in told
    assert "pixel size; that of a.tif counts" in told
    assert Joined([first, first]).notes == first.notes


@pytest.mark.parametrize("channels", [(3,), (0, -1), ()])
def test_a_channel_that_is_not_there_is_refused(tmp_path: Path, channels: tuple[int, ...]) -> None:
    source = stack(tmp_path / "a.tif", "CYX", 3, 9, 8)
    with pytest.raises(DataError, match=r"a\.tif has no channel .* it has 3"):
        Chosen(source, channels)


def test_a_given_pixel_size_counts_and_the_file_fills_what_it_leaves_open(tmp_path: Path) -> None:
    source = stack(tmp_path / "a.tif", "YX", 9, 8, pixel=0.5)
    assert Calibrated(source, PixelSize(z=2.0)).pixel_size == PixelSize(z=2.0, y=0.5, x=0.5)
    assert Calibrated(source, PixelSize(y=0.1, x=0.2)).pixel_size == PixelSize(y=0.1, x=0.2)
