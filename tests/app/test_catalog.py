"""Catalog: everything that can be chosen is offered once, long folders as a whole, nothing of ours."""

from __future__ import annotations

from pathlib import Path

from app import catalog


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_files_folders_and_zarrs_are_offered_and_nothing_hidden(tmp_path: Path) -> None:
    touch(
        tmp_path, "data/raw.TIF", "data/set/a.png", "data/set/b.png", "data/set/notes.txt", "data/.x/c.png",
        "data/volume.zarr/zarr.json", "data/volume.zarr/0/c/0.png", "models/run/1.png", ".segcore/a.tif",
    )  # fmt: skip
    offered = [path for _, path in catalog.choices(tmp_path)]
    assert offered == ["data/raw.TIF", "data/set", "data/set/a.png", "data/set/b.png", "data/volume.zarr"]


def test_a_long_folder_is_one_entry_and_a_folder_of_positions_too(tmp_path: Path) -> None:
    touch(tmp_path, *(f"data/set/Pos{place}/{number}.tif" for place in range(3) for number in range(50)))
    entries = {path: text for text, path in catalog.choices(tmp_path)}
    assert list(entries) == ["data/set", "data/set/Pos0", "data/set/Pos1", "data/set/Pos2"]
    assert "50 files" in entries["data/set/Pos1"]
    assert "3 folders" in entries["data/set"]


def test_a_link_out_of_the_workspace_is_not_followed(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.png", "elsewhere/b.png", "root/data/c.png")
    (tmp_path / "root/data/out").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert [path for _, path in catalog.choices(tmp_path / "root")] == ["data/c.png"]
