"""Refresh of the monitor when an epoch of a long run has ended, beside reading the same from MLflow."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.series import KINDS, all_series
from app.services import Services
from app.steps import train
from benchmarks.contest import OURS, Contest, Contestant, hold
from benchmarks.material import Material
from segcore.config import RunConfig
from segcore.events import EpochEvent
from segcore.jobs.journal import FolderReporter
from segcore.jobs.store import create_job, start_job
from segcore.workspace import Workspace

TITLE = "Monitor"
PEER = "MLflow client, reading alone"
EPOCHS, CLASSES = 500, 4
SMOOTHING = 0.8


def compare(material: Material, options: dict[str, Any], *, rounds: int, seconds: float) -> Contest:
    """Measure refreshes per second with everything switched on; material and options do not matter."""
    with TemporaryDirectory() as folder:
        workspace = Workspace.open(Path(folder) / "workspace")
        history = [an_epoch(number) for number in range(1, EPOCHS + 1)]
        contestants = {OURS: ours(workspace, history), PEER: mlflow_client(Path(folder), history)}
        rates = hold(contestants, rounds=rounds, seconds=seconds)
    setting = f"{EPOCHS} epochs × {len(all_series(history))} metrics, all drawn, smoothed and listed"
    return Contest(TITLE, setting, "refreshes/s", rates)


def an_epoch(number: int) -> EpochEvent:
    """Return an epoch that reports all there is to report."""
    score = 1 - math.exp(-number / 100)
    classes = {str(value): score * (1 - 0.1 * value) for value in range(CLASSES)}
    return EpochEvent(
        epoch=number, epochs=2 * EPOCHS, train_loss=1 / number, train_dice=score, val_loss=1.5 / number,
        val_dice=score, val_dice_per_class=classes, val_iou_per_class=classes, val_predicted_share=classes,
        learning_rate=1e-3 / number, seconds=1.0, patches_per_second=100.0 + number % 7, best=True,
        loader_wait=0.02, memory=10**9, device_use=0.9, without_gain=0,
    )  # fmt: skip


def ours(workspace: Workspace, history: list[EpochEvent]) -> Contestant:
    """Return what the server does for one open page when an epoch has ended: all texts and all pictures."""
    services = Services(workspace, worker=False)
    job = create_job(workspace, "train", RunConfig(session="monitor"))
    start_job(job.folder)
    report = FolderReporter(job.folder)
    for event in history:
        report(event)

    def refresh() -> None:
        # The last epoch comes anew, so that the run stays as long as it is.
        report(history[-1])
        train.show(services, job.id)
        train.draw(services, job.id, list(KINDS), SMOOTHING, False)

    return _repeated(refresh)


def mlflow_client(folder: Path, history: list[EpochEvent]) -> Contestant:
    """Return the reading of the same numbers through MLflow's client, without drawing them."""
    import mlflow
    from mlflow.entities import Metric

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    run = client.create_run(client.create_experiment("monitor")).info.run_id
    series = all_series(history)
    for index, event in enumerate(history):
        values = [(one.key, one.values[index]) for one in series]
        client.log_batch(
            run, [Metric(key, value, 0, event.epoch) for key, value in values if value is not None]
        )

    def refresh() -> None:
        for one in series:
            assert len(client.get_metric_history(run, one.key)) == len(history)

    return _repeated(refresh)


def _repeated(action: Callable[[], None]) -> Contestant:
    def work(seconds: float) -> float:
        count, began = 0, time.monotonic()
        while count == 0 or time.monotonic() - began < seconds:
            action()
            count += 1
        return count / (time.monotonic() - began)

    return work
