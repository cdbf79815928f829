"""The command line from data to segmentation, in real processes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tifffile

from segcore.cli import main
from segcore.jobs.journal import read_history
from segcore.jobs.store import Job, State, list_jobs, read_job
from segcore.jobs.supervisor import is_supervised
from segcore.jobs.workers import worker_alive
from segcore.workspace import Workspace

SEGCORE = [sys.executable, "-m", "segcore.cli"]
TINY = [
    *(
        "--model.features",
        "4",
        "--model.layers",
        "2",
        "--data.patch-size",
        "32",
        "--data.patches-per-image",
        "2",
    ),
    *(
        "--training.batch-size",
        "4",
        "--hardware.device",
        "cpu",
        "--hardware.precision",
        "fp32",
        "--session",
        "tiny",
    ),
]
HELD_OUT = ["--data.validation-slices", "4-5"]


@pytest.fixture
def data(simulated: tuple[Path, Path]) -> list[str]:
    return ["--data.images", str(simulated[0]), "--data.labels", str(simulated[1])]


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `segcore` in the background; what is left of it at the end of the test is killed."""
    processes: list[subprocess.Popen[str]] = []
    family: set[psutil.Process] = set()

    def begin(*words: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        process = subprocess.Popen(
            [*SEGCORE, *words], stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )
        processes.append(process)
        return process

    yield begin
    for process in processes:
        if process.poll() is None:
            family |= set(psutil.Process(process.pid).children(recursive=True))
            process.kill()
        process.communicate()
    for member in family:
        if member.is_running():
            member.kill()


def run_json(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    status = main([*words, "--json"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    answer: dict[str, Any] = json.loads(captured.out)
    return answer


def dice(prediction: np.ndarray, label: np.ndarray, value: int) -> float:
    ours, theirs = prediction == value, label == value
    return 2 * float((ours & theirs).sum()) / float(ours.sum() + theirs.sum())


def only_job(workspace: Workspace) -> Job | None:
    jobs = list_jobs(workspace)
    return jobs[0] if jobs else None


def has_epochs(workspace: Workspace, count: int = 1) -> bool:
    job = only_job(workspace)
    return job is not None and job.state is State.RUNNING and len(read_history(job.folder)) >= count


def test_train_predict_and_evaluate_agree(
    tracked_workspace: Workspace,
    data: list[str],
    simulated: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    trained = run_json(
        capsys,
        *("train", *data, *TINY, *HELD_OUT, "--training.epochs", "2", "--training.learning-rate", "2e-3"),
        *("--register", "cells", "--alias", "champion"),
    )
    metrics = trained["metrics"]
    assert set(metrics["val_dice_per_class"]) == set(metrics["val_iou_per_class"]) == {"0", "1"}
    assert trained["mlflow_run_id"]
    assert trained["seconds"] > 0
    assert trained["patches_per_second"] > 0
    assert trained["registered"]["reference"] == "models:/cells/1"

    fp32 = ["--hardware.device", "cpu", "--hardware.precision", "fp32"]
    for model in (trained["run_folder"], f"{trained['run_folder']}/best_model.pth", "models:/cells@champion"):
        found = run_json(capsys, "evaluate", "--model", model, *data, *HELD_OUT, *fp32)
        for name in ("val_dice", "val_dice_per_class", "val_iou_per_class"):
            assert found["metrics"][name] == pytest.approx(metrics[name], abs=1e-6), (model, name)

    output = tracked_workspace.root.parent / "copy" / "cells.tif"
    words = ["predict", "--model", trained["run_folder"], *data[:2], *fp32, "--output", str(output)]
    predicted = run_json(capsys, *words)
    segmentation, label = tifffile.imread(predicted["segmentation"]), tifffile.imread(simulated[1])
    assert np.array_equal(tifffile.imread(output), segmentation)
    for value in (0, 1):
        expected = metrics["val_dice_per_class"][str(value)]
        assert dice(segmentation[4:], label[4:], value) == pytest.approx(expected, abs=1e-6)
    pixels = predicted["metadata"]["class_pixels"]
    assert pixels == {str(value): int((segmentation == value).sum()) for value in (0, 1)}


def test_ctrl_c_keeps_the_best_model(
    tracked_workspace: Workspace,
    data: list[str],
    start: Callable[..., subprocess.Popen[str]],
    wait_until: Callable[..., None],
) -> None:
    process = start("train", *data, *TINY, "--training.epochs", "100000", "--json")
    wait_until(lambda: has_epochs(tracked_workspace), 120)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    answer = json.loads(out)
    assert answer["state"] == "cancelled"
    assert answer["metrics"]["val_dice"] >= 0
    assert (Path(answer["run_folder"]) / "best_model.pth").exists()
    assert "Traceback" not in err


def has_ended(pid: int) -> bool:
    """Say whether a process has ended; one whose parent is gone may wait long to be taken off the list."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_training_outlives_its_worker(
    tracked_workspace: Workspace,
    data: list[str],
    start: Callable[..., subprocess.Popen[str]],
    wait_until: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Kill the worker: the job goes on, the next one adopts it; told to end, it lets the job save itself."""
    first = start("worker")
    wait_until(lambda: worker_alive(tracked_workspace), 60)
    queued = run_json(capsys, "train", "--queue", *data, *TINY, "--training.epochs", "100000")
    folder = Path(queued["run_folder"])
    wait_until(lambda: has_epochs(tracked_workspace), 120)
    waiting = run_json(capsys, "train", "--queue", *data, *TINY, "--training.epochs", "1")
    first.kill()
    first.wait()
    epochs, pid = len(read_history(folder)), read_job(folder).pid
    wait_until(lambda: len(read_history(folder)) > epochs, 60)

    second = start("worker")
    wait_until(lambda: is_supervised(folder), 60)
    assert (read_job(folder).state, read_job(folder).pid) == (State.RUNNING, pid)
    wait_until(lambda: read_job(folder).mlflow_run_id is not None, 120)
    second.terminate()
    assert second.wait(120) == 0
    assert read_job(folder).state is State.INTERRUPTED
    assert (folder / "best_model.pth").exists()
    assert (folder / "checkpoints" / "last.pt").exists()
    wait_until(lambda: has_ended(pid), 60)
    assert read_job(Path(waiting["run_folder"])).state is State.QUEUED


def test_serve_starts_and_ends_everything(
    tracked_workspace: Workspace, start: Callable[..., subprocess.Popen[str]]
) -> None:
    ports = free_ports(2)
    server = start("serve", "--port", str(ports[0]), "--mlflow-port", str(ports[1]))
    assert server.stdout is not None
    told = [server.stdout.readline() for _ in range(4)]
    assert f":{ports[0]}" in told[0]
    assert f":{ports[1]}" in told[1]
    family = psutil.Process(server.pid).children(recursive=True)
    assert len(family) >= 3
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait(60) == 0
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []
    assert not worker_alive(tracked_workspace)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
