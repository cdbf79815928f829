"""Runs: the table tells the truth of the folders, details say what can be done, comparing what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest
from tabs_workspace import epoch, make_run, make_services

from app import runbook
from app.runbook import RunBook
from app.services import Services
from app.tabs import runs
from segcore.config import build_config
from segcore.errors import ConfigError
from segcore.events import Progress
from segcore.jobs.journal import FolderReporter
from segcore.jobs.store import State, end_job


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return make_services(tmp_path)


def table(services: Services, before: str = "") -> dict[str, Any]:
    return runs.read(RunBook(services), before, "")[0]


def cells(services: Services) -> list[dict[str, str]]:
    value = table(services)
    return [dict(zip(value["header"], line["cells"], strict=True)) for line in value["rows"]]


def test_without_runs_the_page_teaches(services: Services) -> None:
    value, text, _ = runs.read(RunBook(services), "", "")
    assert value["rows"] == []
    assert "Start" in text


def test_the_table_shows_every_run_newest_first_in_words(services: Services) -> None:
    done = make_run(services, (0.4, 0.7, 0.6))
    failed = make_run(services, (), State.FAILED, session="other")
    waiting = make_run(services, (), State.QUEUED)
    lines = cells(services)
    assert [line["Run"] for line in lines] == [waiting.id, failed.id, done.id]
    assert [line["Status"].split(" ", 1)[1] for line in lines] == [
        "waiting: next in line",
        "failed",
        "finished",
    ]
    assert (lines[2]["Best score"], lines[2]["Epoch"], lines[2]["Parameters"]) == (
        "Dice 0.700",
        "3/10",
        "1.9 M",
    )
    assert lines[1]["Session"] == "other"


def test_the_table_is_sent_again_only_when_something_changed(services: Services) -> None:
    book = RunBook(services)
    job = make_run(services, (0.4,), State.RUNNING)
    *_, known = runs.read(book, "", "")
    assert all(update == gr.skip() for update in runs.read(book, known, ""))
    FolderReporter(job.folder)(epoch(2, 0.5))
    value, _, after = runs.read(book, known, job.id)
    assert after != known
    assert value["picked"] == job.id


def test_discarded_runs_are_listed_only_when_asked_for(services: Services) -> None:
    kept = make_run(services)
    gone = make_run(services, state=State.DISCARDED)
    book = RunBook(services)
    value, _, known = runs.read(book, "", "")
    assert [line["id"] for line in value["rows"]] == [kept.id]
    value, _, after = runs.read(book, known, "", discarded=True)
    assert [line["id"] for line in value["rows"]] == [gone.id, kept.id]
    assert runs.read(book, after, "")[0]["rows"]  # unticked again, it is sent again


def test_the_address_of_a_webhook_is_not_shown(services: Services) -> None:
    secret = "https://chat.example.org/hooks/very-secret"
    job = make_run(services, notify={"webhook": secret})
    rows = dict(runbook.options_rows(services.job(job.id).config))
    assert rows["notify.webhook"] == "https://chat.example.org/… *"
    with pytest.raises(ConfigError) as caught:
        build_config({"notify": {"webhook": "ftp://chat.example.org/very-secret"}})
    assert "very-secret" not in str(caught.value)
    assert "http://" in caught.value.message


def test_an_ended_run_is_read_once(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    book = RunBook(services)
    make_run(services)
    active = make_run(services, (0.1,), State.RUNNING)
    book.runs()
    read: list[str] = []
    job = services.job
    monkeypatch.setattr(services, "job", lambda identity: (read.append(identity), job(identity))[1])
    assert len(book.runs()) == 2
    assert read == [active.id]


def test_details_show_curves_options_and_the_way_to_stop(services: Services) -> None:
    job = make_run(services, (0.4, 0.6), State.RUNNING, training={"epochs": 12})
    FolderReporter(job.folder)(Progress(stage="training", done=1, total=4, unit="batch", epoch=3, epochs=12))
    box, status, chart, classes, options, _, register, *buttons = runs.details(services, job.id)
    assert box.visible
    assert "Epoch 3 of 12" in status
    assert f"?run={job.id}" in status
    assert list(chart.data[1].x) == [1, 2]
    assert "0.600" in classes
    assert "12 *" in options
    assert [button.visible for button in buttons[:4]] == [False, True, True, True]
    assert not register.visible


def test_details_of_a_failed_run_say_why_and_what_to_do(services: Services) -> None:
    job = make_run(services, (0.4,), State.RUNNING)
    end_job(job.folder, State.FAILED, "The disk is full <b>.", "Free some space.")
    _, status, _, _, _, _, register, *buttons = runs.details(services, job.id)
    assert "The disk is full &lt;b&gt;." in status
    assert "Free some space." in status
    assert [button.visible for button in buttons[:4]] == [False, False, False, True]
    assert register.visible


def test_details_of_a_run_that_is_gone_say_so(services: Services) -> None:
    box, status, *_ = runs.details(services, "20200101-000000-abcd")
    assert box.visible
    assert "no job" in status
    assert not runs.details(services, None)[0].visible


def test_data_of_the_same_name_in_another_folder_differ(services: Services) -> None:
    for folder in ("first", "second"):
        make_run(services, data={"images": str(services.workspace.data / folder / "raw.tif")})
    rows = runbook.differing(RunBook(services).runs())
    assert rows == [["data.images", "second/raw.tif", "first/raw.tif"]]


def test_comparing_shows_exactly_what_differs(services: Services) -> None:
    first = make_run(services, (0.4, 0.6), training={"epochs": 12}, model={"features": 16})
    second = make_run(services, (0.5,), training={"epochs": 12}, model={"features": 32})
    book = RunBook(services)
    assert runbook.differing(book.runs()) == [["model.features", "32", "16"]]
    box, figure, html = runs.comparison_of(book, f"{first.id} {second.id}", "val_dice")
    assert box.visible
    assert {trace.name: list(trace.y) for trace in figure.data} == {first.id: [0.4, 0.6], second.id: [0.5]}
    assert "model.features" in html
    assert "training.epochs" not in html
    assert not runs.comparison_of(book, first.id, "val_dice")[0].visible


@pytest.mark.parametrize("name", ["", "   "])
def test_a_model_needs_a_name(services: Services, name: str) -> None:
    assert "needs a name" in runs.register(services, make_run(services).id, name)
