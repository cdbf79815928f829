"""Controls: the buttons offer exactly what can be done with a job, and say what it costs before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from tabs_workspace import make_result, make_run, make_services

from app import controls
from app.services import Services
from segcore.errors import JobError
from segcore.events import Request
from segcore.jobs.store import Job, State, ask, create_job

NAMES = ("resume", "pause", "stop", "discard")


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return make_services(tmp_path)


def offered(updates: list[Any]) -> set[str]:
    return {name for name, button in zip(NAMES, updates[:4], strict=True) if button.visible}


def buttons(services: Services, job: Job) -> set[str]:
    return offered(controls.updates(services.job(job.id)))


def keep_checkpoint(job: Job) -> None:
    (job.folder / "checkpoints").mkdir()
    (job.folder / "checkpoints" / "last.pt").write_bytes(b"state")


def test_every_state_of_a_training_offers_what_makes_sense(services: Services) -> None:
    assert offered(controls.updates(None)) == set()
    expected = {
        State.QUEUED: {"pause", "discard"},
        State.RUNNING: {"pause", "stop", "discard"},
        State.PAUSED: {"resume", "discard"},
        State.INTERRUPTED: {"resume", "discard"},
        State.FAILED: {"discard"},
        State.CANCELLED: {"discard"},
        State.FINISHED: set(),
        State.DISCARDED: set(),
    }
    assert {state: buttons(services, make_run(services, state=state)) for state in expected} == expected


def test_with_a_checkpoint_a_run_can_go_on_or_be_completed(services: Services) -> None:
    expected = {
        State.PAUSED: {"resume", "stop", "discard"},
        State.FAILED: {"resume", "discard"},
        State.CANCELLED: {"resume", "discard"},
        State.FINISHED: set(),
    }
    for state, names in expected.items():
        job = make_run(services, state=state)
        keep_checkpoint(job)
        assert buttons(services, job) == names


def test_who_resumed_is_told_so_until_it_runs(services: Services) -> None:
    job = make_run(services, state=State.PAUSED)
    keep_checkpoint(job)
    assert controls.updates(services.job(job.id))[4] == ""
    services.control.resume(job.id)
    assert "as soon as a device is free" in controls.updates(services.job(job.id))[4]


def test_half_a_segmentation_is_not_kept(services: Services) -> None:
    config = services.job(make_run(services).id).config
    job = create_job(services.workspace, "predict", config)
    assert buttons(services, job) == {"pause", "discard"}


@pytest.mark.parametrize(
    ("request_", "left", "word"),
    [
        (Request.PAUSE, {"stop", "discard"}, "Pausing"),
        (Request.STOP, {"discard"}, "Stopping"),
        (Request.DISCARD, set(), "Discarding"),
    ],
)
def test_a_request_is_acknowledged_until_it_is_obeyed(
    services: Services, request_: Request, left: set[str], word: str
) -> None:
    job = make_run(services, state=State.RUNNING)
    ask(job.folder, request_)
    updates = controls.updates(services.job(job.id))
    assert offered(updates) == left
    assert word in updates[4]
    # A question that has no answer any more goes away; one that has is left alone.
    closed = [box != gr.skip() for box in updates[5:]]
    assert closed == ["stop" not in left, "discard" not in left]


def test_the_questions_say_what_is_lost(services: Services) -> None:
    def questions(job: Job) -> tuple[str, str]:
        view = services.job(job.id)
        return controls.stop_question(view), controls.discard_question(view)

    stop, discard = questions(make_run(services, (0.4, 0.7), State.RUNNING))
    assert "still to come are lost" in stop
    assert "epoch 2, Dice 0.700" in stop
    assert "model (best Dice 0.700), checkpoints and previews are deleted for good" in discard
    stop, discard = questions(make_run(services, (), State.QUEUED))
    assert "nothing is lost" in discard
    assert "No epoch" in stop
    finished = services.job(make_run(services).id)
    for question in (controls.stop_question, controls.discard_question):
        with pytest.raises(JobError, match="finished"):
            question(finished)


def test_discarding_a_segmentation_leaves_images_and_model(services: Services) -> None:
    path = Path(make_result(services)).parent
    view = services.job(path.name)
    with pytest.raises(JobError, match="finished"):
        controls.discard_question(view)
    config = view.config
    waiting = create_job(services.workspace, "predict", config)
    assert "nothing is lost" in controls.discard_question(services.job(waiting.id))


def test_acting_shows_the_new_state_or_what_stood_in_the_way(services: Services) -> None:
    job = make_run(services, state=State.RUNNING)
    *updates, trouble, _ = controls.act_on(services, services.control.pause, job.id)
    assert trouble == ""
    assert offered(updates) == {"stop", "discard"}
    *updates, trouble, _ = controls.act_on(services, services.control.resume, job.id)
    assert "running" in trouble
    *updates, trouble, _ = controls.act_on(services, services.control.pause, "20200101-000000-abcd")
    assert "no job" in trouble
    assert offered(updates) == set()
