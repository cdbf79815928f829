"""The worker: every way a job can end is told in the person's words; one worker serves a workspace."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from segcore.config import RunConfig, build_config
from segcore.errors import DataError, JobError
from segcore.events import EndEvent, Outcome, Request, StageEvent
from segcore.jobs.journal import read_events
from segcore.jobs.process import child_environment
from segcore.jobs.queue import resume
from segcore.jobs.store import (
    Job,
    State,
    ask,
    asked,
    create_job,
    end_job,
    line_up_again,
    read_job,
    start_job,
)
from segcore.jobs.workers import ensure_worker, worker_alive, worker_lock
from segcore.worker import child, following, switch
from segcore.worker import line as line_module
from segcore.worker.__main__ import main
from segcore.worker.line import Line
from segcore.worker.notify import Notifier
from segcore.worker.service import run_worker
from segcore.worker.slots import Slot
from segcore.workspace import Workspace

Train = Callable[..., Any]
Asked = Callable[[], Request | None]


@pytest.fixture
def job(workspace: Workspace) -> Job:
    return create_job(workspace, "train", build_config({"session": "fake"}))


@pytest.fixture
def train_with(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Train], None]]:
    """Return a function that replaces the engine by a function; torch stays unloaded."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    handlers = {number: signal.getsignal(number) for number in map(_number, switch.SIGNALS)}

    def replace(train: Train) -> None:
        engine = ModuleType("segcore.training.run")
        engine.train = train  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "segcore.training.run", engine)

    yield replace
    for number, handler in handlers.items():
        signal.signal(number, handler)


def _number(name: str) -> signal.Signals:
    return signal.Signals[name]


def raising(error: Exception) -> Train:
    def train(*_: object) -> None:
        raise error

    return train


FAILURES = [
    pytest.param(
        DataError("labels.tif is empty.", "Choose another."), "labels.tif is empty.", "another", id="ours"
    ),
    pytest.param(MemoryError(), "Memory ran out", "batch size", id="memory"),
    pytest.param(
        RuntimeError("CUDA out of memory. Tried to allocate"), "Memory ran out", "batch size", id="cuda"
    ),
    pytest.param(
        RuntimeError("DefaultCPUAllocator: can't allocate memory"), "Memory ran out", "smaller", id="cpu"
    ),
    pytest.param(OSError(28, "No space left on device"), "disk is full", "Free disk space", id="disk"),
    pytest.param(PermissionError(13, "Permission denied", "/data/x"), "/data/x", "may read", id="file"),
    pytest.param(ZeroDivisionError("secret detail"), "unexpected error", "log", id="defect"),
]


