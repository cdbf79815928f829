"""CZI, ND2 and LIF through bioio: a real CZI, a stand-in with several scenes, and no bioio at all."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from segcore.card import PixelSize
from segcore.data import bio
from segcore.data.open import open_source
from segcore.data.source import ImageSource
from segcore.errors import DataError

PIXELS = np.random.default_rng(0).integers(0, 60_000, (2, 3, 20, 30), np.uint16)


def read_all(source: ImageSource) -> np.ndarray:
    return source.read((slice(None),) * len(source.axes))


def test_a_real_czi_reads_as_it_was_written(tmp_path: Path) -> None:
    pytest.importorskip("bioio_czi")
    czi = pytest.importorskip("pylibCZIrw.czi")
    path = tmp_path / "image.czi"
    with czi.create_czi(str(path)) as document:
        for c, z in np.ndindex(2, 3):
            document.write(data=PIXELS[c, z][..., None], plane={"C": c, "Z": z, "T": 0})
        document.write_metadata("image", scale_x=1e-7, scale_y=2e-7, scale_z=3e-7)
    source = open_source(path)
    assert source.axes == "CZYX"
    assert source.dtype == np.uint16
    found = source.pixel_size
    assert (found.z, found.y, found.x) == pytest.approx((0.3, 0.2, 0.1))
    assert np.array_equal(read_all(source), PIXELS)
    part = (slice(1, 2), slice(0, 2), slice(3, 9), slice(10, 30))
    assert np.array_equal(source.read(part), PIXELS[part])
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError) as caught:
        read_all(open_source(path))
    assert caught.value.remedy


class Scenes:
    """What bioio gives for a file of two scenes."""

    scenes = ("Position 1", "Position 2")
    dims = SimpleNamespace(order="TCZYX")
    shape = (1, *PIXELS.shape)
    dtype = PIXELS.dtype
    physical_pixel_sizes = SimpleNamespace(Z=None, Y=-0.5, X=0.5)

    def __init__(self) -> None:
        self.scene = 0

    def set_scene(self, scene: str | int) -> None:
        """Choose a scene by name or number."""
        self.scene = self.scenes.index(scene) if isinstance(scene, str) else scene

    @property
    def dask_data(self) -> Any:
        """Something that is computed when a part of it was asked for."""
        pixels = PIXELS[None] + self.scene

        class Lazy:
            def __getitem__(self, region: tuple[slice, ...]) -> Any:
                return SimpleNamespace(compute=lambda scheduler: pixels[region])

        return Lazy()


@pytest.fixture
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "image.lif"
    path.write_bytes(b"a stand-in is read")
    monkeypatch.setattr(bio, "_open", lambda path: Scenes())
    return path


def test_the_first_of_several_scenes_is_read_unless_another_is_named(scenes: Path) -> None:
    source = open_source(scenes)
    assert source.axes == "CZYX"
    assert source.pixel_size == PixelSize(y=0.5, x=0.5)
    assert "2 scenes; the first is read" in " ".join(source.notes)
    assert np.array_equal(read_all(source), PIXELS)
    for name in ("1", "Position 2"):
        second = open_source(f"{scenes}::{name}")
        assert second.notes == ()
        assert np.array_equal(read_all(second), PIXELS + 1)
    with pytest.raises(DataError, match="no scene '7'") as caught:
        open_source(f"{scenes}::7")
    assert "Position 2" in caught.value.remedy


@pytest.mark.parametrize("suffix", bio.SUFFIXES)
def test_without_bioio_the_way_to_get_it_is_told(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bioio", None)
    (tmp_path / f"image{suffix}").write_bytes(b"whatever")
    with pytest.raises(DataError, match="bioio") as caught:
        open_source(tmp_path / f"image{suffix}")
    assert "pip install segcore-studio[bio]" in caught.value.remedy


@pytest.mark.parametrize("suffix", bio.SUFFIXES)
def test_a_file_that_is_none_is_refused(suffix: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("bioio")
    (tmp_path / f"image{suffix}").write_bytes(b"no image at all" * 100)
    with pytest.raises(DataError) as caught:
        open_source(tmp_path / f"image{suffix}")
    assert f"image{suffix}" in caught.value.message
    assert caught.value.remedy
