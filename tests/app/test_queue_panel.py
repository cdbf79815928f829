"""Queue panel: it lists what runs, waits and is paused, offers what can be done, and does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from tabs_workspace import make_run, make_services

from app import queue_panel
from app.services import Services
from segcore.config import build_config
from segcore.events import Progress
from segcore.jobs.journal import FolderReporter
from segcore.jobs.store import State, create_job, end_job, read_job, start_job, update_job


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return make_services(tmp_path)


def groups(services: Services) -> dict[str, list[dict[str, Any]]]:
    return {group["title"]: group["jobs"] for group in queue_panel.groups_of(services)}


def names(job: dict[str, Any]) -> list[str]:
    return [action["name"] for action in job["actions"] if not action["off"]]


def test_an_empty_queue_says_so(services: Services) -> None:
    make_run(services)  # what has ended is no business of the queue
    make_run(services, state=State.DISCARDED)
    value, _ = queue_panel.read(services, "")
    assert value["groups"] == []
    assert "Nothing" in value["empty"]


def test_a_job_at_work_says_where_it_runs_how_far_it_is_and_when_it_ends(services: Services) -> None:
    job = make_run(services, (0.4,), State.RUNNING, session="retina")
    update_job(job.folder, device="cuda:1", host="gpu-server")
    FolderReporter(job.folder)(
        Progress(
            stage="training", done=1, total=2, unit="batch", epoch=3, epochs=10, seconds_left=190
        )
    )  # fmt: skip
    (line,) = groups(services)["At work"]
    assert line["name"] == "Training retina"
    assert line["text"] == "epoch 3 of 10 · 3 min 10 s left · cuda:1 of gpu-server"
    assert line["fraction"] == pytest.approx(0.25)
    assert names(line) == ["pause", "stop", "discard"]
    assert queue_panel.act(services, job.id, "pause") == ""
    (line,) = groups(services)["At work"]
    assert "pausing" in line["text"]
    assert names(line) == ["stop", "discard"]


def test_both_lines_are_listed_in_order_and_only_sensible_moves_are_offered(services: Services) -> None:
    jobs = [make_run(services, (), State.QUEUED, session=f"s{number}") for number in range(3)]
    config = services.job(jobs[0].id).config
    segmentation = create_job(services.workspace, "predict", config)
    listed = groups(services)
    assert [line["id"] for line in listed["Waiting trainings"]] == [job.id for job in jobs]
    assert [line["id"] for line in listed["Waiting segmentations"]] == [segmentation.id]
    first, second, third = listed["Waiting trainings"]
    assert "next in line" in first["text"]
    assert "place 3" in third["text"]
    assert names(first) == ["down", "pause", "drop"]
    assert names(second) == ["first", "up", "down", "pause", "drop"]
    assert names(third) == ["first", "up", "pause", "drop"]
    assert names(listed["Waiting segmentations"][0]) == ["pause", "drop"]


@pytest.mark.parametrize(
    ("action", "which", "order"), [("first", 2, "201"), ("up", 2, "021"), ("down", 0, "102")]
)
def test_a_move_changes_the_order(services: Services, action: str, which: int, order: str) -> None:
    jobs = [make_run(services, (), State.QUEUED) for _ in range(3)]
    assert queue_panel.act(services, jobs[which].id, action) == ""
    lined_up = [line["id"] for line in groups(services)["Waiting trainings"]]
    assert lined_up == [jobs[int(number)].id for number in order]


def test_paused_and_interrupted_jobs_can_be_resumed_or_discarded(services: Services) -> None:
    paused = make_run(services, state=State.PAUSED)
    broken = make_run(services, state=State.RUNNING)
    end_job(broken.folder, State.INTERRUPTED, "The computer was restarted.")
    lines = {line["id"]: line for line in groups(services)["Paused or interrupted"]}
    assert set(lines) == {paused.id, broken.id}
    assert "The computer was restarted." in lines[broken.id]["text"]
    assert names(lines[paused.id]) == ["resume", "discard"]
    assert queue_panel.act(services, paused.id, "resume") == ""
    assert queue_panel.act(services, broken.id, "discard") == ""
    (line,) = groups(services)["Waiting trainings"]
    assert (line["id"], "goes on from where it was saved" in line["text"]) == (paused.id, True)
    assert read_job(broken.folder).state is State.DISCARDED


def test_an_evaluation_that_is_resumed_begins_anew(services: Services) -> None:
    job = create_job(services.workspace, "predict", build_config({}), evaluates="test")
    start_job(job.folder)
    end_job(job.folder, State.PAUSED)
    assert queue_panel.act(services, job.id, "resume") == ""
    (line,) = groups(services)["Waiting segmentations"]
    assert line["name"].startswith("Evaluation ")
    assert "begins anew" in line["text"]


def test_whatever_loses_something_asks_and_says_what(services: Services) -> None:
    make_run(services, (0.4, 0.7), State.RUNNING)
    make_run(services, (), State.QUEUED)
    make_run(services, state=State.PAUSED)
    actions = [action for lines in groups(services).values() for line in lines for action in line["actions"]]
    asking = {action["name"] for action in actions if action["ask"]}
    assert asking == {"stop", "discard", "drop"}
    assert all(action["ask"] for action in actions if action["name"] in asking)
    assert all(action["said"] for action in actions)
    assert all("lost" in action["ask"] or "deleted" in action["ask"] for action in actions if action["ask"])


def test_many_paused_jobs_do_not_hide_what_runs(services: Services) -> None:
    for _ in range(queue_panel.MOST_HELD + 2):
        make_run(services, (), State.PAUSED)
    (title,) = groups(services)
    assert str(queue_panel.MOST_HELD + 2) in title
    assert len(groups(services)[title]) == queue_panel.MOST_HELD


def test_the_panel_is_sent_again_only_when_something_changed(services: Services) -> None:
    job = make_run(services, (), State.QUEUED)
    value, known = queue_panel.read(services, "")
    assert value["groups"]
    assert queue_panel.read(services, known) == (gr.skip(), gr.skip())
    services.control.pause(job.id)
    changed, after = queue_panel.read(services, known)
    assert after != known
    assert changed["groups"][0]["title"] == "Paused or interrupted"


def test_what_cannot_be_done_says_why(services: Services) -> None:
    job = make_run(services)
    assert "finished" in queue_panel.act(services, job.id, "drop")
    assert "no action" in queue_panel.act(services, job.id, "explode")
    assert "no job" in queue_panel.act(services, "20200101-000000-abcd", "pause")


def test_damaged_options_do_not_hide_a_job(services: Services) -> None:
    job = make_run(services, (), State.QUEUED)
    (job.folder / "config.json").write_text("{")
    (line,) = groups(services)["Waiting trainings"]
    assert line["text"] == "next in line"
