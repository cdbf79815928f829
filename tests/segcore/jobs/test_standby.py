"""Processes that wait for a job: what they save is time, what they must not cost is a job."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from segcore.jobs import standby as standby_module
from segcore.jobs import supervisor
from segcore.jobs.process import job_process
from segcore.jobs.standby import Standby
from segcore.jobs.store import Job, State, read_job, update_job
from segcore.jobs.supervisor import Where, is_lost, run_job
from segcore.memory import Memory
from segcore.workspace import Workspace

MakeJob = Callable[..., Job]
Fake = Callable[..., list[str]]

READY = """
import json, os, sys, time
from pathlib import Path
from segcore.jobs.store import State, end_job, start_job
if os.environ.get("BROKEN"):
    sys.exit(3)
for order in sys.stdin:
    told = json.loads(order)
    folder = Path(told["folder"])
    job = start_job(folder, sys.argv[1])
    shown = told["environment"].get("CUDA_VISIBLE_DEVICES", "all")
    (folder / "done").write_text(f"ready {os.getpid()} {shown}")
    while (folder / "hold").exists():
        time.sleep(0.02)
    end_job(folder, State.FAILED if (folder / "fail").exists() else State.FINISHED)
    if job.kind == "train" or (folder / "fail").exists():
        break
"""
FRESH = "start_job(folder); (folder / 'done').write_text('fresh'); end_job(folder, State.FINISHED)"
PLENTY, LITTLE = Memory(16 * 10**9, 12 * 10**9), Memory(16 * 10**9, 10**9)


@pytest.fixture
def memory() -> list[Memory]:
    """Return the memory there is, in a list to change it."""
    return [PLENTY]


@pytest.fixture
def standby(memory: list[Memory], fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Iterator[Standby]:
    """Return a stock of processes that need no torch; a new process is told from them by what it writes."""
    monkeypatch.setattr(standby_module, "ready_command", lambda mark: [sys.executable, "-c", READY, mark])
    monkeypatch.setattr(standby_module, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(standby_module, "NEXT_SECONDS", 0.0)
    monkeypatch.setattr(standby_module, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(supervisor, "job_command", lambda folder, _: fake(FRESH, folder))
    stock = Standby(lambda: memory[0])
    yield stock
    stock.close()


def done(job: Job, workspace: Workspace, standby: Standby, device: str = "cpu") -> list[str]:
    """Run a job to its end and return who did it."""
    assert run_job(job.folder, workspace, where=Where(device, standby)).state is State.FINISHED
    return (job.folder / "done").read_text().split()


def alive(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    return True


def test_segmentations_follow_each_other_in_one_process(
    workspace: Workspace, make_job: MakeJob, standby: Standby
) -> None:
    assert done(make_job("predict"), workspace, standby) == ["fresh"]  # nothing was in stock
    standby.tend()
    first = done(make_job("predict"), workspace, standby)
    assert first[0] == "ready"
    assert done(make_job("predict"), workspace, standby) == first
    # Another device is another process: this one may have its memory there.
    standby.tend()
    other = done(make_job("predict"), workspace, standby, "cuda:1")
    assert (other[0], other[2], other[1] != first[1]) == ("ready", "1", True)
    assert done(make_job("predict"), workspace, standby) == first
    # A training has its GPU for itself.
    assert done(make_job("train"), workspace, standby, "cuda:1") == ["fresh"]
    assert (alive(first[1]), alive(other[1])) == (True, False)
    standby.close()
    assert not alive(first[1])


def test_a_training_has_its_process_for_itself(
    workspace: Workspace, make_job: MakeJob, standby: Standby, memory: list[Memory]
) -> None:
    standby.tend()
    segmented = done(make_job("predict"), workspace, standby)
    standby.tend()
    trained = done(make_job("train"), workspace, standby)
    assert trained[0] == "ready"
    assert (alive(trained[1]), alive(segmented[1])) == (False, True)
    memory[0] = LITTLE
    assert done(make_job("train"), workspace, standby) == ["fresh"]
    assert not alive(segmented[1]), "a model is kept in memory that a training needs"


def test_nothing_is_kept_for_ever_or_where_memory_is_short(
    workspace: Workspace,
    make_job: MakeJob,
    standby: Standby,
    memory: list[Memory],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    standby.tend()
    segmented = done(make_job("predict"), workspace, standby)
    monkeypatch.setattr(standby_module, "KEEP_SECONDS", 0.0)
    standby.tend()
    assert not alive(segmented[1])
    memory[0] = LITTLE
    standby.tend()
    assert done(make_job("predict"), workspace, standby) == ["fresh"]


def test_a_process_that_fails_costs_no_job(
    workspace: Workspace, make_job: MakeJob, standby: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKEN", "1")
    standby.tend()
    assert done(make_job("predict"), workspace, standby) == ["fresh"]
    monkeypatch.delenv("BROKEN")
    standby.prepare()
    job = make_job("predict")
    (job.folder / "fail").touch()
    assert run_job(job.folder, workspace, where=Where("cpu", standby)).state is State.FAILED
    # After a failure nobody knows what state it is in.
    assert not alive((job.folder / "done").read_text().split()[1])
    assert done(make_job("predict"), workspace, standby) == ["fresh"]


def test_a_process_that_does_not_begin_is_given_up(
    workspace: Workspace, make_job: MakeJob, standby: Standby, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standby_module, "BEGIN_SECONDS", 0.2)
    hanging = [sys.executable, "-c", "import time; time.sleep(60)"]
    monkeypatch.setattr(standby_module, "ready_command", lambda mark: [*hanging, mark])
    standby.prepare()
    assert done(make_job("predict"), workspace, standby) == ["fresh"]


def test_a_killed_process_takes_only_its_job_with_it(
    workspace: Workspace, make_job: MakeJob, standby: Standby, wait_until: Callable[..., None]
) -> None:
    standby.tend()
    job = make_job("predict")
    (job.folder / "hold").touch()
    where = {"where": Where("cpu", standby)}
    thread = threading.Thread(target=run_job, args=(job.folder, workspace), kwargs=where)
    thread.start()
    wait_until(lambda: (job.folder / "done").exists())
    running = read_job(job.folder)
    process = job_process(running)
    assert process is not None
    assert process.pid == running.pid
    # The number alone proves nothing: after a reboot another process has it.
    assert is_lost(update_job(job.folder, mark=running.mark[:-1]))
    update_job(job.folder, mark=running.mark)
    os.kill(process.pid, signal.SIGKILL)
    thread.join(30)
    ended = read_job(job.folder)
    assert (ended.state, "killed" in ended.message) == (State.INTERRUPTED, True)
    assert done(make_job("predict"), workspace, standby) == ["fresh"]
