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


def names(services: Services, chosen: str) -> list[str]:
    return [line["cells"][0] for line in files.look(services, chosen)[1]["rows"]]


def test_the_workspace_is_browsed_folder_by_folder_without_our_own_files(services: Services) -> None:
    (services.workspace.state / "queue.db").write_text("")
    run = make_run(services)
    (run.folder / ".job.lock").touch()
    assert names(services, "") == ["data/", "models/", "results/"]
    assert names(services, "data") == [files.UP, "images.tif"]
    assert names(services, "data/images.tif") == names(services, "data")
    inside = names(services, services.relative(run.folder))
    assert "config.json" in inside
    assert not any(name.startswith(".") and name != files.UP for name in inside)
    up = files.look(services, services.relative(run.folder))[1]["rows"][0]
    assert up["id"] == "models/cells"


def test_an_image_is_described_and_can_be_downloaded_and_viewed(services: Services) -> None:
    place, table, facts, remove = files.look(services, "data/images.tif")
    assert "data" in place
    assert table["picked"] == "data/images.tif"
    assert "3 × 40 × 50" in facts
    assert "13 kB" in facts
    assert f'href="gradio_api/file={services.workspace.data / "images.tif"}"' in facts
    assert "?tab=viewer&amp;path=data/images.tif" in facts
    assert remove.visible


def test_a_broken_image_is_said_to_be_broken_and_can_still_be_deleted(services: Services) -> None:
    path = services.workspace.data / "broken <i>.tif"
    path.write_text("no image")
    *_, facts, remove = files.look(services, "data/broken <i>.tif")
    assert "broken &lt;i&gt;.tif" in facts
    assert "✗" in facts
    assert "Open in Viewer" not in facts
    assert remove.visible
    assert files.delete(services, "data/broken <i>.tif")[1] == "data"
    assert not path.exists()


@pytest.mark.parametrize("outside", ["/etc/passwd", "../secret.txt", ".segcore/queue.db"])
def test_nothing_outside_the_workspace_is_shown_or_deleted(services: Services, outside: str) -> None:
    path = services.workspace.root / outside
    if not outside.startswith("/"):
        path.write_text("secret")
    *_, facts, remove = files.look(services, outside)
    assert "outside the workspace" in facts
    assert "secret" not in str(names(services, outside))
    assert not remove.visible
    assert "outside the workspace" in files.delete(services, outside)[0]
    assert path.exists()


def test_deleting_says_what_is_lost(services: Services) -> None:
    run, result = make_run(services), make_result(services)
    assert "13 kB" in files.deletion_question(services, "data/images.tif")
    question = files.deletion_question(services, services.relative(run.folder))
    assert "training runs" in question
    assert "files" in question
    assert "can be made again" in files.deletion_question(services, result)
    with pytest.raises(DataError):
        files.deletion_question(services, "data/gone.tif")


def test_a_folder_of_an_ended_run_can_be_deleted_but_not_that_of_an_active_one(services: Services) -> None:
    ended, active = make_run(services), make_run(services, state=State.RUNNING)
    said, chosen = files.delete(services, services.relative(ended.folder))
    assert "is deleted" in said
    assert chosen == "models/cells"
    assert not ended.folder.exists()
    for path in (active.folder, active.folder / "config.json", active.folder.parent):
        assert "has not ended" in files.delete(services, services.relative(path))[0]
    assert active.folder.exists()


def test_the_workspace_itself_cannot_be_deleted(services: Services) -> None:
    for name in ("", "data", "models", "results"):
        assert not files.look(services, name)[3].visible
        assert "✗" in files.delete(services, name)[0]
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
