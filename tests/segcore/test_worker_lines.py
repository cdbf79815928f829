"""The lines of a worker: which device a job gets, and several hosts that work one queue."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from segcore.config import build_config
from segcore.errors import ConfigError, JobError
from segcore.jobs import supervisor
from segcore.jobs.host import this_host
from segcore.jobs.process import child_environment
from segcore.jobs.queue import submit
from segcore.jobs.store import Job, State, list_jobs, read_job, update_job
from segcore.jobs.tokens import Tokens
from segcore.jobs.workers import announce_worker, live_workers, worker_alive, worker_lock
from segcore.worker import line as line_module
from segcore.worker.following import FollowingThread
from segcore.worker.line import Line
from segcore.worker.notify import Notifier
from segcore.worker.service import run_worker
from segcore.worker.slots import Slot, detect_devices, parse_devices
from segcore.workspace import Workspace

GPUS = ("cuda:0", "cuda:1", "cpu")
SHOW = """
start_job(folder)
shown = [os.environ.get("CUDA_VISIBLE_DEVICES", "all"), read_job(folder).device, read_job(folder).host]
(folder / "shown").write_text(" ".join(shown))
end_job(folder, State.FINISHED)
"""
HOST = """
import sys
from pathlib import Path
from segcore.jobs import standby, supervisor
from segcore.worker import line, service
from segcore.workspace import Workspace
job = '''
import os, sys, time
from pathlib import Path
from segcore.jobs.store import State, end_job, read_job, start_job
folder = Path(sys.argv[1])
job = start_job(folder)
if job.pid == os.getpid():
    with (folder / "runs").open("a") as runs:
        runs.write(job.host + " ")
    while (folder / "hold").exists():
        time.sleep(0.02)
    end_job(folder, State.FINISHED, attempt=job.attempts)
'''
supervisor.job_command = lambda folder, _: [sys.executable, "-c", job, str(folder)]
supervisor.BEAT_SECONDS, supervisor.STALE_SECONDS, service.RECONCILE_SECONDS = 0.2, 4.0, 0.3
line.IDLE_SECONDS = line.UNFIT_SECONDS = 0.1
standby.FIRST_SECONDS = 1e9  # a process that waits would do the real work
service.run_worker(Workspace.open(sys.argv[1]), devices=("cpu",))
"""


def job_on(workspace: Workspace, device: str, kind: str = "predict") -> Job:
    config = build_config({"session": "fake", "hardware": {"device": device}})
    return submit(workspace, "train" if kind == "train" else "predict", config)


def tokens(workspace: Workspace) -> int:
    with Tokens(workspace, "predict") as these:
        return these.count()


@pytest.fixture
def start_line(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Line]]:
    """Return a function that starts a line for segmentations; it ends with the test."""
    monkeypatch.setattr(line_module, "IDLE_SECONDS", 0.02)
    monkeypatch.setattr(line_module, "UNFIT_SECONDS", 0.02)
    lines: list[Line] = []

    def start(device: str = "cpu", devices: tuple[str, ...] = ("cpu",)) -> Line:
        slot = Slot("predict", device, devices)
        lines.append(Line(workspace, slot, FollowingThread(workspace), Notifier(workspace)))
        lines[-1].start()
        return lines[-1]

    yield start
    for line in lines:
        line.end()
        assert line.join(20)


@pytest.fixture
def start_host(workspace: Workspace) -> Iterator[Callable[[str], subprocess.Popen[bytes]]]:
    """Return a function that starts the worker of another host, in a process group of its own."""
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str) -> subprocess.Popen[bytes]:
        environment = {**child_environment(), "SEGCORE_HOST": name}
        command = [sys.executable, "-c", HOST, str(workspace.root)]
        with (workspace.state / f"{name}.txt").open("ab") as log:
            started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
        return started[-1]

    yield start
    for process in started:
        process.terminate()
    for process in started:
        process.wait(30)


@pytest.mark.parametrize(
    ("slot", "devices", "elsewhere", "fitting"),
    [
        ("cpu", ("cpu",), False, {"auto", "cpu", "cuda", "mps"}),
        ("cpu", ("cpu",), True, {"auto", "cpu", "mps"}),  # the host with a GPU takes what wants one
        ("cpu", GPUS, False, {"cpu"}),
        ("cuda:1", GPUS, False, {"auto", "cuda", "mps"}),
    ],
)
def test_a_job_goes_where_its_device_is(
    slot: str, devices: tuple[str, ...], elsewhere: bool, fitting: set[str], workspace: Workspace
) -> None:
    names = ("auto", "cpu", "cuda", "mps")
    place = Slot("predict", slot, devices)
    assert {name for name in names if place.fits(job_on(workspace, name), elsewhere)} == fitting


def test_a_queue_at_an_address_that_can_never_work_is_told_at_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEGCORE_QUEUE_URL", "http://queue.example.org")
    with pytest.raises(JobError, match="no address of a Redis server"):
        run_worker(workspace)
    assert not worker_alive(workspace)


def test_devices_are_counted_without_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    said = "GPU 0: H100 (UUID: GPU-1)\n  MIG 1g.10gb Device 0: (UUID: MIG-1)\nGPU 1: H100 (UUID: GPU-2)"
    assert detect_devices(["echo", said]) == GPUS
    assert detect_devices([str(tmp_path / "no-such-program")]) == ("cpu",)
    assert detect_devices(["false"]) == ("cpu",)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, GPU-1f")
    assert detect_devices() == ("cuda:2", "cuda:GPU-1f", "cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert detect_devices() == ("cpu",)


def test_devices_are_named_as_torch_names_them() -> None:
    assert parse_devices("cuda:1, cpu") == ("cuda:1", "cpu")
    for wrong in ("gpu", "cuda", "cuda:", "cpu,cpu", ""):
        with pytest.raises(ConfigError):
            parse_devices(wrong)


def test_a_job_sees_only_the_device_of_its_slot(
    workspace: Workspace,
    fake: Callable[..., list[str]],
    start_line: Callable[..., Line],
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., None],
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("SEGCORE_HOST", "lab 1/α")
    monkeypatch.setattr(supervisor, "job_command", lambda folder, _: fake(SHOW, folder))
    on_cpu, on_gpu = job_on(workspace, "cpu"), job_on(workspace, "auto")
    start_line("cuda:1", GPUS)
    wait_until(lambda: read_job(on_gpu.folder).state is State.FINISHED)
    assert (on_gpu.folder / "shown").read_text() == "1 cuda:1 lab-1"
    assert (read_job(on_cpu.folder).state, tokens(workspace)) == (State.QUEUED, 1)
    start_line("cpu", GPUS)
    wait_until(lambda: read_job(on_cpu.folder).state is State.FINISHED)
    assert (on_cpu.folder / "shown").read_text() == "all cpu lab-1"


def test_spare_tokens_are_dropped(
    workspace: Workspace, start_line: Callable[..., Line], wait_until: Callable[..., None]
) -> None:
    with Tokens(workspace, "predict") as these:
        these.put(5)
    start_line()
    wait_until(lambda: tokens(workspace) == 0)


@pytest.mark.redis
def test_a_line_waits_for_a_queue_that_is_away(
    workspace: Workspace,
    fake: Callable[..., list[str]],
    start_line: Callable[..., Line],
    redis_server: Any,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("SEGCORE_QUEUE_URL", redis_server.url)
    monkeypatch.setattr(supervisor, "job_command", lambda folder, _: fake(SHOW, folder))
    caplog.set_level("INFO")
    start_line()
    redis_server.kill()
    wait_until(lambda: "waiting for the queue" in caplog.text)
    redis_server.start()
    wait_until(redis_server.answers)
    job = job_on(workspace, "cpu")
    wait_until(lambda: read_job(job.folder).state is State.FINISHED)
    assert caplog.text.count("waiting for the queue") == 1
    wait_until(lambda: "answers again" in caplog.text)  # said once the job's line is free again
    assert not [record for record in caplog.records if record.exc_info]


def test_every_host_has_a_worker_of_its_own(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not worker_alive(workspace)
    monkeypatch.setenv("SEGCORE_HOST", "alpha")
    with worker_lock(workspace):
        announce_worker(workspace, GPUS)
        monkeypatch.setenv("SEGCORE_HOST", "beta")
        assert this_host() == "beta"
        assert worker_alive(workspace)  # somebody works the queue
        with worker_lock(workspace):
            announce_worker(workspace, ("cpu",))
            assert [(info.host, info.has_gpu) for info in live_workers(workspace)] == [
                ("alpha", True),
                ("beta", False),
            ]
        assert [info.host for info in live_workers(workspace)] == ["alpha"]
    assert not worker_alive(workspace)


@pytest.mark.redis
def test_two_hosts_work_one_queue_and_take_over_from_each_other(
    workspace: Workspace,
    start_host: Callable[[str], subprocess.Popen[bytes]],
    redis_server: Any,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., None],
) -> None:
    monkeypatch.setenv("SEGCORE_QUEUE_URL", redis_server.url)
    held = [job_on(workspace, "cpu") for _ in range(2)]
    for job in held:
        (job.folder / "hold").touch()
    rest = [job_on(workspace, "cpu") for _ in range(4)]
    workers = {name: start_host(name) for name in ("alpha", "beta")}
    # Both work: each holds one of the first two.
    wait_until(lambda: {read_job(job.folder).host for job in held} == set(workers), 60)
    wait_until(lambda: all((job.folder / "runs").exists() for job in held))

    # One host goes down, with all its processes.
    (silent,) = (read_job(job.folder) for job in held if read_job(job.folder).host == "alpha")
    workers["alpha"].kill()
    os.kill(silent.pid or 0, signal.SIGKILL)
    workers["alpha"].wait()
    for job in held:
        (job.folder / "hold").unlink()
    wait_until(lambda: all(job.state is State.FINISHED for job in list_jobs(workspace)), 60)

    runs = {job.id: (job.folder / "runs").read_text().split() for job in [*held, *rest]}
    assert runs.pop(silent.id) == ["alpha", "beta"]
    assert [len(hosts) for hosts in runs.values()] == [1] * 5
    assert read_job(silent.folder).attempts == 2


def test_a_job_of_a_host_that_speaks_is_not_taken_over(
    workspace: Workspace,
    start_host: Callable[[str], subprocess.Popen[bytes]],
    wait_until: Callable[..., None],
) -> None:
    job, other = job_on(workspace, "cpu"), job_on(workspace, "cpu")
    (job.folder / "hold").touch()
    start_host("alpha")
    wait_until(lambda: read_job(job.folder).state is State.RUNNING, 60)
    start_host("beta")
    wait_until(lambda: read_job(other.folder).state is State.FINISHED, 60)
    # The other host has looked several times by now, and the first has beaten its heart past the limit.
    beat = job.folder / ".heartbeat"
    began = beat.stat().st_mtime
    wait_until(lambda: beat.stat().st_mtime > began + 5, 60)
    assert (read_job(job.folder).state, read_job(job.folder).attempts) == (State.RUNNING, 1)
    (job.folder / "hold").unlink()
    wait_until(lambda: read_job(job.folder).state is State.FINISHED)
    assert (job.folder / "runs").read_text().split() == ["alpha"]


def test_a_supervisor_ends_a_process_whose_job_another_host_has_taken_over(
    workspace: Workspace,
    fake: Callable[..., list[str]],
    start_line: Callable[..., Line],
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Callable[..., None],
) -> None:
    monkeypatch.setattr(supervisor, "BEAT_SECONDS", 0.05)
    monkeypatch.setattr(
        supervisor, "job_command", lambda folder, _: fake("start_job(folder); time.sleep(60)", folder)
    )
    job = job_on(workspace, "cpu")
    start_line()
    wait_until(lambda: read_job(job.folder).state is State.RUNNING)
    pid = read_job(job.folder).pid or 0
    update_job(job.folder, host="elsewhere", pid=1, attempts=2)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    assert (read_job(job.folder).state, read_job(job.folder).host) == (State.RUNNING, "elsewhere")
