"""The API: a client runs the whole job without the page, and its mistakes come back in words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tifffile
from gradio_client import Client
from gradio_client.exceptions import AppError
from served_app import REPOSITORY, ServedApp

from app.api import ENDPOINTS

OPTIONS = {
    "session": "api",
    "data.patch_size": 32,
    "data.patches_per_image": 1,
    "model": {"features": 4, "layers": 2},
    "training.epochs": 2,
}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApp]:
    """Serve an empty workspace."""
    app = ServedApp(tmp_path_factory.mktemp("api") / "workspace")
    app.start()
    yield app
    app.close()


@pytest.fixture(scope="module")
def client(app: ServedApp) -> Client:
    """Connect a client; nothing is told to anybody else."""
    return Client(app.url, verbose=False, analytics_enabled=False)


def call(client: Client, name: str, **arguments: Any) -> Any:
    return client.predict(api_name=f"/{name}", **arguments)


def finished(client: Client, job: str, seconds: float = 120) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while True:
        status = call(client, "job_status", job=job)
        if status["state"] not in ("queued", "running"):
            return status
        assert time.monotonic() < deadline, status
        time.sleep(0.2)


def test_exactly_the_documented_endpoints_are_public(client: Client) -> None:
    described = client.view_api(return_format="dict", print_info=False)
    assert set(described["named_endpoints"]) == {f"/{name}" for name in ENDPOINTS}
    assert not described["unnamed_endpoints"]
    for name, endpoint in described["named_endpoints"].items():
        assert endpoint["description"], name


def test_the_whole_job(client: Client, app: ServedApp) -> None:
    sample = call(client, "sample_data")
    assert set(call(client, "list_files")) >= set(sample.values())
    report = call(client, "check_data", **sample)
    assert report["ok"]
    assert [item["value"] for item in report["classes"]] == [0, 1]
    assert report["images"]["file"].endswith(sample["images"])  # and not a copy the client has made

    job = call(client, "start_training", **sample, options=OPTIONS)
    done = finished(client, job["id"])
    assert done["state"] == "finished", done["message"]
    assert [epoch["epoch"] for epoch in done["history"]] == [1, 2]
    assert done["has_model"]
    names, *lines = call(client, "history_csv", job=job["id"]).splitlines()
    assert names.startswith("epoch,")
    assert [line.partition(",")[0] for line in lines] == ["1", "2"]

    weights = str(Path(done["run_folder"], "best_model.pth").relative_to(app.workspace))
    for model in (job["id"], weights):
        segmentation = call(client, "start_segmentation", images=sample["images"], model=model)
        result = finished(client, segmentation["id"])
        assert result["state"] == "finished", result["message"]
        written = tifffile.imread(result["segmentation"])
        assert written.shape == tifffile.imread(app.workspace / sample["images"]).shape
        assert sum(result["results"]["class_pixels"].values()) == written.size
    check_evaluations(client, app, job["id"], sample)
    listed = call(client, "list_jobs")
    assert {item["id"] for item in listed} >= {job["id"], segmentation["id"]}
    assert {item["kind"] for item in call(client, "list_jobs", kind="train")} == {"train"}


def check_evaluations(client: Client, app: ServedApp, run: str, sample: dict[str, str]) -> None:
    """Make sure that the numbers are those of the command, to the last digit."""
    paths = {name: str(app.workspace / path) for name, path in sample.items()}
    folder = str(next((app.workspace / "models").glob(f"*/{run}")))
    given = [word for name, path in paths.items() for word in (f"--data.{name}", path)]
    for arguments, words in (({"part": "validation"}, ["--part", "validation"]), (sample, given)):
        done = finished(client, call(client, "evaluate", model=run, **arguments)["id"])
        assert done["state"] == "finished", done["message"]
        assert done["evaluates"]
        command = [sys.executable, "-m", "segcore.cli", "evaluate", "--json", "--model", folder, *words]
        command += ["--workspace", str(app.workspace)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        told = json.loads(subprocess.check_output(command, cwd=REPOSITORY, env=environment))
        results = done["results"]
        assert {name: results[name] for name in told["metrics"]} == told["metrics"]
        assert [results[name] for name in ("part", "images", "slices")] == [
            told[name] for name in ("part", "images", "slices")
        ]


def test_a_job_is_stopped_and_keeps_its_model(client: Client) -> None:
    sample = call(client, "sample_data")
    job = call(client, "start_training", **sample, options={**OPTIONS, "training.epochs": 100000})
    deadline = time.monotonic() + 120
    while not call(client, "job_status", job=job["id"])["has_model"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    call(client, "stop_job", job=job["id"])
    status = finished(client, job["id"], seconds=60)
    assert status["state"] == "cancelled"
    assert status["has_model"]


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("check_data", {"images": "/etc/passwd", "labels": "/etc/passwd"}, "outside the workspace"),
        ("start_training", {"images": "data/none.tif", "labels": "data/none.tif"}, "not in the workspace"),
        ("job_status", {"job": "../../x"}, "no job"),
        ("list_jobs", {"kind": "dream"}, "no kind of job"),
        ("start_segmentation", {"images": "data/none.tif", "model": ""}, "needs a model"),
        ("evaluate", {"model": ""}, "needs a model"),
        ("evaluate", {"model": "x", "images": "data/none.tif"}, "no annotations"),
        ("evaluate", {"model": "x"}, "needs images and annotations"),
        ("evaluate", {"model": "x", "part": "best"}, "no part"),
    ],
)
def test_mistakes_come_back_in_words(
    client: Client, name: str, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(AppError) as caught:
        call(client, name, **arguments)
    assert words in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_all_mistakes_in_options_come_back_at_once(client: Client) -> None:
    sample = call(client, "sample_data")
    with pytest.raises(AppError) as caught:
        call(
            client, "start_training", **sample, options={"training.epochs": 0, "data.patch_size": 50, "x": 1}
        )
    for word in ("training.epochs", "data.patch_size", "x is not an option"):
        assert word in str(caught.value)


def test_only_data_models_and_results_are_served(app: ServedApp) -> None:
    for folder in ("data", "models", "results", ".segcore"):
        (app.workspace / folder / "probe.txt").write_text("probe")
    (app.workspace.parent / "outside.txt").write_text("outside")

    def status(path: Path) -> int:
        try:
            with urllib.request.urlopen(f"{app.url}gradio_api/file={path}") as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    assert [status(app.workspace / folder / "probe.txt") for folder in ("data", "models", "results")] == [
        200
    ] * 3
    for path in (
        app.workspace / ".segcore" / "probe.txt",
        app.workspace / "data" / ".." / ".segcore" / "probe.txt",
        app.workspace.parent / "outside.txt",
        REPOSITORY / "pyproject.toml",
        Path("/etc/passwd"),
    ):
        assert status(path) in (403, 404), path
