"""The supervisor: starts a job's process, watches it to its end, and says what happened if it dies."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from segcore.events import EndEvent
from segcore.jobs.journal import FolderReporter
from segcore.jobs.store import Job, State, asked, end_job, read_job
from segcore.workspace import Workspace

POLL_SECONDS = 0.3
BEAT_SECONDS = 5.0
STALE_SECONDS = 120.0
"""A job on another host whose supervisor has been silent for so long is taken for lost."""
STOP_SECONDS = 60.0
"""How long a job may take to stop and keep, before it is ended."""
KILL_SECONDS = 10.0


def _nothing() -> None:
    """Do nothing: the default of `on_poll`."""


def run_job(
    folder: Path,
    workspace: Workspace,
    on_poll: Callable[[], None] = _nothing,
    command: Sequence[str] | None = None,
    grace: float = STOP_SECONDS,
) -> Job:
    """Run a waiting job as a child process and return when it is over.

    Parameters
    ----------
    folder : Path
        The run folder. A job that does not wait any more (cancelled, taken by another worker) is left alone.
    workspace : Workspace
        The workspace of the job.
    on_poll : callable
        Called about three times a second while the job runs, and once at the end.
    command : sequence of str, optional
        The child's command line; by default `python -m segcore.worker run FOLDER --workspace ROOT`.
    grace : float
        Seconds a job that was asked to stop may take before it is ended by force.

    Returns
    -------
    Job
        How it ended.
    """
    try:
        with _supervision(folder):
            if read_job(folder).state is not State.QUEUED:
                return read_job(folder)
            child = _start(folder, command or job_command(folder, workspace))
            if child is None:
                return read_job(folder)
            forced = _watch(child, folder, on_poll, grace)
            code: int | None = child.returncode
            other = job_process(read_job(folder))
            if other is not None:
                # A process started by a supervisor that died was faster than ours: it is the job.
                forced, code = _watch(other, folder, on_poll, grace), None
            job = _conclude(folder, code, forced)
    except Timeout:
        return read_job(folder)
    on_poll()
    return job


def adopt_job(folder: Path, on_poll: Callable[[], None] = _nothing, grace: float = STOP_SECONDS) -> Job:
    """Watch a running job whose supervisor died, until it ends. One that is supervised is left alone."""
    try:
        with _supervision(folder):
            process = job_process(read_job(folder))
            if process is None:
                return read_job(folder)
            forced = _watch(process, folder, on_poll, grace)
            job = _conclude(folder, None, forced)
    except Timeout:
        return read_job(folder)
    on_poll()
    return job


def job_command(folder: Path, workspace: Workspace) -> list[str]:
    """Return the command line that does the work of a job."""
    return [sys.executable, "-m", "segcore.worker", "run", str(folder), "--workspace", str(workspace.root)]


def job_process(job: Job) -> psutil.Process | None:
    """Return the living process of a running job of this host, or None.

    A process counts only if the job's id stands in its command line: after a reboot another one may have its
    number.
    """
    if job.state is not State.RUNNING or job.pid is None or job.host != socket.gethostname():
        return None
    try:
        process = psutil.Process(job.pid)
        named = any(job.id in part for part in process.cmdline())
        return process if named and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        return process


def is_supervised(folder: Path) -> bool:
    """Say whether some process watches the job at this moment."""
    return _is_locked(folder / ".supervisor.lock")


def is_lost(job: Job) -> bool:
    """Say whether a running job has lost its process; on another host, whether its supervisor fell silent."""
    if job.host == socket.gethostname():
        return job_process(job) is None
    try:
        beat = (job.folder / ".heartbeat").stat().st_mtime
    except OSError:
        beat = job.started or job.created
    return time.time() - beat > STALE_SECONDS


def kill_job(folder: Path) -> None:
    """End the job's process and all it started at once; its supervisor writes down that it was killed."""
    process = job_process(read_job(folder))
    if process is not None:
        kill_tree(process)


def kill_tree(process: psutil.Process) -> None:
    """Kill a process and everything it started."""
    try:
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue


