"""Archives: what is unpacked or gathered lies in one new folder, safely and whole, or nothing is there."""

from __future__ import annotations

import stat
import zipfile
from pathlib import Path

import pytest

from app import archives
from segcore.errors import DataError

LIMIT = 10**6


def make_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def below(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_a_zip_becomes_a_folder_with_what_is_in_it_and_nothing_else(tmp_path: Path) -> None:
    files = {
        "cells/PosA/1.png": b"one",
        "cells/PosB/1.png": b"two",
        "__MACOSX/cells/._1.png": b"",
        "cells/.DS_Store": b"",
    }
    source = make_zip(tmp_path / "cells.zip", files)
    made = archives.unpack(source, tmp_path / "data", LIMIT)
    assert made.name == "cells"
    assert below(made) == {"PosA/1.png": b"one", "PosB/1.png": b"two"}
    again = archives.unpack(source, tmp_path / "data", LIMIT)
    assert again != made
    assert below(again) == below(made)


def test_nothing_is_written_outside_the_new_folder(tmp_path: Path) -> None:
    source = make_zip(
        tmp_path / "evil.zip", {"../../out.png": b"1", "/etc/x.png": b"2", "a/../../b.png": b"3"}
    )
    made = archives.unpack(source, tmp_path / "data", LIMIT)
    inside = sum(1 for _ in made.rglob("*.png"))
    assert inside == 3
    assert set(tmp_path.rglob("*.png")) == set(made.rglob("*.png"))


def test_links_in_a_zip_are_left_out(tmp_path: Path) -> None:
    source = tmp_path / "links.zip"
    with zipfile.ZipFile(source, "w") as archive:
        link = zipfile.ZipInfo("secret.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("a.png", b"1")
    assert below(archives.unpack(source, tmp_path / "data", LIMIT)) == {"a.png": b"1"}


@pytest.mark.parametrize("lie", [False, True])
def test_a_bomb_is_refused_and_leaves_nothing(
    tmp_path: Path, lie: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_zip(tmp_path / "bomb.zip", {"a.png": bytes(2 * LIMIT)})
    if lie:
        monkeypatch.setattr(archives, "_check", lambda *_: None)
    with pytest.raises(DataError, match="uploads are limited"):
        archives.unpack(source, tmp_path / "data", LIMIT)
    assert not (tmp_path / "data").exists() or not any((tmp_path / "data").iterdir())


def test_a_damaged_or_empty_zip_is_refused(tmp_path: Path) -> None:
    whole = make_zip(tmp_path / "whole.zip", {"a.png": bytes(range(256)) * 99})
    content = bytearray(whole.read_bytes())
    content[60:90] = bytes(30)
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(content)
    with pytest.raises(DataError, match="cannot be unpacked"):
        archives.unpack(damaged, tmp_path / "data", LIMIT)
    with pytest.raises(DataError, match="holds no files"):
        archives.unpack(make_zip(tmp_path / "empty.zip", {}), tmp_path / "data", LIMIT)


def test_rois_alone_stay_a_file(tmp_path: Path) -> None:
    rois = make_zip(tmp_path / "rois.zip", {"1.roi": b"Iout", "2.roi": b"Iout"})
    assert not archives.is_collection(rois)
    assert archives.is_collection(make_zip(tmp_path / "images.zip", {"1.png": b"", "2.png": b""}))


def test_several_files_of_one_name_are_all_kept(tmp_path: Path) -> None:
    for folder in "ab":
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "cells_1.tif").write_bytes(folder.encode())
    sources = [tmp_path / folder / "cells_1.tif" for folder in "ab"]
    made = archives.gather(sources, tmp_path / "data", LIMIT)
    assert sorted(below(made).values()) == [b"a", b"b"]
    with pytest.raises(DataError, match="2 files"):
        archives.gather(sources, tmp_path / "data", 1)