@pytest.mark.parametrize(("error", "message", "remedy"), FAILURES)
def test_every_error_becomes_a_message_and_a_remedy(
    error: Exception,
    message: str,
    remedy: str,
    workspace: Workspace,
    job: Job,
    train_with: Callable[[Train], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    train_with(raising(error))
    assert child.work(job.folder, workspace) == 1
    ended = read_job(job.folder)
    assert ended.state is State.FAILED
    assert message in ended.message
    assert remedy in ended.remedy
    assert "secret detail" not in ended.message + ended.remedy
    last = list(read_events(job.folder))[-1]
    assert isinstance(last, EndEvent)
    assert (last.state, last.text) == (State.FAILED, ended.message)
    # Only what is not ours leaves a traceback, and only in the log.
    traces = [record for record in caplog.records if record.exc_info and record.levelno == logging.ERROR]
    assert bool(traces) == (not isinstance(error, DataError))


@pytest.mark.parametrize(
    ("request_", "state", "kept"),
    [(None, State.FINISHED, False), (Request.STOP, State.CANCELLED, True)],
)
def test_the_outcome_is_the_state(
    request_: Request | None,
    state: State,
    kept: bool,
    workspace: Workspace,
    job: Job,
    train_with: Callable[[Train], None],
) -> None:
    def train(config: RunConfig, folder: Path, report: Callable[..., None], asked: Asked) -> Outcome:
        assert (config.session, folder) == ("fake", job.folder)
        assert read_job(folder).state is State.RUNNING
        report(StageEvent(text="at work"))
        (folder / "best_model.pth").touch()
        return Outcome(request_, {})

    train_with(train)
    assert child.work(job.folder, workspace) == 0
    ended = read_job(job.folder)
    assert ended.state is state
    assert ("kept" in ended.message) == kept
    assert "at work" in [event.text for event in read_events(job.folder) if isinstance(event, StageEvent)]


ASKED = [
    ("file", Request.STOP, State.CANCELLED),
    ("file", Request.PAUSE, State.PAUSED),
    ("file", Request.DISCARD, State.DISCARDED),
    ("SIGINT", Request.STOP, State.CANCELLED),
    ("SIGUSR1", Request.PAUSE, State.PAUSED),
    ("SIGUSR2", Request.DISCARD, State.DISCARDED),
    ("SIGTERM", Request.PAUSE, State.INTERRUPTED),
]


@pytest.mark.parametrize(("how", "wish", "state"), ASKED)
def test_a_job_is_asked_by_file_or_signal(
    how: str,
    wish: Request,
    state: State,
    workspace: Workspace,
    job: Job,
    train_with: Callable[[Train], None],
) -> None:
    def train(config: RunConfig, folder: Path, report: object, asked_now: Asked) -> Outcome:
        assert asked_now() is None
        (folder / "best_model.pth").touch()
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "last.pt").touch()
        ask(folder, wish) if how == "file" else os.kill(os.getpid(), _number(how))
        assert asked_now() is wish
        # A signal of a person outlives the process; that of a machine that goes down does not.
        assert asked(folder) is (None if how == "SIGTERM" else wish)
        return Outcome(asked_now(), {})

    train_with(train)
    assert child.work(job.folder, workspace) == 0
    ended = read_job(job.folder)
    assert ended.state is state
    discarded = state is State.DISCARDED
    assert [(job.folder / name).exists() for name in ("best_model.pth", "checkpoints")] == [not discarded] * 2
    assert (job.folder / "config.json").exists()


def test_sigterm_from_two_sides_does_not_cut_off_the_saving(
    workspace: Workspace, job: Job, train_with: Callable[[Train], None]
) -> None:
    def train(config: RunConfig, folder: Path, report: object, asked_now: Asked) -> Outcome:
        for _ in range(2):
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL  # which would end this process
            os.kill(os.getpid(), signal.SIGTERM)
        return Outcome(asked_now(), {})

    train_with(train)
    child.work(job.folder, workspace)
    assert read_job(job.folder).state is State.INTERRUPTED


def test_what_a_person_wants_counts_when_the_machine_goes_down_too(
    workspace: Workspace, job: Job, train_with: Callable[[Train], None]
) -> None:
    def train(config: RunConfig, folder: Path, report: object, asked_now: Asked) -> Outcome:
        ask(folder, Request.PAUSE)
        os.kill(os.getpid(), signal.SIGTERM)
        return Outcome(asked_now(), {})

    train_with(train)
    child.work(job.folder, workspace)
    assert read_job(job.folder).state is State.PAUSED


def test_a_segmentation_that_is_paused_goes_on(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, train_with: Callable[[Train], None]
) -> None:
    job = create_job(workspace, "predict", build_config({}))

    def segment(config: RunConfig, folder: Path, report: object, asked: Asked, *_: Any) -> Outcome:
        (folder / "partial").mkdir()
        (folder / "partial" / "finished.jsonl").touch()
        ask(folder, Request.PAUSE)
        return Outcome(asked(), {})

    engine = ModuleType("segcore.inference.run")
    engine.segment = segment  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "segcore.inference.run", engine)
    train_with(raising(AssertionError("a segmentation is no training")))
    child.work(job.folder, workspace)
    paused = read_job(job.folder)
    assert (paused.state, paused.message) == (State.PAUSED, "Paused. It goes on from here.")
    assert paused.saved_at > 0
    assert resume(workspace, job.folder).state is State.QUEUED
    assert asked(job.folder) is None
    assert start_job(job.folder).saved_at > 0
    # Nobody needs the beginning of what was stopped.
    assert end_job(job.folder, State.CANCELLED).saved_at == 0
    assert not (job.folder / "partial").exists()


