"""Step 3: the page shows any run as its folder says, in any state, and never writes anything by looking."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from tabs_workspace import epoch, make_run, make_services

from app import monitor
from app.series import KINDS, USUAL
from app.services import Services
from app.steps import train
from segcore.events import Request, ResumeEvent
from segcore.jobs.journal import FolderReporter
from segcore.jobs.store import State, ask, end_job


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return make_services(tmp_path)


def shown(services: Services, run: str) -> dict[str, Any]:
    return dict(zip(train.SHOWN, train.show(services, run), strict=False))


def drawn(services: Services, run: str) -> dict[str, Any]:
    """Return what the chart is given."""
    value: dict[str, Any] = json.loads(train.draw(services, run, list(USUAL), 0, False)[0])
    return value


def curve(chart: dict[str, Any], name: str = "validation", axis: str = "y2") -> list[float]:
    (trace,) = [one for one in chart["data"] if one["name"] == name and one["yaxis"] == axis]
    return list(trace["y"])


@pytest.mark.parametrize("state", State)
def test_every_state_is_shown_and_watched_as_long_as_it_can_change(services: Services, state: State) -> None:
    run = make_run(services, (0.4, 0.6), state).id
    updates = shown(services, run)
    timer = updates["timer"]
    assert timer.active is not state.final
    assert (timer.value == train.WATCH_SECONDS) is not state.ended
    if state is not State.QUEUED:
        assert curve(drawn(services, run)) == [0.4, 0.6]
    assert updates["start"].visible is state.final


def test_a_run_that_is_gone_is_said_to_be_gone(services: Services) -> None:
    updates = shown(services, "20200101-000000-gone")
    assert "no job" in updates["message"]
    assert updates["timer"].active is False
    assert not any(trace["x"] for trace in drawn(services, "20200101-000000-gone")["data"])


def test_the_button_that_says_it_starts_can_be_pressed_again(services: Services) -> None:
    for run in ("", make_run(services, state=State.FINISHED).id):
        assert shown(services, run)["start"].interactive
        assert shown(services, run)["start"].value == train.start_button(bool(run)).value


def test_a_tick_without_news_sends_only_where_the_run_stands(services: Services) -> None:
    job = make_run(services, (0.4,), State.RUNNING)
    first = train.show(services, job.id)
    again = train.show(services, job.id, first[train.SHOWN.index("drawn")])
    assert len(again) == len(first)
    kept = [name for name, update in zip(train.SHOWN, again, strict=False) if update != gr.skip()]
    assert kept == ["progress"]
    assert again[len(train.SHOWN) :] == [gr.skip()] * (len(again) - len(train.SHOWN))


def test_pictures_are_drawn_anew_exactly_when_something_is_new(services: Services) -> None:
    job = make_run(services, (0.4,), State.RUNNING)
    report = FolderReporter(job.folder)

    def signature() -> str:
        return train.signature(services.job(job.id))

    before = signature()
    assert signature() == before
    for change in (
        lambda: report(epoch(2, 0.5)),
        lambda: report(ResumeEvent(epoch=1, step=1)),
        lambda: report(epoch(2, 0.5)),
        lambda: ((job.folder / "checkpoints").mkdir(), (job.folder / "checkpoints/epoch-0002.pth").touch()),
        lambda: ask(job.folder, Request.PAUSE),
        lambda: end_job(job.folder, State.PAUSED, "Paused."),
    ):
        change()
        assert signature() != before
        before = signature()


def test_looking_writes_nothing_and_two_browsers_see_the_same(services: Services) -> None:
    run = make_run(services, (0.4, 0.6), State.RUNNING).id

    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in services.workspace.root.rglob("*")}

    before = files()
    first, second = drawn(services, run), drawn(services, run)
    train.show(services, run)
    assert first == second
    assert files() == before


def test_a_server_that_starts_anew_shows_the_same(services: Services) -> None:
    job = make_run(services, (0.1, 0.2, 0.3))
    FolderReporter(job.folder)(ResumeEvent(epoch=2, step=8))
    other = Services(services.workspace, worker=False)
    assert drawn(other, job.id) == drawn(services, job.id)
    assert curve(drawn(other, job.id)) == [0.1, 0.2]


@pytest.mark.parametrize(
    "look", [(None, None, None), ([], 0, True), (["nonsense"], 7, None), (list(KINDS), -1, 1)]
)
def test_no_choice_breaks_the_chart(services: Services, look: tuple[Any, ...]) -> None:
    run = make_run(services).id
    json.loads(monitor.show_chart(services, run, *look))
    json.loads(monitor.show_chart(services, "", *look))


def test_a_long_run_is_drawn_to_its_last_epoch_at_every_refresh(services: Services) -> None:
    job = make_run(services, (), State.RUNNING)
    classes = {str(value): 0.5 for value in range(4)}
    told = {
        "val_dice_per_class": classes, "val_iou_per_class": classes, "val_predicted_share": classes,
        "loader_wait": 0.1, "memory": 10**9, "device_use": 0.9,
    }  # fmt: skip
    report = FolderReporter(job.folder)
    for number in range(1, 501):
        report(epoch(number, 0.5).model_copy(update=told))
    train.show(services, job.id)
    for number in range(501, 504):
        report(epoch(number, 0.5).model_copy(update=told))
        train.show(services, job.id)
        chart = train.draw(services, job.id, list(KINDS), 0.8, False)[0]
        assert len(json.loads(chart)["data"][0]["x"]) == number
