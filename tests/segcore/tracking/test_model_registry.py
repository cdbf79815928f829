"""Versions, aliases, the way back, and the files behind a name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from tracking_runs import CARD

from segcore.data.split_file import split_folder
from segcore.errors import ConfigError, JobError, ModelError
from segcore.jobs.epochs import epoch_file, use_epoch
from segcore.jobs.journal import read_history
from segcore.jobs.store import Job, State, read_job
from segcore.models.build import build_model
from segcore.models.saved import save_weights
from segcore.tracking import models, store
from segcore.tracking.package import find_epoch_model
from segcore.workspace import Workspace

Finish = Callable[..., Job]


@pytest.fixture
def three(workspace: Workspace, finished_run: Finish) -> list[Job]:
    """Register three runs as the versions 1, 2 and 3 of `cells`."""
    jobs = [finished_run(epochs) for epochs in (1, 2, 3)]
    for job in jobs:
        models.register(job, "cells", workspace)
    return jobs


@pytest.fixture
def one(workspace: Workspace, finished_run: Finish) -> Job:
    """Register a run as version 1 of `cells`, the champion."""
    job = finished_run()
    models.register(job, "cells", workspace)
    models.set_alias("cells", "champion", 1, workspace)
    return job


def test_versions_aliases_and_the_way_back(workspace: Workspace, three: list[Job]) -> None:
    for version in (1, 3, 2):
        assert models.set_alias("cells", "champion", version, workspace).aliases == ("champion",)
    (model,) = models.list_models(workspace)
    assert [version.version for version in model.versions] == [3, 2, 1]
    assert [version.job_id for version in model.versions] == [job.id for job in reversed(three)]
    assert [version.val_dice for version in model.versions] == [0.53, 0.52, 0.51]
    assert model.versions[0].class_names == ("Background", "Membrane")
    assert model.aliases == {"champion": 2}
    assert models.rollback("cells", workspace).version == 3
    assert models.rollback("cells", workspace).version == 1
    with pytest.raises(ModelError, match="No earlier version of cells"):
        models.rollback("cells", workspace)
    assert models.describe("models:/cells@champion", workspace).version == 1
    assert models.describe("models:/cells/latest", workspace).version == 3


def test_rollback_passes_over_deleted_versions_and_knows_aliases_set_elsewhere(
    workspace: Workspace, three: list[Job]
) -> None:
    models.set_alias("cells", "champion", 1, workspace)
    models.set_alias("cells", "champion", 2, workspace)
    store.client(workspace).set_registered_model_alias("cells", "champion", "3")
    models.delete_version("cells", 2, workspace)
    assert models.rollback("cells", workspace).version == 1


def test_an_alias_can_be_removed_and_a_champion_not_deleted(workspace: Workspace, one: Job) -> None:
    with pytest.raises(ModelError, match="is its champion"):
        models.delete_version("cells", 1, workspace)
    models.remove_alias("cells", "champion", workspace)
    with pytest.raises(ModelError, match="no alias 'champion'"):
        models.remove_alias("cells", "champion", workspace)
    models.delete_version("cells", 1, workspace)
    assert models.list_models(workspace) == []


def test_registering_again_changes_nothing(workspace: Workspace, finished_run: Finish) -> None:
    job = finished_run()
    first = models.register(job, "cells", workspace)
    assert models.register(job, "cells", workspace) == first
    assert models.register(job, "other", workspace).version == 1
    assert first.run_id == read_job(job.folder).mlflow_run_id


def test_registering_survives_a_store_that_was_emptied(
    workspace: Workspace, finished_run: Finish, empty_store: os.PathLike[str]
) -> None:
    job = finished_run()
    first = models.register(job, "cells", workspace)
    moved = workspace.root.parent / "moved"
    (moved / "mlruns").mkdir(parents=True)
    shutil.copytree(workspace.root, moved / "workspace")
    shutil.copy(empty_store, moved / "mlruns" / "mlflow.db")
    other = Workspace.open(moved / "workspace")
    again = models.register(read_job(other.models / job.session / job.id), "cells", other)
    assert again.job_id == first.job_id
    assert again.run_id != first.run_id


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "-a", "ä", "a b", "x" * 101])
def test_bad_names_are_refused(workspace: Workspace, finished_run: Finish, name: str) -> None:
    with pytest.raises(ConfigError, match="is not a model name"):
        models.register(finished_run(), name, workspace)


@pytest.mark.parametrize("alias", ["", "latest", "v3", "a b", "3", "a@b"])
def test_bad_aliases_are_refused(workspace: Workspace, alias: str) -> None:
    with pytest.raises(ConfigError, match="is not an alias"):
        models.set_alias("cells", alias, 1, workspace)


def test_what_is_not_there_is_told_with_what_is(workspace: Workspace, one: Job) -> None:
    for reference, words in {
        "models:/sells@champion": "Registered models: cells",
        "models:/cells@best": r"Aliases: champion \(version 1\)",
        "models:/cells/7": "Versions: 1",
        "cells": "Write models:/name@alias",
        "models:/m-0123456789abcdef": "Write models:/name@alias",
    }.items():
        with pytest.raises(ModelError, match=words):
            models.fetch(reference, workspace)


@pytest.mark.parametrize("state", [State.FAILED, State.FINISHED])
def test_a_run_without_a_model_cannot_be_registered(
    workspace: Workspace, finished_run: Finish, start_run: Finish, state: State
) -> None:
    with pytest.raises(ModelError, match="has no model to register"):
        models.register(start_run(), "cells", workspace)
    job = finished_run(state=state)
    (job.folder / "best_model.pth").unlink()
    with pytest.raises(ModelError, match="has no model to register"):
        models.register(job, "cells", workspace)


def test_fetch_needs_no_copy_and_says_when_files_are_gone(workspace: Workspace, one: Job) -> None:
    folder = models.fetch("models:/cells/1", workspace)
    assert folder.is_relative_to(store.mlruns(workspace))
    for name in ("best_model.pth", "config.json"):
        assert (folder / name).read_bytes() == (one.folder / name).read_bytes()
    shutil.rmtree(folder)
    with pytest.raises(ModelError, match="its files were deleted"):
        models.fetch("models:/cells/1", workspace)


def test_nothing_in_a_logged_model_is_pickled(workspace: Workspace, one: Job) -> None:
    model = models.fetch("models:/cells/1", workspace).parent
    assert (model / "MLmodel").exists()
    names = [path.name for path in model.rglob("*") if path.is_file()]
    assert "pyfunc.py" in names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".joblib", ".pyc"))]
    assert [name for name in names if name.endswith(".pth")] == ["best_model.pth"]


def test_a_store_that_cannot_be_used_is_told_in_words(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.mlruns(workspace).joinpath("mlflow.db").write_text("this is no database " * 100)
    with pytest.raises(ModelError, match="MLflow") as caught:
        models.list_models(workspace)
    assert caught.value.remedy
    assert "\n" not in caught.value.message


def test_links_lead_to_the_page_of_the_run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert models.ui_url(workspace, None) is None
    assert models.ui_url(workspace, "r") == "http://127.0.0.1:5000/#/runs/r"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@mlflow.lab/x")
    assert models.ui_url(workspace, "r") == "https://mlflow.lab/x/#/runs/r"
    monkeypatch.setenv("SEGCORE_MLFLOW_URL", "http://lab/")
    assert models.ui_url(workspace, "r") == "http://lab/#/runs/r"


def keep_epoch(job: Job, number: int) -> bytes:
    """Keep other weights than the model's as an epoch, and return them."""
    network = build_model(job.config.model, CARD.channels, len(CARD.class_values))
    save_weights(network, epoch_file(job.folder, number))
    return epoch_file(job.folder, number).read_bytes()


