"""The supervisor: whatever becomes of the process, the run folder says what happened."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from segcore.events import EndEvent, Request
from segcore.jobs import supervisor
from segcore.jobs.journal import read_events, read_log
from segcore.jobs.process import child_environment, job_process, kill_job
from segcore.jobs.store import Job, State, ask, read_job, start_job, update_job
from segcore.jobs.supervisor import adopt_job, is_lost, is_supervised, run_job
from segcore.jobs.workers import worker_alive, worker_lock
from segcore.workspace import Workspace

MakeJob = Callable[..., Job]

FINISH = "start_job(folder); print('hello from the job', flush=True); end_job(folder, State.FINISHED)"
WAIT = """
start_job(folder)
while asked(folder) is None:
    time.sleep(0.02)
end_job(folder, State.CANCELLED, 'stopped')
"""
STUBBORN = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
start_job(folder)
time.sleep(60)
"""


class Supervision:
    """`run_job` in a thread."""

    def __init__(self, job: Job, workspace: Workspace, command: list[str], grace: float = 60) -> None:
        self.folder = job.folder
        self.result: Job | None = None
        self.polls = 0
        self._thread = threading.Thread(target=self._run, args=(workspace, command, grace))
        self._thread.start()

    def _run(self, workspace: Workspace, command: list[str], grace: float) -> None:
        self.result = run_job(self.folder, workspace, self._poll, command, grace)

    def _poll(self) -> None:
        self.polls += 1

    def ended(self) -> Job:
        """Wait for the end and return how it was."""
        self._thread.join(30)
        assert self.result is not None, "the supervisor did not come back"
        return self.result


@pytest.fixture
def detached() -> Iterator[Callable[[list[str]], subprocess.Popen[bytes]]]:
    """Start processes that are ours to clean up."""
    started: list[subprocess.Popen[bytes]] = []

    def start(command: list[str]) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(command, env=child_environment()))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def running(folder: Path) -> bool:
    return read_job(folder).state is State.RUNNING


def test_a_job_runs_to_its_end(
    workspace: Workspace, make_job: MakeJob, fake: Callable[..., list[str]]
) -> None:
    job = make_job()
    supervision = Supervision(job, workspace, fake(FINISH, job.folder))
    ended = supervision.ended()
    assert (ended.state, ended.pid) == (State.FINISHED, None)
    assert "hello from the job" in read_log(job.folder)
    assert supervision.polls >= 2  # while it ran, and after its end
    assert not is_supervised(job.folder)


