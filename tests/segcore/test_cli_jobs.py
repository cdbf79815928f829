"""`segcore jobs`: every button of the page has its word on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from segcore.cli import main
from segcore.config import build_config
from segcore.events import Progress, Request
from segcore.jobs.journal import FolderReporter
from segcore.jobs.queue import submit
from segcore.jobs.store import Job, State, asked, end_job, read_job, start_job
from segcore.workspace import Workspace

Run = Callable[..., Any]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that gives what `segcore jobs … --json` answers."""

    def answer(*words: str, status: int = 0) -> Any:
        assert main(["jobs", *words, "--json"]) == status
        return json.loads(capsys.readouterr().out)

    return answer


@pytest.fixture
def jobs(workspace: Workspace) -> list[Job]:
    """Return three jobs that wait, oldest first."""
    return [submit(workspace, "train", build_config({"session": "fake"})) for _ in range(3)]


def state(job: Job) -> State:
    return read_job(job.folder).state


def test_the_list_says_what_scripts_need(run: Run, jobs: list[Job]) -> None:
    running = start_job(jobs[0].folder)
    where = Progress(stage="training", done=1, total=4, unit="batch", epoch=2, epochs=5)
    FolderReporter(running.folder)(where)
    rows = run("list")
    assert [row["id"] for row in rows] == [job.id for job in reversed(jobs)]
    row = rows[-1]
    assert (row["kind"], row["state"], row["epoch"], row["epochs"]) == ("train", "running", 2, 5)
    assert (row["pid"], row["run_folder"]) == (running.pid, str(running.folder))
    assert (rows[0]["pid"], rows[0]["place"]) == (None, 2)


def test_a_job_is_paused_resumed_and_stopped(run: Run, jobs: list[Job]) -> None:
    job = jobs[0]
    assert run("pause", job.id)["state"] == "paused"
    assert "already" in run("pause", job.id, status=1)["error"]
    assert run("resume", job.id)["place"] == 3
    assert run("resume", job.id)["place"] == 3  # twice is not too much
    assert run("stop", job.id)["state"] == "cancelled"
    assert state(job) is State.CANCELLED
    assert "already" in run("stop", job.id, status=1)["error"]


def test_a_job_without_journal_and_log_is_listed_with_the_others(run: Run, jobs: list[Job]) -> None:
    for name in ("events.jsonl", "log.txt"):
        (jobs[1].folder / name).unlink()
    assert [row["id"] for row in run("list")] == [job.id for job in reversed(jobs)]
    assert run("logs", jobs[1].id)["log"] == ""


def test_a_job_is_shown_without_its_secrets(run: Run, workspace: Workspace) -> None:
    config = build_config({"session": "fake", "notify": {"webhook": "https://chat.example.org/hooks/abc"}})
    shown = run("show", submit(workspace, "train", config).id)["config"]
    assert shown["notify"] == {"webhook": "https://chat.example.org/…"}
    assert shown["session"] == "fake"


@pytest.mark.parametrize("request_", list(Request))
def test_a_job_at_work_is_asked(request_: Request, run: Run, jobs: list[Job]) -> None:
    start_job(jobs[0].folder)
    answer = run(str(request_), jobs[0].id)
    assert (answer["state"], answer["asked"]) == ("running", request_)
    assert asked(jobs[0].folder) is request_


def test_a_job_is_moved(run: Run, jobs: list[Job]) -> None:
    assert run("move", jobs[2].id)["place"] == 1
    assert run("move", jobs[2].id, "--place", "2")["place"] == 2
    assert "counted from 1" in run("move", jobs[2].id, "--place", "0", status=1)["remedy"]


def test_a_job_is_discarded_unless_it_is_finished(run: Run, jobs: list[Job]) -> None:
    assert run("discard", jobs[0].id)["state"] == "discarded"
    end_job(start_job(jobs[1].folder).folder, State.FINISHED)
    assert "finished" in run("discard", jobs[1].id, status=1)["error"]
    assert "Continue it" in run("resume", jobs[1].id, status=1)["remedy"]


def test_who_resumes_a_job_hears_that_no_worker_is_there(
    workspace: Workspace, jobs: list[Job], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["jobs", "pause", jobs[0].id])
    capsys.readouterr()
    assert main(["jobs", "resume", jobs[0].id]) == 0
    assert "No worker is running" in capsys.readouterr().err