def test_a_kept_epoch_is_a_version_of_its_own_with_its_own_scores(
    workspace: Workspace, finished_run: Finish
) -> None:
    job = finished_run(3)
    kept = keep_epoch(job, 2)
    best, second = models.register(job, "cells", workspace), models.register(job, "cells", workspace, 2)
    assert (best.version, best.epoch, best.val_dice) == (1, 3, 0.53)
    assert (second.version, second.epoch, second.val_dice) == (2, 2, 0.52)
    for _ in range(2):
        assert models.register(job, "cells", workspace, 2) == second
        assert models.register(job, "cells", workspace, 3) == best
    for version, weights in ((best, (job.folder / "best_model.pth").read_bytes()), (second, kept)):
        folder = models.fetch(version.reference, workspace)
        assert (folder / "best_model.pth").read_bytes() == weights
        assert (folder / "config.json").read_bytes() == (job.folder / "config.json").read_bytes()
    client = store.client(workspace)
    curve = client.get_metric_history(best.run_id, "val_dice")
    assert [(point.step, point.value) for point in curve] == [(1, 0.51), (2, 0.52), (3, 0.53)]
    with pytest.raises(JobError, match="Kept epochs: 2, 3"):
        models.register(job, "cells", workspace, 1)


def test_an_epoch_chosen_as_the_model_is_what_is_registered(
    workspace: Workspace, finished_run: Finish
) -> None:
    job = finished_run(3)
    first = models.register(job, "cells", workspace)
    kept = keep_epoch(job, 2)
    use_epoch(job.folder, 2)
    chosen = models.register(job, "cells", workspace)
    assert (chosen.version, chosen.epoch, chosen.val_dice) == (2, 2, 0.52)
    assert (models.fetch(chosen.reference, workspace) / "best_model.pth").read_bytes() == kept
    assert models.register(job, "cells", workspace, 3) == first