@pytest.mark.parametrize(("kills", "likely"), [((7, 8), True), ((7, 7), False), ((None, None), True)])
def test_a_killed_process_is_an_interruption_with_a_likely_cause(
    kills: tuple[int | None, int | None],
    likely: bool,
    workspace: Workspace,
    make_job: MakeJob,
    fake: Callable[..., list[str]],
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = iter(kills)
    monkeypatch.setattr(supervisor, "memory_kills", lambda: next(counted))
    job = make_job()
    supervision = Supervision(job, workspace, fake(WAIT, job.folder))
    wait_until(lambda: running(job.folder))
    os.kill(read_job(job.folder).pid or 0, signal.SIGKILL)
    ended = supervision.ended()
    assert ended.state is State.INTERRUPTED
    assert ("memory" in ended.message, "batch size" in ended.remedy) == (likely, likely)
    last = list(read_events(job.folder))[-1]
    assert isinstance(last, EndEvent)
    assert last.state == State.INTERRUPTED


def test_a_process_that_dies_before_it_begins_is_a_failure(
    workspace: Workspace, make_job: MakeJob, fake: Callable[..., list[str]]
) -> None:
    job = make_job()
    ended = run_job(job.folder, workspace, command=fake("sys.exit(3)", job.folder))
    assert ended.state is State.FAILED
    assert "exit code 3" in ended.message


def test_a_command_that_does_not_exist_is_a_failure(workspace: Workspace, make_job: MakeJob) -> None:
    ended = run_job(make_job().folder, workspace, command=["/does/not/exist"])
    assert ended.state is State.FAILED
    assert "could not be started" in ended.message


def test_a_job_cancelled_while_it_waited_is_not_begun(
    workspace: Workspace, make_job: MakeJob, fake: Callable[..., list[str]]
) -> None:
    job = make_job()
    ask(job.folder, Request.STOP)
    ended = run_job(job.folder, workspace, command=fake(FINISH, job.folder))
    assert ended.state is State.CANCELLED
    assert read_log(job.folder) == ""


def test_a_job_that_stops_on_request_says_so_itself(
    workspace: Workspace, make_job: MakeJob, fake: Callable[..., list[str]], wait_until: Callable[..., None]
) -> None:
    job = make_job()
    supervision = Supervision(job, workspace, fake(WAIT, job.folder))
    wait_until(lambda: running(job.folder))
    ask(job.folder, Request.STOP)
    assert (supervision.ended().state, supervision.ended().message) == (State.CANCELLED, "stopped")


def test_a_job_that_does_not_stop_is_ended_by_force(
    workspace: Workspace,
    make_job: MakeJob,
    fake: Callable[..., list[str]],
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor, "KILL_SECONDS", 0.3)
    job = make_job()
    (job.folder / "best_model.pth").touch()
    supervision = Supervision(job, workspace, fake(STUBBORN, job.folder), grace=0.2)
    wait_until(lambda: running(job.folder))
    ask(job.folder, Request.STOP)
    ended = supervision.ended()
    assert ended.state is State.CANCELLED
    assert "by force" in ended.message
    assert "best model so far was kept" in ended.message


def test_kill_job_takes_the_whole_family(
    workspace: Workspace, make_job: MakeJob, fake: Callable[..., list[str]], wait_until: Callable[..., None]
) -> None:
    job = make_job()
    sleep = "subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    code = f"import subprocess\nstart_job(folder)\n{sleep}"
    supervision = Supervision(job, workspace, fake(code, job.folder))
    wait_until(lambda: running(job.folder))
    process = job_process(read_job(job.folder))
    assert process is not None
    wait_until(lambda: bool(process.children()))
    (grandchild,) = process.children()
    kill_job(job.folder)
    assert supervision.ended().state is State.INTERRUPTED
    wait_until(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)


def test_a_job_outlives_its_supervisor_and_is_adopted(
    workspace: Workspace,
    make_job: MakeJob,
    fake: Callable[..., list[str]],
    wait_until: Callable[..., None],
    detached: Callable[[list[str]], subprocess.Popen[bytes]],
) -> None:
    job = make_job()
    code = (
        "import sys; from pathlib import Path\n"
        "from segcore.jobs.supervisor import run_job; from segcore.workspace import Workspace\n"
        "run_job(Path(sys.argv[1]), Workspace(Path(sys.argv[2])), command=sys.argv[3:])"
    )
    command = [sys.executable, "-c", code, str(job.folder), str(workspace.root), *fake(WAIT, job.folder)]
    watcher = detached(command)
    wait_until(lambda: running(job.folder))
    assert is_supervised(job.folder)
    watcher.kill()
    watcher.wait()
    wait_until(lambda: not is_supervised(job.folder))
    assert job_process(read_job(job.folder)) is not None

    adopted = threading.Thread(target=adopt_job, args=(job.folder,))
    adopted.start()
    wait_until(lambda: is_supervised(job.folder))
    # Somebody watches it: not our business. Watching it as well would last until somebody stops it.
    assert adopt_job(job.folder).state is State.RUNNING
    ask(job.folder, Request.STOP)
    adopted.join(30)
    assert (read_job(job.folder).state, read_job(job.folder).message) == (State.CANCELLED, "stopped")


def test_the_process_of_a_job_is_known_by_its_command_line(make_job: MakeJob) -> None:
    job = start_job(make_job().folder)
    # This process is alive and has the right number, but the job's id is not in its command line.
    assert job.pid == os.getpid()
    assert job_process(job) is None
    assert is_lost(job)


def test_a_job_of_another_host_is_lost_when_its_heart_stops(make_job: MakeJob) -> None:
    job = start_job(make_job().folder)
    job = update_job(job.folder, host=f"not-{socket.gethostname()}")
    beat = job.folder / ".heartbeat"
    beat.touch()
    assert not is_lost(job)
    old = time.time() - supervisor.STALE_SECONDS - 1
    os.utime(beat, (old, old))
    assert not is_lost(job)  # it has just begun
    job = update_job(job.folder, started=old)
    assert is_lost(job)
    (job.folder / "progress.json").touch()
    assert not is_lost(job)  # it works, though nobody watches it


def test_a_worker_is_alive_while_it_holds_the_lock(workspace: Workspace) -> None:
    assert not worker_alive(workspace)
    with worker_lock(workspace):
        assert worker_alive(workspace)
    assert not worker_alive(workspace)