def child_environment() -> dict[str, str]:
    """Return the environment for our own Python processes.

    They find this very package wherever they are started, and never take a `random.py` of the user's folder
    for the standard one.
    """
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    root = Path(__file__).resolve().parents[2]
    if not {"site-packages", "dist-packages"} & set(root.parts):
        paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


def worker_lock(workspace: Workspace) -> FileLock:
    """Return the lock a worker of the workspace holds as long as it lives."""
    return FileLock(workspace.state / "worker.lock")


def worker_alive(workspace: Workspace) -> bool:
    """Say whether a worker serves the workspace."""
    return _is_locked(workspace.state / "worker.lock")


def ensure_worker(workspace: Workspace) -> bool:
    """Start a worker that outlives the calling process only for work in hand, unless a worker is there.

    Cheap enough to be called after every submitted job. Returns whether one was started.
    """
    if worker_alive(workspace):
        return False
    command = [sys.executable, "-m", "segcore.worker", "serve", "--workspace", str(workspace.root)]
    with (workspace.state / "worker.log").open("ab") as log:
        worker = _spawn([*command, "--follow", str(os.getpid())], log.fileno())
    # Somebody has to wait for it, or it stays a zombie for as long as the web server lives.
    threading.Thread(target=worker.wait, name="worker-reaper", daemon=True).start()
    return True


def _is_locked(path: Path) -> bool:
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def _supervision(folder: Path) -> FileLock:
    return FileLock(folder / ".supervisor.lock", timeout=0)


def _start(folder: Path, command: Sequence[str]) -> psutil.Popen | None:
    try:
        with (folder / "log.txt").open("ab") as log:
            return _spawn(command, log.fileno())
    except OSError as error:
        remedy = "Close other programs, check the disk, and start it again."
        end_job(folder, State.FAILED, f"The job's process could not be started: {error.strerror}.", remedy)
        return None


def _spawn(command: Sequence[str], output: int) -> psutil.Popen:
    return psutil.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=child_environment(),
        # A session of its own: Ctrl-C in the terminal, or the end of whoever started it, does not reach it.
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )


def _watch(process: psutil.Process, folder: Path, on_poll: Callable[[], None], grace: float) -> bool:
    """Wait for the end of a process; return whether it had to be ended by force after a stop request."""
    beat = since = float("-inf")
    terminated = False
    while _is_running(process):
        now = time.monotonic()
        if now - beat > BEAT_SECONDS:
            (folder / ".heartbeat").touch()
            beat = now
        if asked(folder) is not None:
            since = now if since == float("-inf") else since
            if now - since > grace + KILL_SECONDS:
                kill_tree(process)
            elif now - since > grace and not terminated:
                process.terminate()
                terminated = True
        on_poll()
        try:
            process.wait(POLL_SECONDS)
        except psutil.TimeoutExpired:
            continue
    return terminated


def _is_running(process: psutil.Process) -> bool:
    if isinstance(process, psutil.Popen):
        return process.poll() is None
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _conclude(folder: Path, code: int | None, forced: bool) -> Job:
    """Return the end state the job wrote, or write one for a process that died before it could."""
    job = read_job(folder)
    if job.state.ended:
        return job
    kept = " The best model so far was kept." if (folder / "best_model.pth").exists() else ""
    if (asked(folder) is not None) and (forced or code in (-signal.SIGTERM, _SIGKILL)):
        state, message, remedy = State.CANCELLED, f"Stopped by force.{kept}", ""
    else:
        state = State.FAILED if code is not None else State.INTERRUPTED
        message, remedy = _cause(code)
        message += kept
    with suppress(OSError):  # on a full disk, room is left for what matters most: the state
        FolderReporter(folder)(EndEvent(state=state, text=message))
    return end_job(folder, state, message, remedy)


_SIGKILL = -9  # Windows has no signal.SIGKILL


def _cause(code: int | None) -> tuple[str, str]:
    if code == _SIGKILL:
        return (
            "The job's process was killed, probably because memory ran out.",
            "Use a smaller batch size, patch size or number of features, or close other programs.",
        )
    if code is None:
        return "The job's process ended without a word.", "Look at the end of its log, then start it again."
    how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    return f"The job's process ended unexpectedly {how}.", "Look at the end of its log, then start it again."
