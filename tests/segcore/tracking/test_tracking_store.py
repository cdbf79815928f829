"""Where MLflow's data lies, and that starting at once from several sides is safe."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from segcore.tracking import store
from segcore.workspace import Workspace


def test_the_embedded_store_lies_beside_the_workspace(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert store.tracking_uri(workspace) == f"sqlite:///{tmp_path}/mlruns/mlflow.db"
    root = store.artifact_root(workspace)
    assert root is not None
    assert store.local_path(root) == tmp_path / "mlruns" / "artifacts"
    monkeypatch.setenv(store.ENVIRONMENT, str(tmp_path / "other place"))
    root = store.artifact_root(workspace)
    assert root is not None
    assert store.local_path(root) == tmp_path / "other place" / "artifacts"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://lab:5000")
    assert store.tracking_uri(workspace) == "http://lab:5000"
    assert store.artifact_root(workspace) is None


def test_several_may_make_the_tables_at_once(tmp_path: Path, workspace: Workspace) -> None:
    fresh = Workspace.open(tmp_path / "fresh" / "workspace")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(store.ensure_ready, [fresh] * 4))
    (default,) = store.client(fresh).search_experiments()
    assert default.artifact_location == f"{store.artifact_root(fresh)}/0"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("https://me:secret@lab:5000/x", "https://lab:5000/x"),
        ("http://lab:5000", "http://lab:5000"),
        ("sqlite:////a/b@c/mlflow.db", "sqlite:////a/b@c/mlflow.db"),
    ],
)
def test_passwords_are_not_shown(uri: str, shown: str) -> None:
    assert store.public_uri(uri) == shown


def test_only_local_artifacts_have_a_path() -> None:
    assert store.local_path("mlflow-artifacts:/1/x") is None
    assert store.local_path("s3://bucket/x") is None
    assert store.local_path("file:///a%20b/c") == Path("/a b/c")
    assert store.local_path("/a b/c") == Path("/a b/c")


def test_the_app_can_import_it_without_mlflow_and_torch() -> None:
    code = (
        "import sys, segcore.tracking.models; "
        "sys.exit(bool({'mlflow', 'torch', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
