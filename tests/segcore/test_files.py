"""Files are whole or not there; a hash tells every byte of every file."""

from __future__ import annotations

from pathlib import Path

import pytest

from segcore.files import atomic_path, remove_leftovers, sha256


def test_a_failure_leaves_the_file_as_it_was_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_text("before")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_the_hash_depends_on_every_file(tmp_path: Path) -> None:
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.write_bytes(b"1")
    labels.write_bytes(b"2")
    before = sha256(images, labels)
    assert before != sha256(images)
    labels.write_bytes(b"3")
    assert before != sha256(images, labels)


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    left = tmp_path / "checkpoints" / ".last.pt.4711.part"
    kept = tmp_path / "checkpoints" / "last.pt"
    kept.parent.mkdir()
    left.touch()
    kept.touch()
    remove_leftovers(tmp_path)
    assert list(kept.parent.iterdir()) == [kept]


def test_the_hash_of_a_folder_depends_on_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "image.zarr"
    (folder / "c").mkdir(parents=True)
    (folder / "c" / "0").write_bytes(b"1")
    before = sha256(folder)
    assert sha256(folder) == before
    (folder / "c" / "0").rename(folder / "c" / "1")
    renamed = sha256(folder)
    (folder / "c" / "1").write_bytes(b"2")
    assert len({before, renamed, sha256(folder)}) == 3
