"""The checkpoint picker: kept epochs of a run, what they predict, and what stands in the way."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image
from tabs_workspace import make_run, make_services, write_labels, write_stack

from app import checkpoint_store, checkpoints
from app.checkpoint_store import Glance
from app.services import Services
from segcore.errors import DataError, JobError, ModelError
from segcore.jobs.epochs import epoch_file
from segcore.jobs.store import Job, State


class Oracle:
    """A process that predicts class 0 everywhere, after two waits."""

    warm = False

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def ask(self, request: Mapping[str, Any]) -> Iterator[float]:
        """Write the picture."""
        self.asked.append(dict(request))
        yield 0.0
        yield 0.7
        shape = [stop - start for start, stop in (request["rows"], request["columns"])]
        Path(request["out"]).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros(shape, np.uint8)).save(request["out"])


@pytest.fixture
def services(tmp_path: Path) -> Services:
    services = make_services(tmp_path)
    write_stack(services)
    labels = np.zeros((3, 40, 50), np.uint8)
    labels[:, :10] = 255
    tifffile.imwrite(
        services.workspace.data / "labels.tif", labels, photometric="minisblack", metadata={"axes": "ZYX"}
    )
    return services


@pytest.fixture
def oracle(services: Services, monkeypatch: pytest.MonkeyPatch) -> Oracle:
    oracle = Oracle()
    monkeypatch.setattr(services.checkpoints, "_process", oracle)
    return oracle


@pytest.fixture
def run(services: Services) -> Job:
    """Make a finished run of which the epochs 1 and 3 (the best) are there."""
    return keep(make_run(services, (0.4, 0.5, 0.6)))


def keep(job: Job) -> Job:
    epoch_file(job.folder, 1).parent.mkdir()
    epoch_file(job.folder, 1).write_bytes(b"earlier weights")
    for path in job.folder.rglob("*.pth"):
        os.utime(path, (1, 1))  # long before any prediction
    return job


def last(glances: Iterator[Glance]) -> Glance:
    return list(glances)[-1]


def text(updates: Any) -> str:
    return " ".join(str(one) for one in updates)


def test_a_glance_shows_the_image_first_and_then_how_it_differs(
    services: Services, run: Job, oracle: Oracle
) -> None:
    first, *_, final = list(services.checkpoints.glance(run.id, 1, 2))
    assert first.prediction_YX is None
    assert first.starting
    assert (first.image_CYX[0] == tifffile.imread(services.workspace.data / "images.tif")[2]).all()
    assert final.prediction_YX is not None
    assert final.differing_YX is not None
    assert final.differing_YX.sum() == 10 * 50
    assert oracle.asked[0]["weights"] == str(epoch_file(run.folder, 1))


def test_what_was_looked_at_is_kept_until_the_weights_change(
    services: Services, run: Job, oracle: Oracle
) -> None:
    for _ in range(3):
        last(services.checkpoints.glance(run.id, 3, 0))
    assert len(oracle.asked) == 1
    last(services.checkpoints.glance(run.id, 3, 1))
    assert len(oracle.asked) == 2
    (run.folder / "best_model.pth").write_bytes(b"other weights")
    os.utime(run.folder / "best_model.pth", (2**33, 2**33))
    last(services.checkpoints.glance(run.id, 3, 0))
    assert len(oracle.asked) == 3


def test_only_so_many_glances_are_kept_the_newest_ones(
    services: Services, run: Job, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_store, "MOST_FILES", 2)
    folder = run.folder / "previews" / "glances"
    for number, (epoch, plane) in enumerate([(1, 0), (1, 1), (3, 0), (3, 2)]):
        last(services.checkpoints.glance(run.id, epoch, plane))
        os.utime(folder / f"epoch-{epoch:04d}-slice-{plane:04d}.png", (1e9 + number, 1e9 + number))
    assert sorted(path.name for path in folder.iterdir()) == [
        "epoch-0003-slice-0000.png", "epoch-0003-slice-0002.png",
    ]  # fmt: skip


def test_of_a_huge_slice_the_middle_is_looked_at(
    services: Services, run: Job, oracle: Oracle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_store, "LONGEST_SIDE", 20)
    glance = last(services.checkpoints.glance(run.id, 1, 0))
    assert (oracle.asked[0]["rows"], oracle.asked[0]["columns"]) == ((10, 30), (15, 35))
    assert glance.image_CYX.shape == (1, 20, 20)
    assert "20 × 20 of 40 × 50 px" in glance.part


def test_files_outside_the_workspace_are_never_shown(
    services: Services, tmp_path: Path, oracle: Oracle
) -> None:
    secret = tmp_path / "secret.tif"
    tifffile.imwrite(secret, np.zeros((3, 8, 8), np.uint8), photometric="minisblack")
    job = keep(make_run(services, data={"images": str(secret), "labels": str(secret)}))
    with pytest.raises(DataError, match="outside the workspace"):
        last(services.checkpoints.glance(job.id, 1, 0))
    with pytest.raises(DataError, match="outside the workspace"):
        services.checkpoints.slices(job.id)
    assert oracle.asked == []


def test_without_an_annotation_nothing_differs(services: Services, run: Job, oracle: Oracle) -> None:
    (services.workspace.data / "labels.tif").unlink()
    glance = last(services.checkpoints.glance(run.id, 1, 0))
    assert glance.label_YX is None
    assert glance.differing_YX is None
    assert oracle.asked[0]["data"]["labels"] is None
    assert "differ" not in checkpoints.status_html(glance, True)


def test_labels_of_another_kind_are_told_in_words(services: Services, run: Job, oracle: Oracle) -> None:
    write_labels(services)  # with a value the model does not know
    *_, (status, _) = list(checkpoints.preview(services, run.id, "1", 0, True))
    assert "unknown values" in status


def test_the_preview_tells_how_long_it_takes(services: Services, run: Job, oracle: Oracle) -> None:
    statuses, pictures = zip(*checkpoints.preview(services, run.id, "1", 0, True), strict=True)
    assert "Starting" in statuses[0]
    assert "predicting" in pictures[0]
    assert "25.0% of the annotated pixels differ" in statuses[-1]
    assert "prediction of epoch 1" in pictures[-1]
    assert list(checkpoints.preview(services, run.id, "", 0, True)) == [("", "")]
    assert list(checkpoints.preview(services, "", "1", 0, True)) == [("", "")]


def test_differences_are_painted_only_when_asked_for(services: Services, run: Job, oracle: Oracle) -> None:
    glance = last(services.checkpoints.glance(run.id, 1, 0))
    marked, plain = checkpoints.picture_html(glance, True), checkpoints.picture_html(glance, False)
    assert marked != plain
    assert len(marked.split("data:image")) == len(plain.split("data:image")) == 4


def test_show_changes_when_there_is_something_new_and_never_raises(services: Services, run: Job) -> None:
    states = [checkpoints.show(services, run.id)]
    epoch_file(run.folder, 2).write_bytes(b"weights")
    states.append(checkpoints.show(services, run.id))
    services.checkpoints.use(run.id, 2)
    states.append(checkpoints.show(services, run.id))
    other = make_run(services, (0.4, 0.5, 0.6))
    states += [checkpoints.show(services, one) for one in (other.id, "", "no-such-run", "../..")]
    assert len({str(state) for state in states}) == len(states)
    assert checkpoints.show(services, run.id) == states[2]


def test_another_run_drops_the_choice_and_news_keep_it(services: Services, run: Job) -> None:
    of, epoch, _, table, slider, *_ = checkpoints.refresh(services, run.id, "7", "another")
    assert (of, epoch, table["picked"]) == (run.id, "", "")
    assert [row["id"] for row in table["rows"]] == ["3", "1"]
    assert slider.maximum == 2
    _, epoch, _, table, _, scores, _ = checkpoints.refresh(services, run.id, "1", run.id)
    assert epoch != ""
    assert table["picked"] == "1"
    assert "0.400" in scores
    for gone in ("", "no-such-run"):
        assert checkpoints.refresh(services, gone, "1", run.id)[1] == ""


def test_an_epoch_that_was_not_kept_is_told(services: Services, run: Job) -> None:
    box, _, table, message = checkpoints.choose(services, run.id, "2")
    assert not box.visible
    assert table["picked"] == ""
    assert "epoch 2 were not kept" in message
    assert checkpoints.choose(services, run.id, "3")[0].visible


def test_a_chosen_epoch_becomes_the_model_unless_the_run_is_at_work(services: Services, run: Job) -> None:
    assert "is the model" in checkpoints.use(services, run.id, "1")
    assert (run.folder / "best_model.pth").read_bytes() == b"earlier weights"
    assert [one.epoch for one in services.checkpoints.epochs(run.id)] == [1, 3]
    working = keep(make_run(services, (0.4, 0.5, 0.6), State.RUNNING))
    assert "running" in checkpoints.use(services, working.id, "1")
    with pytest.raises(JobError):
        services.checkpoints.use(working.id, 1)
    assert "No epoch is chosen" in checkpoints.use(services, run.id, "")


def test_an_epoch_is_registered_under_a_name(
    services: Services, run: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def register(job: Job, name: str, epoch: int | None = None) -> Any:
        asked.append((job.id, name, epoch))
        raise ModelError("The server is down.", "Start it.")

    monkeypatch.setattr(services.models, "register", register)
    said = checkpoints.register(services, run.id, "1", " cells ")
    assert "The server is down." in said
    assert asked == [(run.id, "cells", 1)]
    assert "no name" in checkpoints.register(services, run.id, "1", " ")
    assert len(asked) == 1
