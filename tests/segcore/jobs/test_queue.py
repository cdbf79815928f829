"""The queue: the folders say who is next, the tokens that somebody waits; no crash or outage loses a job."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segcore.config import build_config
from segcore.errors import JobError
from segcore.events import Request
from segcore.jobs import huey_store
from segcore.jobs.queue import discard, move, next_job, resume, stop, submit, waiting
from segcore.jobs.recovery import reconcile
from segcore.jobs.store import (
    Job,
    Kind,
    State,
    ask,
    asked,
    create_job,
    end_anew,
    end_job,
    list_jobs,
    queue_place,
    read_job,
    start_job,
    update_job,
)
from segcore.jobs.tokens import QueueUnreachable, Tokens
from segcore.workspace import Workspace

CONFIG = build_config({"session": "fake"})


def count(workspace: Workspace, kind: Kind = "train") -> int:
    with Tokens(workspace, kind) as tokens:
        return tokens.count()


def line(workspace: Workspace) -> list[str]:
    return [job.id for job in waiting(workspace, "train")]


def checkpoint(job: Job) -> Path:
    path = job.folder / "checkpoints" / "last.pt"
    path.parent.mkdir()
    path.touch()
    return path


@pytest.mark.usefixtures("any_queue")
def test_jobs_wait_in_the_order_they_came_each_with_a_token(workspace: Workspace) -> None:
    jobs = [submit(workspace, "train", CONFIG) for _ in range(4)]
    assert [queue_place(workspace, job) for job in jobs] == [1, 2, 3, 4]
    assert line(workspace) == [job.id for job in jobs]
    assert count(workspace) == 4
    # Another connection, as after a restart.
    with Tokens(workspace, "train") as tokens:
        assert [tokens.take() for _ in range(5)] == [True] * 4 + [False]


@pytest.mark.usefixtures("any_queue")
def test_a_segmentation_does_not_wait_behind_trainings(workspace: Workspace) -> None:
    submit(workspace, "train", CONFIG)
    job = submit(workspace, "predict", CONFIG)
    assert (count(workspace, "predict"), queue_place(workspace, job)) == (1, 1)
    assert next_job(workspace, "predict", lambda _: True) == job


@pytest.mark.usefixtures("any_queue")
def test_the_queue_moves_with_its_workspace(workspace: Workspace) -> None:
    job = submit(workspace, "train", CONFIG)
    moved = Workspace.open(workspace.root.rename(workspace.root.with_name("moved")))
    assert count(moved) == 1
    assert waiting(moved, "train")[0].folder == moved.root / job.folder.relative_to(workspace.root)


@pytest.mark.redis
def test_two_workspaces_share_a_redis_server(
    workspace: Workspace, tmp_path: Path, redis_server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGCORE_QUEUE_URL", redis_server.url)
    other = Workspace.open(tmp_path / "other")
    submit(workspace, "train", CONFIG)
    assert (count(workspace), count(other)) == (1, 0)
    submit(other, "train", CONFIG)
    with Tokens(other, "train") as tokens:
        assert tokens.take()
    assert (count(workspace), count(other)) == (1, 0)
    assert all(workspace.identity in key for key in redis_server.stored())


def test_entries_are_json_and_never_pickle(workspace: Workspace) -> None:
    submit(workspace, "train", CONFIG)
    with sqlite3.connect(workspace.state / "queue.db") as connection:
        (content,) = connection.execute("select data from task").fetchone()
    connection.close()
    assert isinstance(json.loads(content), list)


def test_a_locked_database_is_waited_for(workspace: Workspace) -> None:
    submit(workspace, "train", CONFIG)
    connection = sqlite3.connect(workspace.state / "queue.db", check_same_thread=False, isolation_level=None)
    connection.execute("begin exclusive")
    released = threading.Event()

    def release() -> None:
        released.set()
        connection.execute("rollback")

    threading.Timer(0.7, release).start()
    submit(workspace, "train", CONFIG)
    assert released.is_set()  # so it was the lock that was waited for
    assert count(workspace) == 2
    connection.close()


def test_a_database_locked_for_too_long_is_an_error_that_says_so(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(workspace, "train", CONFIG)
    monkeypatch.setattr(huey_store, "SQLITE_SECONDS", 0.1)
    connection = sqlite3.connect(workspace.state / "queue.db", isolation_level=None)
    connection.execute("begin exclusive")
    with pytest.raises(JobError, match="locked"):
        submit(workspace, "train", CONFIG)
    connection.close()
    assert len(list_jobs(workspace)) == 1


def test_a_full_disk_leaves_no_half_job(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("segcore.jobs.store.write_atomic", full)
    with pytest.raises(JobError, match=r"No space left.*Free disk space"):
        submit(workspace, "train", CONFIG)
    assert list(workspace.models.rglob("*.json")) == []


def test_a_queue_that_cannot_be_written_leaves_no_half_job(workspace: Workspace) -> None:
    (workspace.state / "queue.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(JobError, match="could not be queued"):
        submit(workspace, "train", CONFIG)
    assert list(workspace.models.rglob("*.json")) == []


@pytest.mark.parametrize(
    "url", ["redis://:secret@127.0.0.1:1/0", "redis://127.0.0.1:none", "mysql://:secret@x"]
)
def test_a_server_that_does_not_answer_leaves_no_half_job(
    url: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGCORE_QUEUE_URL", url)
    with pytest.raises(JobError, match=r"SEGCORE_QUEUE_URL|redis://host") as caught:
        submit(workspace, "train", CONFIG)
    assert "secret" not in str(caught.value)
    assert list_jobs(workspace) == []


@pytest.mark.redis
def test_a_server_that_forgets_everything_is_filled_again(
    workspace: Workspace,
    redis_server: Any,
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SEGCORE_QUEUE_URL", redis_server.url)
    job = submit(workspace, "train", CONFIG)
    redis_server.kill()
    with pytest.raises(QueueUnreachable):
        reconcile(workspace)
    # What a person asks of a job meanwhile is not lost either.
    ask(job.folder, Request.PAUSE)
    assert resume(workspace, job.folder).state is State.QUEUED
    redis_server.start()
    wait_until(redis_server.answers)
    assert count(workspace) == 0
    reconcile(workspace)
    reconcile(workspace)
    assert count(workspace) == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 6)), max_size=6))
def test_a_moved_job_stands_where_it_was_put_and_the_others_keep_their_order(
    moves: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    workspace = Workspace.open(tmp_path_factory.mktemp("moves"))
    jobs = [create_job(workspace, "train", CONFIG) for _ in range(4)]
    expected = [job.id for job in jobs]
    for index, place in moves:
        job = jobs[index]
        moved = move(workspace, read_job(job.folder), place)
        expected.remove(job.id)
        expected.insert(place - 1, job.id)
        assert line(workspace) == expected
        assert queue_place(workspace, moved) == min(place, 4)
    last = create_job(workspace, "train", CONFIG)
    assert line(workspace) == [*expected, last.id]


def test_only_a_job_that_waits_can_be_moved(workspace: Workspace, make_job: Callable[..., Job]) -> None:
    job = start_job(make_job().folder)
    with pytest.raises(JobError, match="running"):
        move(workspace, job, 1)
    with pytest.raises(JobError, match="counted from 1"):
        move(workspace, make_job(), 0)


def test_a_job_that_does_not_fit_is_passed_over(workspace: Workspace) -> None:
    first, second = (submit(workspace, "train", CONFIG) for _ in range(2))
    assert next_job(workspace, "train", lambda job: job.id != first.id) == second


def test_a_cancelled_job_is_passed_over(workspace: Workspace) -> None:
    first, second = (submit(workspace, "train", CONFIG) for _ in range(2))
    ask(first.folder, Request.STOP)
    assert next_job(workspace, "train", lambda _: True) == second
    assert queue_place(workspace, second) == 1


def test_a_request_that_was_written_but_not_obeyed_is_obeyed_before_the_job_begins(
    workspace: Workspace, make_job: Callable[..., Job]
) -> None:
    # Killed between the two steps of `ask`.
    job = make_job()
    (job.folder / "request").write_text("stop")
    assert next_job(workspace, "train", lambda _: True) is None
    assert read_job(job.folder).state is State.CANCELLED


@pytest.mark.parametrize("state", [State.PAUSED, State.INTERRUPTED, State.FAILED, State.CANCELLED])
@pytest.mark.usefixtures("any_queue")
def test_a_job_that_ended_too_early_goes_on_at_the_end_of_the_line(
    state: State, workspace: Workspace, make_job: Callable[..., Job]
) -> None:
    job = start_job(make_job(owner="command").folder)
    ask(job.folder, Request.PAUSE)
    end_job(job.folder, state, "Why.", "What to do.")
    update_job(job.folder, restarts=3)
    other = submit(workspace, "train", CONFIG)
    resumed = resume(workspace, job.folder)
    assert line(workspace) == [other.id, job.id]
    assert count(workspace) == 2
    assert asked(job.folder) is None
    assert (resumed.owner, resumed.restarts, resumed.message, resumed.remedy) == ("worker", 0, "", "")
    assert (resumed.ended, resumed.pid) == (None, None)


@pytest.mark.parametrize(
    ("state", "remedy"), [(State.FINISHED, "Continue it"), (State.DISCARDED, "start it again")]
)
def test_a_job_that_is_over_does_not_go_on(
    state: State, remedy: str, workspace: Workspace, make_job: Callable[..., Job]
) -> None:
    job = end_job(start_job(make_job().folder).folder, state)
    with pytest.raises(JobError, match=remedy):
        resume(workspace, job.folder)
    assert read_job(job.folder) == job


def test_a_job_under_way_is_left_alone(workspace: Workspace, make_job: Callable[..., Job]) -> None:
    job = start_job(make_job().folder)
    ask(job.folder, Request.PAUSE)
    # Its process still saves: it is resumed when it has ended, not before.
    with pytest.raises(JobError, match="running"):
        resume(workspace, job.folder)
    assert asked(job.folder) is Request.PAUSE


@pytest.mark.parametrize("state", [State.QUEUED, State.PAUSED, State.FAILED, State.CANCELLED])
def test_what_a_discarded_job_made_is_deleted_and_what_it_was_stays(
    state: State, workspace: Workspace, make_job: Callable[..., Job]
) -> None:
    job = make_job()
    files = "best_model.pth results.json checkpoints/last.pt previews/epoch-0001.png segmentation.objects.csv"
    for name in files.split():
        (job.folder / name).parent.mkdir(exist_ok=True)
        (job.folder / name).touch()
    if state is not State.QUEUED:
        end_job(job.folder, state)
    assert discard(workspace, job.folder).state is State.DISCARDED
    visible = {path.name for path in job.folder.iterdir() if not path.name.startswith(".")}
    assert visible - {"request"} == {"config.json", "job.json", "events.jsonl", "log.txt"}


def test_a_finished_job_is_not_discarded(workspace: Workspace, make_job: Callable[..., Job]) -> None:
    job = make_job()
    (job.folder / "best_model.pth").touch()
    end_job(job.folder, State.FINISHED)
    with pytest.raises(JobError, match="finished"):
        discard(workspace, job.folder)
    assert (job.folder / "best_model.pth").exists()


def test_what_was_left_of_a_discarded_job_goes_later(
    workspace: Workspace, make_job: Callable[..., Job]
) -> None:
    job = make_job()
    end_job(job.folder, State.DISCARDED)
    (job.folder / "best_model.pth").touch()  # whoever deleted was killed before this one
    reconcile(workspace)
    assert not (job.folder / "best_model.pth").exists()


def test_what_a_teacher_said_goes_with_a_training_that_is_stopped(make_job: Callable[..., Job]) -> None:
    job = make_job()
    (job.folder / "teaching").mkdir()
    end_job(job.folder, State.PAUSED)
    assert (job.folder / "teaching").exists()
    end_anew(job.folder, State.CANCELLED, "Cancelled.")
    assert not (job.folder / "teaching").exists()


@pytest.mark.parametrize("state", [State.QUEUED, State.PAUSED, State.INTERRUPTED])
def test_stop_and_keep_of_a_training_that_waits_to_go_on_writes_its_results_next(
    state: State, workspace: Workspace, make_job: Callable[..., Job]
) -> None:
    other, job = make_job(), start_job(make_job().folder)
    checkpoint(job)
    end_job(job.folder, State.PAUSED if state is State.QUEUED else state)
    if state is State.QUEUED:
        resume(workspace, job.folder)
    assert stop(workspace, job.folder).state is State.QUEUED
    assert line(workspace) == [job.id, other.id]
    assert asked(job.folder) is Request.STOP


def test_stop_and_keep_of_a_job_without_anything_to_keep_ends_it(
    workspace: Workspace, make_job: Callable[..., Job]
) -> None:
    paused, queued = make_job(), make_job("predict")
    ask(paused.folder, Request.PAUSE)
    assert stop(workspace, paused.folder).state is State.CANCELLED
    assert stop(workspace, queued.folder).state is State.CANCELLED
