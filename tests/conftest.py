"""Fixtures for all tests: temporary workspaces and stores, tiny images, the shared real data."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from segcore.config import RunConfig, build_config
from segcore.data.simulate import simulate
from segcore.workspace import Workspace

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _no_litter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep whatever a test starts away from the repository's own folders and from any real server."""
    for name in (
        "MLFLOW_TRACKING_URI",
        "MLFLOW_REGISTRY_URI",
        "SEGCORE_MLFLOW_URL",
        "SEGCORE_MLRUNS",
        "SEGCORE_QUEUE_URL",
        "SEGCORE_WEBHOOK_URL",
        "SEGCORE_HOST",
        "SEGCORE_ALLOW_URLS",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SEGCORE_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("SEGCORE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Open an empty workspace; MLflow's store would lie beside it."""
    return Workspace.open(tmp_path / "workspace")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make MLflow's database with its tables once, because that takes seconds."""
    from segcore.tracking import store

    place = Workspace.open(tmp_path_factory.mktemp("store") / "workspace")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "SEGCORE_MLRUNS"):
            patch.delenv(name, raising=False)
        store.ensure_ready(place)
    return store.mlruns(place) / "mlflow.db"


@pytest.fixture
def tracked_workspace(workspace: Workspace, empty_store: Path) -> Workspace:
    """Open a workspace whose MLflow store is ready."""
    mlruns = workspace.root.parent / "mlruns"
    mlruns.mkdir()
    shutil.copy(empty_store, mlruns / "mlflow.db")
    return workspace


@pytest.fixture(scope="session")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Make six simulated images of 64 px and their labels, 0 and 1."""
    return simulate(tmp_path_factory.mktemp("simulated"), "2class", 6, 64, 0)


@pytest.fixture
def tiny_config(simulated: tuple[Path, Path]) -> RunConfig:
    """Return options of a training that takes seconds."""
    images, labels = simulated
    return build_config(
        {
            "session": "tiny",
            "data": {"images": str(images), "labels": str(labels), "patch_size": 32, "patches_per_image": 2},
            "model": {"features": 4, "layers": 2},
            "training": {"epochs": 2, "batch_size": 4},
            "hardware": {"device": "cpu"},
        }
    )


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Return a function that polls until a condition holds, and fails when it does not in time."""

    def wait(condition: Callable[[], bool], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)

    return wait


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """Return a function from the name of a shared real data set to its folder; skips where it is missing."""
    root = Path(os.environ.get("SEGCORE_TEST_DATA") or REPOSITORY.parent / "shared" / "data")

    def find(name: str) -> Path:
        folder = root / name
        if not folder.is_dir():
            reason = f"the real data set {folder} is missing (SEGCORE_TEST_DATA names the folder)"
            if os.environ.get("SEGCORE_REQUIRE_DATA"):
                pytest.fail(reason)
            pytest.skip(reason)
        return folder

    return find
