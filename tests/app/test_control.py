"""Control: what a person does with a job is in its folder at once, and what cannot be done says why."""

from __future__ import annotations

from pathlib import Path

import pytest
from tabs_workspace import make_run, make_services

from app import control
from app.control import Control
from app.services import Services
from segcore.config import build_config
from segcore.errors import JobError
from segcore.events import Request
from segcore.jobs.store import Job, State, asked, create_job, end_job, read_job


@pytest.fixture
def services(tmp_path: Path) -> Services:
    return make_services(tmp_path)


def wait_in_line(services: Services, count: int = 3) -> list[Job]:
    return [make_run(services, (), State.QUEUED) for _ in range(count)]


def order(services: Services) -> list[str]:
    return [job.id for job in services.control.waiting("train")]


@pytest.mark.parametrize(
    ("act", "request_"),
    [("pause", Request.PAUSE), ("stop", Request.STOP), ("discard", Request.DISCARD)],
)
def test_a_job_at_work_is_asked(services: Services, act: str, request_: Request) -> None:
    job = make_run(services, state=State.RUNNING)
    getattr(services.control, act)(job.id)
    assert asked(job.folder) is request_
    assert read_job(job.folder).state is State.RUNNING


@pytest.mark.parametrize(
    ("act", "state"),
    [
        ("pause", State.PAUSED), ("stop", State.CANCELLED), ("discard", State.DISCARDED),
        ("drop", State.DISCARDED),
    ],
)  # fmt: skip
def test_a_job_that_waits_obeys_at_once(services: Services, act: str, state: State) -> None:
    first, second = wait_in_line(services, 2)
    getattr(services.control, act)(first.id)
    assert read_job(first.folder).state is state
    assert order(services) == [second.id]


def test_dropping_a_job_that_had_begun_keeps_its_model(services: Services) -> None:
    job = make_run(services, state=State.PAUSED)
    services.control.resume(job.id)
    services.control.drop(job.id)
    assert read_job(job.folder).state is State.CANCELLED
    assert (job.folder / "best_model.pth").exists()


@pytest.mark.parametrize("state", [State.PAUSED, State.INTERRUPTED, State.FAILED, State.CANCELLED])
def test_what_ended_too_early_goes_back_in_line_and_can_be_thrown_away(
    services: Services, state: State
) -> None:
    job = make_run(services, state=state)
    services.control.resume(job.id)
    assert order(services) == [job.id]
    services.control.pause(job.id)
    services.control.discard(job.id)
    assert read_job(job.folder).state is State.DISCARDED
    assert not (job.folder / "best_model.pth").exists()


def test_a_finished_run_takes_no_orders(services: Services) -> None:
    job = make_run(services)
    for act in ("pause", "stop", "discard", "resume", "drop"):
        with pytest.raises(JobError, match="finished"):
            getattr(services.control, act)(job.id)
    with pytest.raises(JobError, match="finished"):
        services.control.move(job.id, 1)
    assert (job.folder / "best_model.pth").exists()


def test_the_order_is_changed_by_place_and_by_steps_and_stays_within_the_line(services: Services) -> None:
    first, second, third = (job.id for job in wait_in_line(services))
    services.control.move(third, 1)
    assert order(services) == [third, first, second]
    services.control.shift(third, 1)
    assert order(services) == [first, third, second]
    services.control.shift(second, -1)
    assert order(services) == [first, second, third]
    services.control.shift(first, -1)
    services.control.shift(third, 1)
    assert order(services) == [first, second, third]


def test_jobs_are_listed_by_what_becomes_of_them(services: Services) -> None:
    running = [make_run(services, state=State.RUNNING).id for _ in range(2)]
    waiting = [job.id for job in wait_in_line(services, 2)]
    paused, interrupted = (make_run(services, state=state) for state in (State.PAUSED, State.INTERRUPTED))
    make_run(services)
    control = services.control
    assert [job.id for job in control.running()] == running
    assert order(services) == waiting
    assert {job.id for job in control.held()} == {paused.id, interrupted.id}
    assert control.waiting("predict") == []


def test_a_worker_is_started_for_work_only_and_only_if_allowed(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Path] = []
    monkeypatch.setattr(control, "ensure_worker", lambda workspace: started.append(workspace.root))
    allowed = Control(services.workspace)
    allowed.wake()
    assert started == []
    job = create_job(services.workspace, "train", build_config({}))
    end_job(job.folder, State.PAUSED)
    services.control.resume(job.id)
    assert started == []
    services.control.pause(job.id)
    allowed.resume(job.id)
    assert started == [services.workspace.root]