def test_an_epoch_chosen_before_mlflow_was_told_bears_its_own_name(
    workspace: Workspace, finished_run: Finish
) -> None:
    job = finished_run(3)
    kept = keep_epoch(job, 2)
    use_epoch(job.folder, 2)
    chosen, best = models.register(job, "cells", workspace), models.register(job, "cells", workspace, 3)
    assert (chosen.epoch, best.epoch) == (2, 3)
    assert (models.fetch(chosen.reference, workspace) / "best_model.pth").read_bytes() == kept
    client = store.client(workspace)
    model = find_epoch_model(client, client.get_run(chosen.run_id), 2, read_history(job.folder))
    assert model is not None
    scores = {metric.key: metric.value for metric in model.metrics}
    assert scores["val_dice"] == 0.52
    assert "best_val_dice" not in scores, "the best epoch is another model"


def test_the_split_of_the_training_goes_with_its_model(workspace: Workspace, finished_run: Finish) -> None:
    before, after = finished_run(1), finished_run(2)
    models.register(before, "cells", workspace)
    for job in (before, after):
        (job.folder / "split.json").write_text(f'{{"train": "{job.id}"}}')
    keep_epoch(after, 1)
    for epoch in (None, 1):
        models.register(after, "cells", workspace, epoch)
    for version, job in ((1, before), (2, after), (3, after)):
        folder = models.fetch(f"models:/cells/{version}", workspace)
        assert (folder / "split.json").read_bytes() == (job.folder / "split.json").read_bytes()
        assert split_folder(folder / "best_model.pth") == folder
    shutil.rmtree(after.folder)
    assert (models.fetch("models:/cells/3", workspace) / "split.json").is_file()


LOAD = """
import numpy, mlflow.pyfunc
model = mlflow.pyfunc.load_model("models:/cells@champion")
image = numpy.arange(3 * 33 * 47, dtype="uint16").reshape(3, 33, 47)
stack, plane = model.predict(image), model.predict(image[1])
assert stack.shape == image.shape and (stack[1] == plane).all()
try:
    model.predict(image[None, :2])
except Exception as error:
    print(type(error).__name__, error)
numpy.save("labels.npy", stack)
"""


def test_a_registered_model_predicts_in_a_fresh_process(workspace: Workspace, one: Job) -> None:
    folder = workspace.root.parent / "elsewhere"
    uri = store.tracking_uri(workspace)
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        cwd=folder,
        env=os.environ | store.SETTINGS | {"MLFLOW_TRACKING_URI": uri},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "DataError The array has 2 channels" in done.stdout
    assert "WARNING" not in done.stderr
    labels = np.load(folder / "labels.npy")
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {0, 255}
