"""Opening images: metadata, axes, and files that are not what they should be."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segcore.card import PixelSize
from segcore.data.open import open_source
from segcore.data.source import ImageSource
from segcore.errors import DataError

STORED: dict[str, dict[str, Any]] = {
    "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "ome-tiled-zlib": {"ome": True, "tile": (16, 16), "compression": "zlib", "metadata": {"axes": "ZYX"}},
    "plain-zlib": {"compression": "zlib"},
    "unnamed": {"metadata": None},
    "big": {"bigtiff": True, "metadata": None, "compression": "zlib"},
}


def read_all(source: ImageSource) -> np.ndarray:
    return source.read((slice(None),) * len(source.axes))


def noise(*shape: int, dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, shape).astype(dtype)


def write(path: Path, pixels: np.ndarray, **options: Any) -> Path:
    tifffile.imwrite(path, pixels, photometric=options.pop("photometric", "minisblack"), **options)
    return path


@pytest.mark.parametrize("stored", STORED)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_cut_off_anywhere_is_refused_when_opened(tmp_path: Path, stored: str, data: Any) -> None:
    pixels = noise(4, 40, 50)
    content = write(tmp_path / "whole.tif", pixels, **STORED[stored]).read_bytes()
    cut = tmp_path / "cut.tif"
    cut.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    try:
        source = open_source(cut)
    except DataError as error:
        refusal = error
    else:
        # What is lost may be of no use to us: the resolution of a later page.
        assert np.array_equal(read_all(source), pixels)
        return
    assert str(cut) in refusal.message
    assert refusal.remedy


@pytest.mark.parametrize("stored", STORED)
def test_a_file_cut_off_in_its_pixels_is_refused_when_opened(tmp_path: Path, stored: str) -> None:
    content = write(tmp_path / "whole.tif", noise(4, 40, 50), **STORED[stored]).read_bytes()
    for share in (0.2, 0.5, 0.8, 0.9):
        cut = tmp_path / "cut.tif"
        cut.write_bytes(content[: int(share * len(content))])
        with pytest.raises(DataError, match=r"is cut off: .*\d"):
            open_source(cut)


@pytest.mark.parametrize("stored", STORED)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_but_never_crashes(tmp_path: Path, stored: str, data: Any) -> None:
    path = write(tmp_path / "whole.tif", noise(2, 20, 20), **STORED[stored])
    content = bytearray(path.read_bytes())
    for _ in range(4):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    with contextlib.suppress(DataError):
        source = open_source(path)
        if np.prod(source.shape) < 10**7:
            assert read_all(source).shape == source.shape


def test_a_single_page_that_lost_its_last_byte_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "image.tif", noise(40, 50), metadata=None)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="its pixels need"):
        open_source(path)


def test_a_file_that_lost_the_end_of_its_description_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "image.ome.tif", noise(4, 40, 50), **STORED["ome-tiled-zlib"])
    path.write_bytes(path.read_bytes()[:-9])  # tifffile puts the OME description last
    with pytest.raises(DataError, match="points beyond"):
        open_source(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "empty"),
        (b"Dear colleague, here are the labels.\n", "a text file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "a PNG image"),
        (b"\x93\x01\x02" + bytes(range(128, 250)), "unknown format"),
        (b"II*\x00", "cut off"),
        (b"II*\x00\x00\x00\x00\x00", "no image"),
    ],
)
def test_a_file_that_is_no_tiff_is_called_what_it_is(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "image.tif"
    path.write_bytes(content)
    with pytest.raises(DataError, match=told) as caught:
        open_source(path)
    assert caught.value.remedy


def test_missing_files_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_source(tmp_path / "nothing.tif")
    with pytest.raises(DataError, match="is a folder"):
        open_source(tmp_path)
    os.mkfifo(tmp_path / "pipe.tif")
    with pytest.raises(DataError, match="is not a file"):
        open_source(tmp_path / "pipe.tif")
    with pytest.raises(DataError, match="cannot be read"):
        open_source(tmp_path / ("long" * 100 + ".tif"))


def test_pages_that_form_a_circle_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "circle.tif", noise(8, 8), metadata=None)
    with tifffile.TiffFile(path) as tif:
        entries = len(tif.pages[0].tags)
        offset = tif.pages[0].offset
    content = bytearray(path.read_bytes())
    end = offset + 2 + 12 * entries
    content[end : end + 4] = offset.to_bytes(4, "little")
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="circle"):
        open_source(path)


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "complex.tif", np.ones((8, 8), np.complex64))
    with pytest.raises(DataError, match="complex64"):
        open_source(path)


def test_an_image_of_several_files_reads_nothing_outside(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    write(tmp_path / "elsewhere" / "secret.tif", noise(16, 16))
    xml = tifffile.OmeXml()
    xml.addimage("uint16", (2, 16, 16), (2, 1, 1, 16, 16, 1), axes="ZYX")
    here = '<TiffData FirstZ="0" IFD="0" PlaneCount="1"/>'
    there = '<TiffData FirstZ="1" IFD="0"><UUID FileName="elsewhere/secret.tif">urn:uuid:1</UUID></TiffData>'
    text = xml.tostring().replace('<TiffData IFD="0" PlaneCount="2"/>', here + there)
    assert "secret.tif" in text
    path = write(tmp_path / "first.ome.tif", noise(16, 16), description=text, metadata=None)
    source = open_source(path)
    assert source.shape == (16, 16)
    assert any("several files" in note for note in source.notes)


def test_a_file_replaced_by_a_shorter_one_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "image.tif", noise(4, 40, 50), imagej=True)
    source = open_source(path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match="cannot be read"):
        read_all(source)


def test_the_log_of_the_reader_stays_out_of_sight(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "image.tif", noise(4, 40, 50), imagej=True)
    path.write_bytes(path.read_bytes()[:5000])
    with caplog.at_level(logging.DEBUG), pytest.raises(DataError):
        open_source(path)
    assert caplog.records == []
    logging.getLogger("tifffile").warning("others are still heard")
    assert len(caplog.records) == 1


def test_given_axes_rule_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "image.tif", noise(5, 16, 18))
    assert open_source(path).axes == "ZYX"
    assert open_source(path, "cyx").axes == "CYX"
    assert open_source(path, "CYX").notes == ()
    with pytest.raises(DataError, match="5 × 16 × 18"):
        open_source(path, "YX")
    with pytest.raises(DataError, match="5 × 16 × 18"):
        open_source(path, "TZYX")


def test_axes_of_size_one_are_dropped_and_may_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "image.tif", noise(1, 5, 1, 16, 18), metadata={"axes": "TZCYX"})
    assert (open_source(path).axes, open_source(path).shape) == ("ZYX", (5, 16, 18))
    assert open_source(path, "CZTYX").axes == "ZYX"
    assert open_source(path, "TYX").axes == "TYX"


def test_a_palette_image_gives_its_indices(tmp_path: Path) -> None:
    pixels = noise(16, 18, dtype="uint8")
    path = write(
        tmp_path / "image.tif", pixels, photometric="palette", colormap=np.zeros((3, 256), np.uint16)
    )
    source = open_source(path)
    assert np.array_equal(read_all(source), pixels)
    assert any("palette" in note for note in source.notes)


def test_the_first_of_several_images_is_read_and_told(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(noise(16, 18), photometric="minisblack")
        writer.write(noise(8, 9), photometric="minisblack")
    source = open_source(path)
    assert source.shape == (16, 18)
    assert any("2 images" in note for note in source.notes)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            {"imagej": True, "resolution": (4, 2), "metadata": {"axes": "ZYX", "spacing": 1.5, "unit": "um"}},
            PixelSize(z=1.5, y=0.5, x=0.25),
        ),
        (
            {"imagej": True, "resolution": (2, 2), "metadata": {"axes": "ZYX", "spacing": 50, "unit": "nm"}},
            PixelSize(z=0.05, y=0.0005, x=0.0005),
        ),
        ({"imagej": True, "metadata": {"axes": "ZYX"}}, PixelSize()),
        (
            {
                "ome": True,
                "metadata": {
                    "axes": "ZYX", "PhysicalSizeX": 325, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.3,
                    "PhysicalSizeZ": 2,
                },
            },
            PixelSize(z=2, y=0.3, x=0.325),
        ),
        ({"resolution": (20000, 10000), "resolutionunit": "CENTIMETER"}, PixelSize(y=1.0, x=0.5)),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, PixelSize()),
        ({}, PixelSize()),
    ],
)  # fmt: skip
def test_pixel_size_is_read_in_micrometres(
    tmp_path: Path, options: dict[str, Any], expected: PixelSize
) -> None:
    found = open_source(write(tmp_path / "image.tif", noise(3, 16, 18), **options)).pixel_size
    for axis in "zyx":
        wanted = getattr(expected, axis)
        assert getattr(found, axis) == (None if wanted is None else pytest.approx(wanted, rel=1e-5))
    assert found.unit == "µm"
