"""Headers that are alike: a file that is recognised by its header is described as if it had been opened."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from segcore.data import tiff
from segcore.data.open import open_source, probe
from segcore.data.tiff_header import MOST, Headers, read_header
from segcore.errors import DataError

GREY: dict[str, Any] = {"photometric": "minisblack"}
KINDS: list[tuple[tuple[int, ...], str, dict[str, Any]]] = [
    ((40, 48), "uint8", GREY),
    ((40, 48), "uint16", GREY | {"byteorder": ">"}),
    ((40, 48), "float32", GREY | {"compression": "zlib", "predictor": True}),
    ((40, 48), "uint16", GREY | {"tile": (16, 16), "compression": "zlib"}),
    ((40, 48), "uint8", GREY | {"rowsperstrip": 7, "metadata": None}),
    ((40, 48), "uint8", GREY | {"imagej": True, "resolution": (4, 4), "metadata": {"unit": "um"}}),
    ((40, 48), "uint8", GREY | {"resolution": (30000, 30000), "resolutionunit": "CENTIMETER"}),
    ((40, 48, 3), "uint8", {"photometric": "rgb"}),
    ((40, 48, 3), "uint8", {"photometric": "rgb", "compression": "zlib", "description": "two words"}),
]
UNUSUAL: list[tuple[tuple[int, ...], str, dict[str, Any]]] = [
    ((5, 40, 48), "uint8", GREY),
    ((5, 40, 48), "uint16", GREY | {"imagej": True, "metadata": {"axes": "ZYX"}}),
    ((5, 40, 48), "uint8", GREY | {"compression": "zlib", "metadata": {"axes": "ZYX"}}),
    ((40, 48), "uint8", GREY | {"bigtiff": True}),
    ((40, 48), "uint8", GREY | {"ome": True}),
]


@pytest.fixture(autouse=True)
def headers(monkeypatch: pytest.MonkeyPatch) -> Headers:
    fresh = Headers()
    monkeypatch.setattr(tiff, "_HEADERS", fresh)
    return fresh


def write(path: Path, kind: tuple[tuple[int, ...], str, dict[str, Any]], seed: int) -> np.ndarray:
    shape, dtype, options = kind
    pixels = np.random.default_rng(seed).integers(0, 200 // (seed + 1), shape).astype(dtype)
    tifffile.imwrite(path, pixels, **options)
    return pixels


def whole(source: Any) -> np.ndarray:
    return source.read((slice(None),) * len(source.axes))


@pytest.mark.parametrize("kind", KINDS + UNUSUAL)
def test_what_is_recognised_is_described_as_if_it_had_been_opened(
    kind: tuple[tuple[int, ...], str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one.tif", tmp_path / "two.tif"
    write(one, kind, 0)
    pixels = write(two, kind, 1)
    expected = probe(two)
    monkeypatch.setattr(tiff, "_HEADERS", Headers())
    probe(one)
    opened: list[Path] = []
    really = tiff._open
    monkeypatch.setattr(tiff, "_open", lambda path, axes: opened.append(path) or really(path, axes))
    source = open_source(two)
    assert probe(two) == expected
    assert bool(opened) == (kind in UNUSUAL)
    assert np.array_equal(whole(source), pixels)
    assert np.array_equal(source.read((slice(3, 9), *[slice(None)] * (len(source.axes) - 1))), pixels[3:9])


@pytest.mark.parametrize("kind", UNUSUAL[:2])
def test_a_stack_behind_one_header_is_never_taken_for_a_slice(
    kind: tuple[tuple[int, ...], str, dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "stack.tif"
    write(path, kind, 0)
    for _ in range(2):
        assert open_source(path).shape == kind[0]


def test_another_header_is_another_image(tmp_path: Path) -> None:
    path, pixels = tmp_path / "a.tif", np.zeros((40, 48), np.uint8)
    found = []
    for options in [
        {"resolution": (4, 4), "resolutionunit": "CENTIMETER"},
        {"resolution": (8, 8), "resolutionunit": "CENTIMETER"},
        {"metadata": {"axes": "YX", "note": "else"}},
    ]:
        tifffile.imwrite(path, pixels, photometric="minisblack", **options)
        found.append(probe(path).pixel_size.x)
    assert found == [2500.0, 1250.0, None]
    tifffile.imwrite(path, pixels.T, photometric="minisblack")
    assert probe(path).shape == (48, 40)
    assert open_source(path, "XY").axes == "XY"


@pytest.mark.parametrize("kind", KINDS[:5])
def test_a_file_that_is_cut_off_is_refused_although_its_header_is_known(
    kind: tuple[tuple[int, ...], str, dict[str, Any]], tmp_path: Path
) -> None:
    one, two = tmp_path / "one.tif", tmp_path / "two.tif"
    write(one, kind, 0)
    probe(one)
    content = one.read_bytes()
    header = read_header(one)
    assert header is not None
    two.write_bytes(content[: header.end - 1])
    with pytest.raises(DataError, match="cut off"):
        probe(two)


def test_what_is_no_plain_file_has_no_header_of_this_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((40, 48), np.uint8), photometric="minisblack")
    content = path.read_bytes()
    assert read_header(path) is not None
    (start,) = struct.unpack("<I", content[4:8])
    (entries,) = struct.unpack("<H", content[start : start + 2])
    behind = start + 2 + 12 * entries
    for damaged in [
        b"",
        content[:6],
        content[: start + 5],
        b"II*\0" + struct.pack("<I", len(content)) + content[8:],
        content[:8] + struct.pack("<I", 483729) + content[12:],
        content[:behind] + struct.pack("<I", 8) + content[behind + 4 :],
    ]:
        path.write_bytes(damaged)
        assert read_header(path) is None


def test_only_the_last_kinds_of_headers_are_remembered(tmp_path: Path, headers: Headers) -> None:
    path = tmp_path / "a.tif"
    for width in range(16, 16 + MOST + 3):
        tifffile.imwrite(path, np.zeros((16, width), np.uint8), photometric="minisblack")
        probe(path)
    assert len(headers._known) == MOST
