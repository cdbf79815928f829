"""Zips: what is downloaded is what lies in the folder, and nothing else can be had."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app import zips
from segcore.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "workspace")


@pytest.fixture
def client(workspace: Workspace) -> TestClient:
    return TestClient(Starlette(routes=[zips.zip_route(workspace)]))


def test_a_folder_arrives_as_it_is(workspace: Workspace, client: TestClient) -> None:
    folder = workspace.results / "a-run" / "segmentation"
    (folder / "inner").mkdir(parents=True)
    wanted = {"one.tif": bytes(3 * zips.PART), "inner/zwei ä.tif": b"abc", "inner/chunk": b""}
    for name, content in wanted.items():
        (folder / name).write_bytes(content)
    (folder / ".hidden").write_text("no")
    (folder / "link").symlink_to(workspace.root / "secret")
    (workspace.root / "secret").write_text("no")
    answer = client.get(f"/{zips.ADDRESS}", params={"path": "results/a-run/segmentation"})
    assert answer.status_code == 200
    assert "segmentation.zip" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    assert found == {f"segmentation/{name}": content for name, content in wanted.items()}


def test_memory_does_not_grow_with_the_folder(workspace: Workspace) -> None:
    noise = np.random.default_rng(0).bytes(2**18)
    for number in range(40):
        (workspace.data / f"{number:02}.bin").write_bytes(noise)
    assert max(len(part) for part in zips.zip_parts(workspace.data)) < 3 * zips.PART


@pytest.mark.parametrize("path", ["", ".", "..", "/etc", ".segcore", "results/gone", "data/a.tif", "secret"])
def test_nothing_else_can_be_had(workspace: Workspace, client: TestClient, path: str) -> None:
    (workspace.data / "a.tif").write_text("a file")
    (workspace.root / "secret").mkdir()
    assert client.get(f"/{zips.ADDRESS}", params={"path": path}).status_code == 404


def test_who_is_not_logged_in_gets_nothing(workspace: Workspace) -> None:
    guarded = Starlette(routes=[zips.zip_route(workspace)])
    guarded.auth, guarded.auth_dependency = {"ann": "secret"}, None  # type: ignore[attr-defined]
    guarded.cookie_id, guarded.tokens = "7", {"t": "ann"}  # type: ignore[attr-defined]
    params = {"path": "data"}
    assert TestClient(guarded).get(f"/{zips.ADDRESS}", params=params).status_code == 401
    with TestClient(guarded, cookies={"access-token-7": "wrong"}) as stranger:
        assert stranger.get(f"/{zips.ADDRESS}", params=params).status_code == 401
    with TestClient(guarded, cookies={"access-token-7": "t"}) as known:
        assert known.get(f"/{zips.ADDRESS}", params=params).status_code == 200
