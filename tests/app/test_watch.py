"""Watch: the page says where a job stands, what that means, and what the autopilot did, for every state."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tabs_workspace import epoch, make_run, make_services

from app import watch
from app.jobview import JobView
from segcore.events import InterventionEvent, NoteEvent, Progress, Request, ResumeEvent
from segcore.jobs.journal import FolderReporter
from segcore.jobs.store import State, ask, end_job


@pytest.mark.parametrize("state", State)
def test_every_state_has_words(tmp_path: Path, state: State) -> None:
    services = make_services(tmp_path)
    view = services.job(make_run(services, (0.4,), state).id)
    assert watch.headline(view)
    assert watch.progress_html(view)
    html = watch.message_html(view)
    words = {State.PAUSED: "device is free", State.INTERRUPTED: "by itself", State.DISCARDED: "deleted"}
    for one, text in words.items():
        assert (text in html) == (one is state)


def test_a_run_that_was_stopped_is_not_shown_as_complete(tmp_path: Path) -> None:
    services = make_services(tmp_path)
    stopped = services.job(make_run(services, (0.4, 0.5), State.CANCELLED).id)
    FolderReporter(stopped.folder)(Progress(stage="results", done=5, total=5, unit="file"))
    assert watch.fraction_done(services.job(stopped.id)) == pytest.approx(0.2)
    assert watch.fraction_done(services.job(make_run(services, (0.4,)).id)) == 1.0


def test_what_interrupted_means_depends_on_who_resumes(tmp_path: Path) -> None:
    services = make_services(tmp_path)
    alone = make_run(services, (0.4,), State.INTERRUPTED)
    asked = make_run(services, (0.4,), State.INTERRUPTED, training={"auto_resume": False})
    assert "by itself" in watch.meaning_text(services.job(alone.id))
    assert "Resume" in watch.meaning_text(services.job(asked.id))
    assert "by itself" not in watch.meaning_text(services.job(asked.id))


@pytest.mark.parametrize(
    ("request_", "words"),
    [(Request.PAUSE, "saving"), (Request.STOP, "kept"), (Request.DISCARD, "discarding")],
)
def test_a_request_is_acknowledged_at_once(tmp_path: Path, request_: Request, words: str) -> None:
    services = make_services(tmp_path)
    job = make_run(services, (0.4,), State.RUNNING)
    ask(job.folder, request_)
    assert words in watch.headline(services.job(job.id))


def test_interventions_are_listed_with_cause_and_action_and_escaped(tmp_path: Path) -> None:
    services = make_services(tmp_path)
    job = make_run(services, (0.0, 0.0), State.RUNNING)
    for number in (1, 2):
        FolderReporter(job.folder)(
            InterventionEvent(
                epoch=number, number=number, what="flat", text="The loss <b>stands</b> still.",
                cause="A rate of 5 is far too high.", action="Learning rate 5 → 1.7.",
            )
        )  # fmt: skip
    html = watch.message_html(services.job(job.id))
    assert html.count("<li>") == 2
    assert "2 times" in html
    for text in ("&lt;b&gt;stands", "A rate of 5 is far too high.", "Learning rate 5 → 1.7."):
        assert html.count(text) == 2


def test_a_resumed_run_says_where_it_went_on(tmp_path: Path) -> None:
    services = make_services(tmp_path)
    job = make_run(services, (0.4, 0.5, 0.6), State.RUNNING)
    FolderReporter(job.folder)(ResumeEvent(epoch=2, step=8))
    view = services.job(job.id)
    assert "after epoch 2" in watch.meaning_text(view)
    assert [event.epoch for event in view.history] == [1, 2]
    end_job(job.folder, State.FINISHED)
    assert watch.meaning_text(services.job(job.id)) == ""


def facts(view: JobView) -> str:
    return " | ".join(watch.facts_of(view))


def test_the_facts_are_those_of_the_last_epoch(tmp_path: Path) -> None:
    services = make_services(tmp_path)
    options = {"patience": 10, "batch_size": 8, "micro_batch": 2}
    job = make_run(services, (0.5,), State.RUNNING, training=options)
    told = {"loader_wait": 0.25, "memory": 1_500_000_000, "device_use": 0.5, "without_gain": 3}
    FolderReporter(job.folder)(epoch(4, 0.4, best=False).model_copy(update=told))
    text = facts(services.job(job.id))
    for part in ("epoch 1, Dice 0.500", "no gain for 3 of 10 epochs", "10 patches/s", "patches 25 %",
                 "device busy 50 %", "memory 1.5 GB", "2 of 8 patches"):  # fmt: skip
        assert part in text


def test_what_a_run_does_not_report_is_not_invented(tmp_path: Path) -> None:
    services = make_services(tmp_path)
    job = make_run(services, (), State.RUNNING)
    old = epoch(1, 0.5).model_dump_json(include=set(epoch(1, 0.5).model_fields_set) | {"kind", "time"})
    with (job.folder / "events.jsonl").open("a") as stream:
        stream.write(old + "\n")
    text = facts(services.job(job.id))
    assert "patches/s" in text
    for word in ("waiting", "busy", "memory", "no gain"):
        assert word not in text


def test_damaged_lines_are_said_to_be_missing(tmp_path: Path) -> None:
    services = make_services(tmp_path)
    job = make_run(services, (0.1, 0.2, 0.3, 0.4))
    path = job.folder / "events.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = b"\x00\xff{damage\n"
    path.write_bytes(b"".join(lines))
    view = services.job(job.id)
    assert [event.epoch for event in view.history] == [1, 3, 4]
    assert re.search(r"epoch 2 cannot be read", watch.message_html(view))
    path.unlink()
    assert "cannot be read" in watch.message_html(services.job(job.id))


def test_the_dashboard_of_a_cluster_is_a_link_and_the_rest_stays_text(tmp_path: Path) -> None:
    services = make_services(tmp_path)
    job = make_run(services, (0.4,), State.RUNNING)
    text = "predicting on 2 workers; dashboard http://127.0.0.1:8787/status"
    FolderReporter(job.folder)(NoteEvent(text=text))
    FolderReporter(job.folder)(NoteEvent(text='javascript:alert(1) http://a.b/"onclick=x <b>'))
    shown = watch.message_html(services.job(job.id))
    assert '<a href="http://127.0.0.1:8787/status"' in shown
    assert shown.count("<a ") == 2
    assert 'href="javascript' not in shown
    assert "<b>" not in shown.replace("<br>", "")
    assert 'http://a.b/"onclick' not in shown
