"""The feedback panel: what it says of a run, and where a part that is drawn goes."""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr
import pytest
from feedback_runs import FIRST, SECOND, make_watched
from tabs_workspace import make_run, make_services, write_labels, write_stack

from app import feedback
from app.region import drawn_region, slice_value
from app.services import Services
from segcore.config import DataConfig
from segcore.errors import DataError
from segcore.jobs.feedback import LARGEST, Window, wanted
from segcore.jobs.store import State

IMAGES, LABELS = "data/images.tif", "data/labels.tif"


def shown(services: Services, run: str) -> dict:
    (text,) = feedback.show(services, run)
    return json.loads(text)


def test_the_view_names_every_epoch_with_its_part(tmp_path: Path) -> None:
    services, job = make_watched(tmp_path)
    content = shown(services, job.id)
    names = [scene["name"] for scene in content["scenes"]]
    assert [(epoch, names[scene]) for epoch, scene, _ in content["shots"]] == [
        (1, "1-2-4-20-24"), (2, "1-2-4-20-24"), (3, "2-0-0-16-32"),
    ]  # fmt: skip
    assert content["scenes"][0]["what"] == "Slice 1, rows 2–21, columns 4–27 · validation slice"
    assert [name for name, _ in content["scenes"][0]["classes"]] == ["0 background", "255"]
    assert content["text"] == ""


def test_the_view_says_why_it_is_empty(tmp_path: Path) -> None:
    services = make_services(tmp_path)
    waiting = make_run(services, (), State.RUNNING)
    over = make_run(services, (0.5,), State.FINISHED)
    texts = [shown(services, run)["text"] for run in ("", waiting.id, over.id, "no-such-run")]
    assert texts[0] == feedback.EMPTY
    assert feedback.WAITING in texts[1]
    assert texts[2] == feedback.NOTHING
    assert "no-such-run" in texts[3]


def test_a_part_drawn_before_the_start_is_for_the_next_run(tmp_path: Path) -> None:
    services = make_services(tmp_path)
    write_stack(services)
    write_labels(services)
    slider, canvas, message = feedback.open_box(services, "", "", IMAGES, LABELS, "")
    assert (slider.maximum, slider.visible, message) == (2, True, "")
    assert (canvas["height"], canvas["width"]) == (40, 50)
    region, view, message = feedback.choose(services, "2,1,2,20,30", "", "", IMAGES, LABELS, "")
    assert region == "2,1,2,20,30"
    assert "slice 2, rows 1–20, columns 2–31" in message
    assert view == gr.skip()
    # It is there again when the box is opened again.
    slider, canvas, _ = feedback.open_box(services, "", region, IMAGES, LABELS, "")
    assert slider.value == 2
    assert canvas["region"] == [1, 2, 20, 30]
    assert feedback.choose(services, "", "", region, IMAGES, LABELS, "")[0] == ""


def test_a_part_drawn_during_a_run_is_for_this_run(tmp_path: Path) -> None:
    services, job = make_watched(tmp_path)
    slider, canvas, _ = feedback.open_box(services, job.id, "", "", "", "")
    assert slider.value == SECOND.plane
    assert canvas["region"] == [SECOND.row, SECOND.column, SECOND.height, SECOND.width]
    region, view, message = feedback.choose(services, FIRST.text, job.id, "", IMAGES, LABELS, "")
    assert region == gr.skip()
    assert wanted(job.folder) == FIRST.text
    assert "next epoch" in json.loads(view)["text"]
    assert "next epoch" in message


def test_a_run_that_is_over_leaves_the_choice_to_the_next(tmp_path: Path) -> None:
    services, job = make_watched(tmp_path, State.FINISHED)
    region, *_ = feedback.choose(services, "0,0,0,20,20", job.id, "", IMAGES, LABELS, "")
    assert region == "0,0,0,20,20"
    assert wanted(job.folder) is None
    slider, canvas, message = feedback.open_box(services, job.id, "", None, None, "")
    assert canvas == {}
    assert feedback.NO_IMAGES in message
    assert not slider.visible


def test_images_that_are_gone_are_told_in_words(tmp_path: Path) -> None:
    services, job = make_watched(tmp_path)
    (services.workspace.root / IMAGES).unlink()
    assert "gone" in feedback.open_box(services, job.id, "")[2]
    assert "gone" in feedback.turn(services, 1, job.id, "")[1]


def test_the_rectangle_starts_inside_the_slice(tmp_path: Path) -> None:
    services = make_services(tmp_path)
    write_stack(services)
    for region in ("", "1,30,40,500,20"):
        value = slice_value(services, DataConfig(images=IMAGES), 1, region)
        row, column, height, width = value["region"]
        assert 0 <= row <= row + height <= 40
        assert 0 <= column <= column + width <= 50
    assert value["most"] == LARGEST


@pytest.mark.parametrize("sent", ["abc", [1, 2], {"row": 1}, 5])
def test_what_the_page_sends_is_not_trusted(sent: object) -> None:
    with pytest.raises(DataError):
        drawn_region(gr.EventData(None, {"region": sent}), 0)


def test_what_was_drawn_is_what_the_training_takes() -> None:
    event = gr.EventData(None, {"region": [8, 16, 64, 96]})
    assert Window.parse(drawn_region(event, 3)) == Window(plane=3, row=8, column=16, height=64, width=96)
    assert drawn_region(gr.EventData(None, {"region": None}), 3) == ""
