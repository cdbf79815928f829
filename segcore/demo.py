"""The demo: simulated cells, a small model trained on them by the ordinary job path, a segmentation."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from segcore.config import RunConfig, build_config
from segcore.data.simulate import simulate
from segcore.errors import JobError, ModelError
from segcore.jobs.journal import read_results
from segcore.jobs.store import Job, Kind, State, create_job, find_job, list_jobs
from segcore.worker.console import Console
from segcore.worker.local import run_here
from segcore.workspace import Workspace

if TYPE_CHECKING:
    from segcore.tracking.models import ModelVersion

SESSION = "sample"
MODEL = "sample-unet"
ALIAS = "champion"
REFERENCE = f"models:/{MODEL}@{ALIAS}"
IMAGES, SIZE, SEED = 24, 256, 0
PATCHES = {"patch_size": 128, "patches_per_image": 10}
NETWORK = {"features": 16}
TRAINING = {"epochs": 12, "max_minutes": 0.75}


def run_demo(workspace: Workspace) -> None:
    """Make the sample data, model and segmentation, or reuse them, and say what there is."""
    raw, labels, new = sample_data(workspace)
    version = sample_model(workspace, raw, labels)
    segmented = sample_segmentation(workspace, new, version)
    for line in _summary(workspace, version, segmented):
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def sample_data(workspace: Workspace) -> tuple[Path, Path, Path]:
    """Return images and labels to train on, and new images to segment."""
    folder = workspace.data / "sample"
    raw, labels, new = folder / "raw.tif", folder / "labels.tif", folder / "new.tif"
    if not (raw.exists() and labels.exists()):
        _tell(f"simulating {IMAGES} images …")
        simulate(folder, "3class", IMAGES, SIZE, SEED)
    if not new.exists():
        with TemporaryDirectory(dir=workspace.state) as scratch:
            other, _ = simulate(Path(scratch), "3class", max(1, IMAGES // 4), SIZE, SEED + 1)
            other.replace(new)
    return raw, labels, new


def sample_model(workspace: Workspace, raw: Path, labels: Path) -> ModelVersion:
    """Return the registered champion; train and register it if there is none."""
    from segcore.tracking.models import describe, register, set_alias

    try:
        return describe(REFERENCE, workspace)
    except ModelError:
        pass  # not there yet; if MLflow itself is the trouble, registering will say so
    job = _finished(workspace, "train", "best_model.pth")
    if job is None:
        values = {
            "session": SESSION,
            "data": {**PATCHES, "images": str(raw), "labels": str(labels)},
            "model": NETWORK,
            "training": TRAINING,
        }
        job = _run(workspace, "train", build_config(values))
    _tell(f"registering {MODEL} …")
    version = register(job, MODEL, workspace)
    return set_alias(MODEL, ALIAS, version.version, workspace)


def sample_segmentation(workspace: Workspace, new: Path, version: ModelVersion) -> Job:
    """Return a finished segmentation of the new images by this version; make it if there is none."""
    done = _finished(workspace, "predict", "segmentation.tif", version.reference)
    if done is not None:
        return done
    values = {"session": SESSION, "data": {"images": str(new)}, "inference": {"model": version.reference}}
    return _run(workspace, "predict", build_config(values))


def _finished(workspace: Workspace, kind: Kind, result: str, model: str | None = None) -> Job | None:
    for job in list_jobs(workspace, kind):
        ours = job.session == SESSION and job.state is State.FINISHED and (job.folder / result).exists()
        if ours and (model is None or job.config.inference.model == model):
            return job
    return None


def _run(workspace: Workspace, kind: Kind, config: RunConfig) -> Job:
    job = run_here(create_job(workspace, kind, config, owner="command"), workspace, Console())
    if job.state is State.CANCELLED:
        raise KeyboardInterrupt
    if job.state is not State.FINISHED:
        raise JobError(job.message, job.remedy)
    return job


def _summary(workspace: Workspace, version: ModelVersion, segmented: Job) -> list[str]:
    trained = find_job(workspace, version.job_id)
    metrics = read_results(trained)["metrics"]
    classes = ", ".join(f"{value}: {dice:.3f}" for value, dice in metrics["val_dice_per_class"].items())
    root = workspace.root
    return [
        "",
        f"sample images   {workspace.data / 'sample'}",
        f"trained model   {trained.folder}",
        f"                validation Dice {metrics['val_dice']:.3f} ({classes})",
        f"registered as   {REFERENCE} (version {version.version})",
        f"segmentation    {segmented.folder / 'segmentation.tif'}",
        "",
        "Go on with:",
        f"  segcore serve --workspace {root}",
        f"  segcore predict --workspace {root} --model {REFERENCE} --data.images IMAGES.tif",
        f"  segcore train --workspace {root} --data.images IMAGES.tif --data.labels LABELS.tif",
    ]


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
