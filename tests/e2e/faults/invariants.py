"""What must hold of a run folder, whatever was killed while it was written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from segcore.events import EpochEvent
from segcore.jobs.journal import read_events, read_history
from segcore.jobs.store import Job

TIMES = {"time", "seconds", "patches_per_second", "loader_wait", "memory", "device_use"}
"""What differs between two runs that do the same."""


def curve(folder: Path) -> list[dict[str, Any]]:
    """Return the metrics of every epoch, without what depends on the clock."""
    return [event.model_dump(exclude=TIMES) for event in read_history(folder)]


def check_files(job: Job) -> None:
    """Fail if a file of the run folder is half-written or a temporary one was left."""
    for path in job.folder.rglob("*"):
        assert not path.name.endswith(".part"), f"{path} was left behind"
        if path.suffix == ".json":
            json.loads(path.read_text("utf-8"))
        elif path.suffix in (".pth", ".pt"):
            torch.load(path, map_location="cpu", weights_only=True)
        elif path.suffix in (".tif", ".png") and path.stat().st_size == 0:
            raise AssertionError(f"{path} is empty")


def check_training(job: Job, epochs: int, reference: Job) -> None:
    """Fail unless curves and model are those of a training that nobody disturbed."""
    check_files(job)
    assert [event.epoch for event in read_history(job.folder)] == list(range(1, epochs + 1))
    assert curve(job.folder) == curve(reference.folder)
    results = json.loads((job.folder / "results.json").read_text())
    assert [row["epoch"] for row in results["history"]] == list(range(1, epochs + 1))
    for name in ("best_model.pth", "checkpoints/last.pt"):
        assert _equal(_load(job.folder / name), _load(reference.folder / name)), f"{name} differs"


def check_segmentation(job: Job, reference: Job) -> None:
    """Fail unless the segmentation is that of a job that nobody disturbed."""
    check_files(job)
    ours = tifffile.imread(job.folder / "segmentation.tif")
    np.testing.assert_array_equal(ours, tifffile.imread(reference.folder / "segmentation.tif"))


def reported_epochs(job: Job) -> int:
    """Return how many epochs were reported, those that were done again counted again."""
    return sum(isinstance(event, EpochEvent) for event in read_events(job.folder))


def _load(path: Path) -> Any:
    content = torch.load(path, map_location="cpu", weights_only=True)
    if path.suffix == ".pt":  # the clock and the history's times are no part of the state
        content.pop("seconds", None)
        content.pop("history", None)
    return content


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, torch.Tensor):
        return isinstance(theirs, torch.Tensor) and torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return ours.keys() == theirs.keys() and all(_equal(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(_equal(a, b) for a, b in zip(ours, theirs, strict=True))
    return bool(ours == theirs)
