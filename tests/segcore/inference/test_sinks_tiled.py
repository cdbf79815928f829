"""Tiled BigTIFF: every tile where it is computed to be, other readers agree, and huge files cost nothing."""

from __future__ import annotations

import errno
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from segcore.card import PixelSize
from segcore.inference import sinks, tiff_sink, tiled_tiff
from segcore.inference.sinks import SinkSpec, create_sink, result_bytes

SIZE = PixelSize(z=0.5, y=0.2, x=0.1)
TILE = 32


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "LARGE_PLANE", 0)
    monkeypatch.setattr(tiled_tiff, "TILE", TILE)


@pytest.mark.usefixtures("_small")
def test_tiles_lie_one_after_the_other_through_all_pages(tmp_path: Path) -> None:
    spec = SinkSpec("ZYX", (3, 70, 81), np.dtype("uint16"), SIZE, classes=2)
    create_sink(tmp_path / "work", spec).close()
    with tifffile.TiffFile(tmp_path / "work") as tif:
        assert tif.is_bigtiff
        assert tif.is_ome
        pages = list(tif.pages)
        assert len(pages) == 6
        assert all(page.is_tiled and page.compression == 1 for page in pages)
        offsets = [offset for page in pages for offset in page.dataoffsets]
        sizes = [size for page in pages for size in page.databytecounts]
        assert tif.filehandle.size == offsets[-1] + sizes[-1] <= result_bytes(spec)
    assert set(sizes) == {TILE * TILE * 4}
    assert len(offsets) == 6 * 3 * 3
    assert set(np.diff(offsets)) == {TILE * TILE * 4}


@pytest.mark.usefixtures("_small")
def test_beyond_the_border_of_the_image_is_0(tmp_path: Path) -> None:
    spec = SinkSpec("YX", (40, 50), np.dtype("uint8"), SIZE)
    sink = create_sink(tmp_path / "work", spec)
    sink.write(range(1), slice(0, 40), slice(0, 50), np.full((1, 40, 50), 7, np.uint8))
    sink.close()
    with tifffile.TiffFile(tmp_path / "work") as tif:
        start = tif.pages.first.dataoffsets[0]
    tiles = np.fromfile(tmp_path / "work", np.uint8, offset=start)
    assert tiles.size == 4 * TILE * TILE
    assert np.count_nonzero(tiles == 7) == 40 * 50
    assert np.count_nonzero(tiles) == 40 * 50


@pytest.mark.usefixtures("_small")
def test_another_reader_finds_the_same_pixels(tmp_path: Path) -> None:
    labels_ZYX = np.random.default_rng(0).integers(0, 256, (2, 70, 81), np.uint8)
    sink = create_sink(tmp_path / "work", SinkSpec("ZYX", labels_ZYX.shape, labels_ZYX.dtype, SIZE))
    sink.write(range(2), slice(0, 70), slice(0, 81), labels_ZYX)
    sink.close()
    with Image.open(tmp_path / "work") as picture:
        for index, labels_YX in enumerate(labels_ZYX):
            picture.seek(index)
            np.testing.assert_array_equal(np.asarray(picture), labels_YX)


def test_a_plane_of_ten_gigapixels_is_begun_without_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "")

    monkeypatch.setattr(tiff_sink, "_allocate", unsupported)  # so that the file has holes
    spec = SinkSpec("ZYX", (20, 100_000, 100_000), np.dtype("uint8"), SIZE)
    tracemalloc.start()
    sink = create_sink(tmp_path / "work", spec)
    block = np.full((1, 512, 1024), 9, np.uint8)
    sink.write(range(19, 20), slice(99_840, 100_000), slice(98_816, 99_840), block[:, :160])
    sink.close()
    assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    tracemalloc.stop()
    with tifffile.TiffFile(tmp_path / "work") as tif:
        at = tif.pages[19].dataoffsets[-2]
    tile_YX = np.fromfile(tmp_path / "work", np.uint8, 512 * 512, offset=at).reshape(512, 512)
    assert (tile_YX[:160] == 9).all()
    assert not tile_YX[160:].any()
