"""The queue: jobs are worked in order, exactly once, and a restart loses none."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from segcore.config import build_config
from segcore.errors import JobError
from segcore.events import Request
from segcore.jobs import queue as queue_module
from segcore.jobs.queue import JobQueue, reconcile, submit
from segcore.jobs.store import Job, State, ask, list_jobs, queue_place, read_job, start_job, update_job
from segcore.jobs.supervisor import run_job
from segcore.workspace import Workspace

CONFIG = build_config({"session": "fake"})


def waiting(workspace: Workspace, kind: str = "train") -> list[Path]:
    with JobQueue(workspace, "train" if kind == "train" else "predict") as queue:
        return queue.waiting()


def test_jobs_come_out_in_the_order_they_went_in(workspace: Workspace) -> None:
    jobs = [submit(workspace, "train", CONFIG) for _ in range(4)]
    assert [queue_place(workspace, job) for job in jobs] == [1, 2, 3, 4]
    taken: list[Path] = []
    # Another instance, as after a restart.
    with JobQueue(workspace, "train", taken.append) as queue:
        while queue.work_next():
            pass
    assert taken == [job.folder for job in jobs]


def test_a_segmentation_does_not_wait_behind_trainings(workspace: Workspace) -> None:
    submit(workspace, "train", CONFIG)
    job = submit(workspace, "predict", CONFIG)
    assert waiting(workspace, "predict") == [job.folder]
    assert queue_place(workspace, job) == 1


def test_the_queue_moves_with_its_workspace(workspace: Workspace) -> None:
    job = submit(workspace, "train", CONFIG)
    moved = workspace.root.rename(workspace.root.with_name("moved"))
    assert waiting(Workspace.open(moved)) == [moved / job.folder.relative_to(workspace.root)]


def test_entries_are_json_and_never_pickle(workspace: Workspace) -> None:
    submit(workspace, "train", CONFIG)
    with sqlite3.connect(workspace.state / "queue.db") as connection:
        (content,) = connection.execute("select data from task").fetchone()
    connection.close()
    assert isinstance(json.loads(content), list)


def test_a_cancelled_job_is_passed_over(workspace: Workspace) -> None:
    first, second = (submit(workspace, "train", CONFIG) for _ in range(2))
    ask(first.folder, Request.STOP)
    states = []
    with JobQueue(
        workspace, "train", lambda folder: states.append(run_job(folder, workspace, command=["true"]))
    ) as queue:
        queue.work_next()
    assert [job.state for job in states] == [State.CANCELLED]
    assert waiting(workspace) == [second.folder]
    assert queue_place(workspace, second) == 1


def test_a_full_disk_leaves_no_half_job(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("segcore.jobs.store.write_atomic", full)
    with pytest.raises(JobError, match=r"No space left.*Free disk space"):
        submit(workspace, "train", CONFIG)
    assert list(workspace.models.rglob("*.json")) == []


def test_a_queue_that_cannot_be_written_fails_the_job(workspace: Workspace) -> None:
    (workspace.state / "queue.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(JobError, match="could not be queued"):
        submit(workspace, "train", CONFIG)
    assert [job.state for job in list_jobs(workspace)] == [State.FAILED]


def test_jobs_without_an_entry_are_put_in_line_again(
    workspace: Workspace, make_job: Callable[..., Job]
) -> None:
    lost = make_job()
    submitted = submit(workspace, "train", CONFIG)
    assert [job.id for job in reconcile(workspace)] == [lost.id]
    assert set(waiting(workspace)) == {lost.folder, submitted.folder}
    assert reconcile(workspace) == []
    assert len(waiting(workspace)) == 2


def test_running_jobs_without_a_process_are_interrupted(
    workspace: Workspace, make_job: Callable[..., Job]
) -> None:
    job = start_job(make_job().folder)
    assert job.pid == os.getpid()  # which is not a job's process
    (touched,) = reconcile(workspace)
    assert touched.state is State.INTERRUPTED
    assert "gone" in touched.message
    assert touched.remedy
    assert touched.pid is None
    assert reconcile(workspace) == []


def test_a_job_of_a_command_is_left_to_it(workspace: Workspace, make_job: Callable[..., Job]) -> None:
    job = make_job(owner="command")
    assert reconcile(workspace) == []
    assert waiting(workspace) == []
    update_job(job.folder, created=time.time() - queue_module.START_SECONDS - 1)
    reconcile(workspace)
    assert read_job(job.folder).state is State.INTERRUPTED


def test_ended_jobs_stay_as_they_are(workspace: Workspace, make_job: Callable[..., Job]) -> None:
    job = make_job()
    ask(job.folder, Request.STOP)
    assert start_job(job.folder).state is State.CANCELLED
    assert update_job(job.folder, state=State.FINISHED, message="no").message == read_job(job.folder).message
    assert read_job(job.folder).state is State.CANCELLED
    assert reconcile(workspace) == []