def test_a_job_that_another_host_has_taken_over_is_left_to_it(
    workspace: Workspace,
    job: Job,
    train_with: Callable[[Train], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(switch, "CLAIM_SECONDS", 0.0)

    def train(config: RunConfig, folder: Path, report: object, asked_now: Asked) -> Outcome:
        assert asked_now() is None
        # The other host took this one for dead, and began the job anew.
        end_job(folder, State.INTERRUPTED)
        line_up_again(folder, 0.0, 1)
        start_job(folder)
        (folder / "best_model.pth").touch()
        assert asked_now() is Request.DISCARD
        return Outcome(Request.DISCARD, {})

    train_with(train)
    assert child.work(job.folder, workspace) == 0
    assert read_job(job.folder).state is State.RUNNING
    assert (job.folder / "best_model.pth").exists()
    assert not [event for event in read_events(job.folder) if isinstance(event, EndEvent)]


def test_a_job_that_does_not_wait_is_left_alone(
    workspace: Workspace, job: Job, train_with: Callable[[Train], None]
) -> None:
    train_with(raising(AssertionError("it was begun")))
    ask(job.folder, Request.STOP)
    before = (job.folder / "job.json").read_bytes()
    assert child.work(job.folder, workspace) == 0
    assert (job.folder / "job.json").read_bytes() == before


def test_only_models_of_the_registry_are_fetched(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "segcore.tracking.models.fetch", lambda reference, _: Path("/fetched") / reference[8:]
    )
    registered = build_config({"inference": {"model": "models:/cells@champion"}})
    local = build_config({"inference": {"model": "/runs/1"}})
    assert child.resolve_model(registered, workspace).inference.model == "/fetched/cells@champion"
    assert child.resolve_model(local, workspace) is local


@pytest.mark.parametrize(
    ("quota", "cores"), [("100000 100000", 1), ("max 100000", None), ("10000 100000", 1), ("nonsense", None)]
)
def test_a_container_quota_limits_the_threads(quota: str, cores: int | None, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    unlimited = child.usable_cores(tmp_path / "missing")
    assert child.usable_cores(tmp_path) == (unlimited if cores is None else cores)


class FakeFollower:
    """Stands for MLflow: `answers` says how often it is down before it takes the rest."""

    def __init__(self, folder: Path, workspace: Workspace) -> None:
        self.folder = folder

    def sync(self) -> bool:
        """Take what is new."""
        (self.folder / "synced").touch()
        return True

    def finish(self, timeout: float) -> bool:
        """Take the rest, the second time."""
        tries = self.folder / "tries"
        tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
        return len(tries.read_text()) > 1


def test_mlflow_is_told_again_when_it_was_down(
    workspace: Workspace, job: Job, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    monkeypatch.setattr("segcore.tracking.mlflow.Follower", FakeFollower)
    monkeypatch.setattr(following, "SYNC_SECONDS", 0.02)
    monkeypatch.setattr(following, "RETRY_SECONDS", 0.05)
    thread = following.FollowingThread(workspace)
    thread.follow(job.folder)
    wait_until(lambda: (job.folder / "synced").exists())
    assert thread.wait(0.01)  # nothing has ended yet: nothing is owed
    end_job(job.folder, State.CANCELLED)
    thread.conclude(job.folder)
    assert not thread.wait(0.0)
    assert thread.wait(10)
    assert (job.folder / "tries").read_text() == "xx"
    # Resumed by somebody, and paused again: there is no last word.
    line_up_again(job.folder, 0.0)
    end_job(job.folder, State.PAUSED)
    thread.follow(job.folder)
    thread.conclude(job.folder)
    assert thread.wait(10)
    assert (job.folder / "tries").read_text() == "xx"
    thread.close()


def test_a_second_worker_refuses(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segcore.worker.service.LOCK_SECONDS", 0.1)
    with worker_lock(workspace), pytest.raises(JobError, match="Another worker"):
        run_worker(workspace)


def test_a_worker_ends_with_whom_it_follows(workspace: Workspace) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert main(["serve", "--workspace", str(workspace.root), "--follow", str(gone.pid)]) == 0


def test_a_line_goes_on_after_an_error(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[..., None]
) -> None:
    looks: list[str] = []

    def fail_first(*_: Any) -> list[Job]:
        looks.append("look")
        if len(looks) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return []

    monkeypatch.setattr(line_module, "list_jobs", fail_first)
    monkeypatch.setattr(line_module, "ORPHANS_SECONDS", 0.0)
    monkeypatch.setattr(line_module, "IDLE_SECONDS", 0.01)
    slot = Slot("train", "cpu", ("cpu",))
    line = Line(workspace, slot, following.FollowingThread(workspace), Notifier(workspace))
    line.start()
    wait_until(lambda: len(looks) > 2)
    line.end()
    assert line.join(10)


def test_a_full_disk_at_the_end_of_a_job_does_not_hide_how_it_ended(
    workspace: Workspace, job: Job, train_with: Callable[[Train], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(child._LoggedReporter, "__call__", full)
        full()

    train_with(fail)
    assert child.work(job.folder, workspace) == 1
    ended = read_job(job.folder)
    assert (ended.state, ended.message) == (State.FAILED, "The disk is full.")


def test_ensure_worker_starts_one_and_only_one(
    workspace: Workspace, job: Job, wait_until: Callable[..., None]
) -> None:
    start_job(job.folder)  # a job whose process is gone: this one has not its id in its command line
    assert ensure_worker(workspace)
    wait_until(lambda: worker_alive(workspace))
    assert not ensure_worker(workspace)
    # Interrupted, resumed by itself, and failed for want of images.
    wait_until(lambda: read_job(job.folder).state is State.FAILED, 60)
    assert read_job(job.folder).attempts == 2
    (worker,) = (process for process in psutil.Process().children() if "segcore.worker" in process.cmdline())
    worker.terminate()
    wait_until(lambda: not worker_alive(workspace))


def test_the_child_environment_shields_from_the_users_folder(tmp_path: Path) -> None:
    (tmp_path / "random.py").write_text("raise SystemExit('the wrong random was imported')")
    command = [sys.executable, "-c", "import segcore.worker, random; print(random.__file__)"]
    found = subprocess.run(
        command, cwd=tmp_path, env=child_environment(), capture_output=True, check=True, text=True
    )
    assert str(tmp_path) not in found.stdout


def test_stop_before_the_process_begins_is_a_cancellation(job: Job) -> None:
    assert ask(job.folder, Request.STOP).state is State.CANCELLED
    assert asked(job.folder) is not None
