"""Zarr behind a URL reads as on disk; a server that is away or silent is told, not waited for."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest
import tifffile
import zarr

from segcore.addresses import absolute_address
from segcore.card import PixelSize
from segcore.config import DataConfig
from segcore.data import remote
from segcore.data.dataset import load_training_data
from segcore.data.open import open_source, probe
from segcore.data.source import ImageSource
from segcore.data.validate import check_data
from segcore.errors import DataError
from segcore.workspace import ALLOW_URLS, Workspace

NAMES = {"images": "raw", "labels": "labels"}
PIXELS = np.random.default_rng(0).integers(0, 60_000, (3, 40, 50), np.uint16)


class Quiet(SimpleHTTPRequestHandler):
    """Serves a folder without a word to stderr."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serve `tmp_path` and return its URL."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def write_ome(path: Path, version: int) -> None:
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    levels = [
        {
            "path": str(level),
            "coordinateTransformations": [{"type": "scale", "scale": [2.0, 0.5 * 2**level, 0.5 * 2**level]}],
        }
        for level in range(2)
    ]
    image = {"multiscales": [{"axes": axes, "datasets": levels}]}
    group = zarr.create_group(path, zarr_format=version, attributes=image if version == 2 else {"ome": image})
    for level in range(2):
        part = PIXELS[:, :: 2**level, :: 2**level]
        group.create_array(str(level), shape=part.shape, dtype=part.dtype, chunks=(1, 16, 16))[...] = part


def read_all(source: ImageSource) -> np.ndarray:
    return source.read((slice(None),) * len(source.axes))


@pytest.mark.parametrize("version", [2, 3])
def test_an_ome_zarr_on_a_server_reads_as_on_disk(server: str, tmp_path: Path, version: int) -> None:
    write_ome(tmp_path / "image.zarr", version)
    local, away = open_source(tmp_path / "image.zarr"), open_source(f"{server}/image.zarr")
    assert (away.axes, away.shape, away.dtype) == (local.axes, local.shape, local.dtype)
    assert away.pixel_size == local.pixel_size == PixelSize(z=2.0, y=0.5, x=0.5)
    assert np.array_equal(read_all(away), PIXELS)
    part = (slice(1, 2), slice(10, 30), slice(5, 49))
    assert np.array_equal(away.read(part), PIXELS[part])
    assert probe(f"{server}/image.zarr").shape == PIXELS.shape
    assert away.path.name == "image.zarr"


@pytest.mark.parametrize("version", [2, 3])
def test_a_plain_array_and_one_within_a_group_are_read(server: str, tmp_path: Path, version: int) -> None:
    group = zarr.create_group(tmp_path / "group.zarr", zarr_format=version)
    group.create_array("deep/raw", data=PIXELS)
    group.create_array("deep/labels", data=PIXELS % 3)
    assert np.array_equal(read_all(open_source(f"{server}/group.zarr/deep/raw")), PIXELS)
    assert np.array_equal(read_all(open_source(f"{server}/group.zarr::deep/labels")), PIXELS % 3)


def test_labels_and_plates_of_ome_zarr_are_named_as_in_the_folder(server: str, tmp_path: Path) -> None:
    zarr.create_group(tmp_path / "plate.zarr", zarr_format=2, attributes={"plate": {}})
    write_ome(tmp_path / "plate.zarr" / "A" / "1" / "0", 2)
    for place in (f"{server}/plate.zarr", str(tmp_path / "plate.zarr")):
        assert np.array_equal(read_all(open_source(f"{place}::A/1/0")), PIXELS)


def test_whatever_fsspec_speaks_can_be_read(tmp_path: Path) -> None:
    write_ome(tmp_path / "image.zarr", 3)
    memory = fsspec.filesystem("memory")
    for file in (tmp_path / "image.zarr").rglob("*"):
        if file.is_file():
            memory.pipe(f"/remote/{file.relative_to(tmp_path).as_posix()}", file.read_bytes())
    try:
        for url in ("memory://remote/image.zarr", f"file://{tmp_path}/image.zarr"):
            assert np.array_equal(read_all(open_source(url)), PIXELS)
            assert np.array_equal(read_all(open_source(f"{url}::1")), PIXELS[:, ::2, ::2])
    finally:
        memory.rm("/remote", recursive=True)


def test_images_on_a_server_are_trained_on_like_those_on_disk(
    server: str, tmp_path: Path, simulated: tuple[Path, Path]
) -> None:
    local = DataConfig(images=str(simulated[0]), labels=str(simulated[1]))
    group = zarr.create_group(tmp_path / "set.zarr")
    for name, path in zip(("raw", "labels"), simulated, strict=True):
        group.create_array(name, data=tifffile.imread(path))
    away = local.model_copy(update={name: f"{server}/set.zarr::{key}" for name, key in NAMES.items()})
    assert away.with_addresses(absolute_address) == away
    assert check_data(away).ok
    there, here = load_training_data(away), load_training_data(local)
    assert there.normalization == here.normalization
    for volume, same in zip(there.train, here.train, strict=True):
        everything = (slice(None),) * 3
        assert np.array_equal(volume.label_ZYX[everything], same.label_ZYX[everything])
    assert there.data_hash


def test_what_is_not_there_is_told(server: str, tmp_path: Path) -> None:
    write_ome(tmp_path / "image.zarr", 3)
    with pytest.raises(DataError, match=r"/nothing\.zarr holds no Zarr") as caught:
        open_source(f"{server}/nothing.zarr")
    assert "Check the address" in caught.value.remedy
    with pytest.raises(DataError, match=r"of \.tif files"):
        open_source(f"{server}/image.tif")
    with pytest.raises(DataError, match="cannot be opened"):
        open_source("gopher://server/image.zarr")


def test_a_server_that_is_away_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(DataError, match=f"http://127.0.0.1:{port}/image.zarr"):
        open_source(f"http://127.0.0.1:{port}/image.zarr")


def test_a_server_that_goes_away_while_it_is_read_is_told(tmp_path: Path) -> None:
    write_ome(tmp_path / "image.zarr", 3)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    source = open_source(f"http://127.0.0.1:{httpd.server_port}/image.zarr")
    httpd.shutdown()
    httpd.server_close()
    thread.join()
    with pytest.raises(DataError, match="http://") as caught:
        read_all(source)
    assert "network" in caught.value.remedy


def test_a_silent_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(DataError, match="does not answer"):
            open_source(f"http://127.0.0.1:{silent.getsockname()[1]}/image.zarr")
        assert time.monotonic() - started < 20


def test_the_app_opens_addresses_only_where_it_was_allowed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "https://server/image.zarr"
    with pytest.raises(DataError, match="is on a server"):
        workspace.address(url)
    monkeypatch.setenv(ALLOW_URLS, "1")
    assert workspace.address(url) == url
    for way_back in ("file:///etc/image.zarr", "simplecache::file:///etc/image.zarr", "memory://image.zarr"):
        with pytest.raises(DataError):
            workspace.address(way_back)
