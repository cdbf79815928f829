"""Runs that learn objects show their F1 where others show the Dice, and objects in colours of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tabs_workspace import epoch, make_run, make_services

from app import checkpoints, feedback, notice, watch
from app.charts import compare
from app.checkpoint_store import Glance
from app.pretrained import run_label
from app.runbook import HEADER, row
from segcore.card import ModelCard, Normalization, PixelSize
from segcore.data.colouring import COLOURS
from segcore.jobs.epochs import KeptEpoch
from segcore.jobs.feedback import Scene, Window
from segcore.jobs.journal import FolderReporter
from segcore.jobs.store import State
from segcore.postprocess.heads import describe_head

OBJECTS = {"val_f1": 0.75, "val_ap50": 0.6, "val_pq": 0.5}


@pytest.fixture
def card() -> ModelCard:
    """Describe a model that learned objects."""
    return ModelCard(
        channels=1,
        class_values=(0, 1),
        class_names=("0", "1"),
        head=describe_head("boundary", False, PixelSize(), 10.0),
        normalization=Normalization(kind="none", offset=(0.0,), scale=(1.0,)),
        axes="ZYX",
        dtype="uint8",
    )


def test_a_run_of_objects_tells_their_f1_everywhere(tmp_path: Path) -> None:
    services = make_services(tmp_path)
    job = make_run(services, (), State.RUNNING)
    FolderReporter(job.folder)(epoch(1, 0.9).model_copy(update=OBJECTS))
    view = services.job(job.id)
    assert dict(zip(HEADER, row(view), strict=True))["Best score"] == "F1 0.750"
    assert run_label(view).endswith("F1 0.750")
    assert 'data-metric="val_f1">0.75' in watch.numbers_html(view)
    assert "best: epoch 1, F1 0.750" in watch.facts_of(view)
    assert "F1 0.750" in notice.sentence(view)
    assert compare({"a": view.history, "b": [epoch(1, 0.5)]}, "val_f1").data[0].y == (0.75,)


def test_a_kept_epoch_tells_how_well_it_finds_objects() -> None:
    kept = KeptEpoch(3, Path("epoch-0003.pth"), epoch(3, 0.9).model_copy(update=OBJECTS), False, False)
    told = checkpoints.scores_html(kept)
    assert "F1 0.750, average precision 0.600, panoptic quality 0.500" in told
    plain = KeptEpoch(3, Path("epoch-0003.pth"), epoch(3, 0.9), False, False)
    assert "Objects" not in checkpoints.scores_html(plain)


def test_colours_of_objects_are_no_classes(card: ModelCard) -> None:
    label_YX = np.array([[-1, 0, 1, 1, 2, 0]], np.int16)
    prediction_YX = np.array([[3, 0, 4, 4, 0, 5]], np.uint8)
    glance = Glance(1, 0, "slice 0", np.zeros((1, 1, 6), np.uint8), label_YX, prediction_YX, card, "", "")
    assert glance.differing_YX is not None
    assert glance.differing_YX.tolist() == [[False, False, False, False, True, True]]
    assert "each in a colour of its own" in checkpoints.picture_html(glance, mark=True)


def test_the_feedback_has_a_colour_for_each_value_and_one_line_for_all() -> None:
    scene = Scene(
        window=Window.parse("0,0,0,16,16"), class_values=(0, 1), class_names=("0", "1"), trained=False,
        objects=True,
    )  # fmt: skip
    lines = feedback.class_lines(scene)
    assert len(lines) == COLOURS + 1
    assert [name for name, _ in lines if name] == ["background", "objects, each in a colour of its own"]
    assert len({colour for _, colour in lines}) == COLOURS + 1
