"""Notice: the page hears once of the end of the job it watches, and of no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tabs_workspace import make_run, make_services

from app.notice import Notice, news
from app.services import Services
from segcore.events import Progress, ResumeEvent
from segcore.jobs.journal import FolderReporter
from segcore.jobs.store import State, create_job, end_job, start_job


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return make_services(tmp_path)


def report(folder: Path, epoch: int) -> None:
    progress = Progress(stage="training", done=1, total=1, unit="batch", epoch=epoch, epochs=100)
    FolderReporter(folder)(progress)


def test_the_title_follows_the_job_at_work(services: Services) -> None:
    job = make_run(services, (), State.QUEUED)
    notice, known = news(services, "{}", [job.id, ""])
    assert notice == Notice(running="waiting")
    start_job(job.folder)
    assert news(services, known, [job.id])[0] == Notice(running="starting")
    report(job.folder, 12)
    assert news(services, known, [job.id])[0] == Notice(running="epoch 12/100")


def test_a_segmentation_is_told_as_a_share(services: Services) -> None:
    config = services.job(make_run(services).id).config
    job = start_job(create_job(services.workspace, "predict", config).folder)
    FolderReporter(job.folder)(Progress(stage="segmenting", done=3, total=12, unit="slice"))
    notice, known = news(services, "{}", ["", job.id])
    assert notice.running == "25 %"
    end_job(job.folder, State.FINISHED)
    assert news(services, known, ["", job.id])[0].ended == "✓ segmented"


@pytest.mark.parametrize(
    ("state", "title", "bad"),
    [
        (State.FINISHED, "✓ Dice 0.83", False),
        (State.CANCELLED, "■ Dice 0.83", False),
        (State.FAILED, "✗ failed", True),
        (State.INTERRUPTED, "⚠ interrupted", True),
        (State.PAUSED, "‖ paused", False),
    ],
)
def test_an_end_is_told_once(services: Services, state: State, title: str, bad: bool) -> None:
    job = make_run(services, (0.4, 0.83), State.RUNNING, session="em")
    _, known = news(services, "{}", [job.id])
    end_job(job.folder, state, "This is why.", "Do that.")
    notice, known = news(services, known, [job.id])
    assert (notice.running, notice.ended) == ("", title)
    ((wrong, text),) = notice.toasts
    assert wrong == bad
    assert text.startswith(f"The training em {state if state is not State.CANCELLED else 'stopped'}")
    assert text.endswith("best Dice 0.830." if state is State.PAUSED else "This is why. Do that.")
    assert news(services, known, [job.id])[0] == Notice()


def test_what_ended_before_it_was_looked_at_is_no_news(services: Services) -> None:
    job, other = make_run(services), make_run(services, state=State.RUNNING)
    notice, known = news(services, "{}", [job.id])
    assert notice == Notice()
    end_job(other.folder, State.FINISHED)  # nobody watches it here
    assert news(services, known, [job.id])[0] == Notice()
    assert json.loads(news(services, known, [""])[1]) == {}


def test_an_interruption_between_two_looks_is_told_a_resume_after_a_pause_is_not(services: Services) -> None:
    job = make_run(services, (0.4,), State.RUNNING)
    _, known = news(services, "{}", [job.id])
    FolderReporter(job.folder)(ResumeEvent(epoch=1, step=4))
    notice, known = news(services, known, [job.id])
    assert [bad for bad, _ in notice.toasts] == [True]
    assert "goes on" in notice.toasts[0][1]
    end_job(job.folder, State.PAUSED)
    _, known = news(services, known, [job.id])
    services.control.resume(job.id)
    _, known = news(services, known, [job.id])
    start_job(job.folder)
    FolderReporter(job.folder)(ResumeEvent(epoch=1, step=4))
    assert news(services, known, [job.id])[0].toasts == ()


def test_an_interrupted_run_that_fails_for_good_is_told_too(services: Services) -> None:
    job = make_run(services, (0.4,), State.RUNNING)
    _, known = news(services, "{}", [job.id])
    end_job(job.folder, State.INTERRUPTED)
    _, known = news(services, known, [job.id])
    services.control.discard(job.id)
    assert news(services, known, [job.id])[0].ended == "– discarded"


@pytest.mark.parametrize("before", ["", "nonsense", "[]", '{"a": 1}', '{"a": ["nowhere", 1]}'])
def test_a_damaged_memory_of_the_page_is_forgotten(services: Services, before: str) -> None:
    job = make_run(services, state=State.RUNNING)
    notice, known = news(services, before, [job.id, "20200101-000000-abcd"])
    assert notice.toasts == ()
    assert list(json.loads(known)) == [job.id]
