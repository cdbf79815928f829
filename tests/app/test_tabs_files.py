"""Files: only the workspace, what a file is, and what deleting it loses."""

from __future__ import annotations

from pathlib import Path

import pytest
from tabs_workspace import make_result, make_run, make_services, write_stack

from app.services import Services
from app.tabs import files
from segcore.errors import DataError
from segcore.jobs.store import State


@pytest.fixture
def services(tmp_path: Path) -> Services:
    services = make_services(tmp_path)
    write_stack(services)
    return services


def full(services: Services, path: str) -> str:
    return str(services.workspace.root / path)


def test_an_image_is_described_and_can_be_downloaded_and_viewed(services: Services) -> None:
    facts, remove, folder = files.show(services, full(services, "data/images.tif"))
    assert "3 × 40 × 50" in facts
    assert "13 kB" in facts
    assert f'href="gradio_api/file={full(services, "data/images.tif")}"' in facts
    assert "?tab=viewer&amp;path=data/images.tif" in facts
    assert remove.visible
    assert not folder.visible


def test_a_broken_image_is_said_to_be_broken_and_can_still_be_deleted(services: Services) -> None:
    path = services.workspace.data / "broken <i>.tif"
    path.write_text("no image")
    facts, remove, _ = files.show(services, str(path))
    assert "broken &lt;i&gt;.tif" in facts
    assert "✗" in facts
    assert "Open in Viewer" not in facts
    assert remove.visible
    assert "✓" in files.delete(services, str(path))
    assert not path.exists()


@pytest.mark.parametrize("outside", ["/etc/passwd", "../secret.txt", ".segcore/queue.db"])
def test_nothing_outside_the_workspace_is_shown_or_deleted(services: Services, outside: str) -> None:
    path = services.workspace.root / outside
    if not path.is_absolute() or "etc" not in outside:
        path.parent.mkdir(exist_ok=True)
        path.write_text("secret")
    facts, remove, _ = files.show(services, str(path))
    assert "outside the workspace" in facts
    assert not remove.visible
    assert "outside the workspace" in files.delete(services, str(path))
    assert path.exists()


def test_deleting_says_what_is_lost(services: Services) -> None:
    run, result = make_run(services), make_result(services)
    assert "13 kB" in files.deletion_question(services, full(services, "data/images.tif"))
    question = files.deletion_question(services, str(run.folder))
    assert "training runs" in question
    assert "files" in question
    assert "can be made again" in files.deletion_question(services, full(services, result))
    with pytest.raises(DataError):
        files.deletion_question(services, full(services, "data/gone.tif"))


def test_a_folder_of_an_ended_run_can_be_deleted_but_not_that_of_an_active_one(services: Services) -> None:
    ended, active = make_run(services), make_run(services, state=State.RUNNING)
    assert files.show(services, str(ended.folder / "config.json"))[2].visible
    assert "is deleted" in files.delete(services, str(ended.folder))
    assert not ended.folder.exists()
    assert "has not ended" in files.delete(services, str(active.folder))
    assert "has not ended" in files.delete(services, str(active.folder / "config.json"))
    assert active.folder.exists()


def test_the_workspace_itself_cannot_be_deleted(services: Services) -> None:
    for name in ("", "data", "models", "results"):
        files.delete(services, full(services, name))
        assert (services.workspace.root / name).is_dir()


def test_uploads_go_to_data_and_replace_nothing(services: Services, tmp_path: Path) -> None:
    before = (services.workspace.data / "images.tif").read_bytes()
    upload = tmp_path / "images.tif"
    upload.write_bytes(b"new")
    said = files.take(services, [str(upload)])
    assert "data/images-1.tif" in said
    assert (services.workspace.data / "images.tif").read_bytes() == before
    assert (services.workspace.data / "images-1.tif").read_bytes() == b"new"
    assert "✗" in files.take(services, [str(tmp_path / "gone.tif")])


def test_our_own_files_are_not_listed_and_the_tree_is_read_again(services: Services) -> None:
    from gradio import FileExplorer

    (services.workspace.state / "queue.db").write_text("")
    run = make_run(services)
    (run.folder / ".job.lock").touch()
    for number in (0, 1):
        explorer = FileExplorer(root_dir=services.workspace.root, ignore_glob=files._hidden(services, number))
        assert [entry["name"] for entry in explorer.ls([]) or []] == ["data", "models", "results"]
        inside = [entry["name"] for entry in explorer.ls(["models", "cells", run.id]) or []]
        assert "config.json" in inside
        assert not any(name.startswith(".") for name in inside)
    assert files._hidden(services, 0) != files._hidden(services, 1)
