"""The demo makes a model and a segmentation that can be used, and makes them only once."""

import numpy as np
import pytest
import tifffile

from segcore import demo
from segcore.jobs.store import State, list_jobs
from segcore.tracking.models import describe


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(demo, "IMAGES", 4)
    monkeypatch.setattr(demo, "SIZE", 64)
    monkeypatch.setattr(demo, "PATCHES", {"patch_size": 32, "patches_per_image": 2})
    monkeypatch.setattr(demo, "NETWORK", {"features": 4, "layers": 2})
    monkeypatch.setattr(demo, "TRAINING", {"epochs": 1})


def test_the_demo_leaves_a_registered_model_and_a_segmentation_and_reuses_them(
    small, tracked_workspace, capsys
):
    demo.run_demo(tracked_workspace)
    jobs = list_jobs(tracked_workspace)
    assert sorted((job.kind, job.state) for job in jobs) == [
        ("predict", State.FINISHED),
        ("train", State.FINISHED),
    ]
    version = describe("models:/sample-unet@champion", tracked_workspace)
    assert version.job_id == next(job.id for job in jobs if job.kind == "train")
    segmented = next(job for job in jobs if job.kind == "predict")
    labels = tifffile.imread(segmented.folder / "segmentation.tif")
    assert labels.shape == tifffile.imread(tracked_workspace.data / "sample" / "new.tif").shape
    assert set(np.unique(labels)) <= set(version.class_values)
    first = capsys.readouterr().out
    assert str(segmented.folder / "segmentation.tif") in first

    demo.run_demo(tracked_workspace)
    assert list_jobs(tracked_workspace) == jobs
    assert describe("models:/sample-unet@champion", tracked_workspace) == version
    assert capsys.readouterr().out == first
