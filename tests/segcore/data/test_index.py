"""Index: what it remembers is what the files say now; without it everything works, only slower."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile

from segcore.config import DataConfig
from segcore.data import index as module
from segcore.data.collection import open_collection
from segcore.data.index import MOST, Index, cache_folder, key_of, probe_all, recall
from segcore.data.items import list_items
from segcore.data.open import Probe, probe
from segcore.data.targets import LabelRule, table_of
from segcore.errors import DataError


def old(path: Path, seconds: int = 100) -> str:
    """Set the time stamp back, as if the file had lain there for a while."""
    stamp = path.stat().st_mtime_ns - seconds * 10**9
    os.utime(path, ns=(stamp, stamp))
    return str(path)


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    found = []
    for number in range(5):
        path = tmp_path / f"{number}.tif"
        pixels = np.zeros((number + 2, 8, 9), np.uint16)
        tifffile.imwrite(path, pixels, metadata={"axes": "ZYX"}, imagej=True)
        found.append(old(path))
    return found


def test_the_second_time_no_file_is_opened(images: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [probe(image) for image in images]
    assert probe_all(images) == expected
    monkeypatch.setattr("segcore.data.open.open_source", None)
    calls: list[tuple[int, int]] = []
    assert probe_all(images, lambda *at: calls.append(at)) == expected
    assert calls == [(5, 5)]


def test_a_file_that_changes_is_read_again(images: list[str]) -> None:
    probe_all(images)
    path = Path(images[0])
    tifffile.imwrite(path, np.zeros((3, 4), np.float32))
    old(path, 50)
    found = probe_all(images)
    assert (found[0].axes, found[0].shape, found[0].dtype) == ("YX", (3, 4), "float32")
    assert found[1:] == [probe(image) for image in images[1:]]


def test_other_axes_are_another_question(images: list[str]) -> None:
    assert probe_all(images[:1])[0].axes == "ZYX"
    assert probe_all(images[:1], axes="TYX")[0].axes == "TYX"


def test_files_that_cannot_be_read_do_not_stop_the_others(images: list[str], tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    found = probe_all([images[0], old(tmp_path / "empty.tif"), str(tmp_path / "gone.tif"), images[1]])
    assert [isinstance(one, Probe) for one in found] == [True, False, False, True]
    assert all(isinstance(one, DataError) for one in found[1:3])


@pytest.mark.parametrize("kind", ["text", "half", "folder", "other table"])
def test_a_damaged_cache_is_no_cache(kind: str, images: list[str]) -> None:
    expected = probe_all(images)
    path = Index().path
    content = path.read_bytes()
    path.unlink()
    if kind == "text":
        path.write_text("this is no database" * 1000)
    elif kind == "half":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "folder":
        path.mkdir()
    else:
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE facts (number INTEGER)")
        connection.close()
    assert probe_all(images) == expected
    assert probe_all(images) == expected


def test_content_that_is_no_json_is_made_again(images: list[str]) -> None:
    expected = probe_all(images)
    connection = sqlite3.connect(Index().path)
    with connection:
        connection.execute("UPDATE facts SET content = '{'")
    connection.close()
    assert probe_all(images) == expected


def test_without_a_place_to_write_everything_is_read(images: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert probe_all(images, index=Index(tmp_path / "file")) == [probe(image) for image in images]


def test_what_nobody_can_see_change_is_not_kept(images: list[str], tmp_path: Path) -> None:
    assert key_of("probe", [images[0]])
    Path(images[0]).touch()
    for address in (images[0], str(tmp_path), str(tmp_path / "gone.tif"), "https://server/a.zarr", "a\0b"):
        assert key_of("probe", [address]) is None


def test_keys_tell_files_arrays_kinds_and_options_apart(images: list[str]) -> None:
    keys = [
        key_of("probe", [images[0]]),
        key_of("probe", [images[1]]),
        key_of("probe", images[:2]),
        key_of("probe", [images[0] + "::a"]),
        key_of("labels", [images[0]]),
        key_of("probe", [images[0]], "ZYX"),
    ]
    assert None not in keys
    assert len(set(keys)) == len(keys)


def test_an_error_ends_everything_but_what_is_done_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 10)
    made: list[int] = []

    def make(position: int) -> int:
        if position == 25:
            raise DataError("no", "never")
        made.append(position)
        return position

    keys = [str(number) for number in range(100)]
    with pytest.raises(DataError):
        recall(keys, make)
    assert max(made) < 30
    assert len(Index().find(keys)) == 20
    made.clear()
    assert recall(keys[:25], make) == list(range(25))
    assert sorted(made) == [20, 21, 22, 23, 24]


def test_many_may_write_at_once() -> None:
    def write(number: int) -> None:
        for step in range(5):
            Index().keep({f"{number}.{step}": [number, step]})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = [f"{number}.{step}" for number in range(4) for step in range(5)]
    assert len(Index().find(keys)) == 20


def test_the_oldest_facts_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST > 100_000
    monkeypatch.setattr(module, "MOST", 10)
    times = iter(range(100))
    monkeypatch.setattr(module.time, "time", lambda: float(next(times)))
    for number in range(11):
        Index().keep({str(number): number})
    assert sorted(Index().find(map(str, range(11))).values()) == [6, 7, 8, 9, 10]


def test_the_cache_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("SEGCORE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "segcore"


@pytest.fixture
def many(tmp_path: Path) -> DataConfig:
    """Make 40 images and labels; the labels of number n hold the values 0 and n % 3 + 1."""
    for number in range(40):
        for kind in ("images", "masks"):
            path = tmp_path / kind / f"{number}.tif"
            path.parent.mkdir(exist_ok=True)
            pixels = np.zeros((16, 16), np.uint8)
            pixels[:4] = number % 3 + 1
            tifffile.imwrite(path, pixels)
            old(path)
    return DataConfig(images=str(tmp_path / "images"), labels=str(tmp_path / "masks"))


def test_a_collection_seen_before_is_opened_without_its_files(
    many: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_collection(many)
    table = table_of(first, LabelRule.of(many))
    assert table.pixels == {0: 40 * 192, 1: 14 * 64, 2: 13 * 64, 3: 13 * 64}
    monkeypatch.setattr("segcore.data.collection.open_item", None)
    second = open_collection(many)
    assert second.entries == first.entries
    assert table_of(second, LabelRule.of(many)) == table


def test_labels_that_change_are_counted_again(many: DataConfig, tmp_path: Path) -> None:
    before = table_of(open_collection(many), LabelRule.of(many))
    tifffile.imwrite(tmp_path / "masks" / "0.tif", np.full((16, 16), 9, np.uint8))
    old(tmp_path / "masks" / "0.tif", 50)
    after = table_of(open_collection(many), LabelRule.of(many))
    assert after.pixels[9] == 256
    assert after.per_plane[1:] == before.per_plane[1:]


def test_other_options_ask_again(many: DataConfig) -> None:
    table_of(open_collection(many), LabelRule.of(many))
    for change in (
        {"labels_as": "foreground"},
        {"unlabelled_value": 0},
        {"recipe": ["labels.values 0=1 1=0"]},
    ):
        data = many.model_copy(update=change)
        table = table_of(open_collection(data), LabelRule.of(data))
        assert sum(table.pixels.values()) == (40 * 64 if "unlabelled_value" in change else 40 * 256)
        assert (
            set(table.pixels)
            == {"labels_as": {0, 1}, "unlabelled_value": {1, 2, 3}, "recipe": {0, 1, 2, 3}}[
                next(iter(change))
            ]
        )


def test_thousands_of_files_are_listed_and_probed_with_progress(tmp_path: Path) -> None:
    first = tmp_path / "first.tif"
    tifffile.imwrite(first, np.zeros((4, 4), np.uint8))
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
        for number in range(2000):
            path = tmp_path / kind / f"{number}.tif"
            path.write_bytes(first.read_bytes())
            os.utime(path, (1e9, 1e9))
    data = DataConfig(images=str(tmp_path / "images"), labels=str(tmp_path / "labels"))
    images = [item.images[0] for item in list_items(data).items]
    calls: list[tuple[int, int]] = []
    found = probe_all(images, lambda *at: calls.append(at))
    assert calls == [(number, 2000) for number in range(1, 2001)]
    assert {one.shape for one in found} == {(4, 4)}
    assert probe_all(images, lambda *at: calls.append(at)) == found
    assert calls[2000:] == [(2000, 2000)]
