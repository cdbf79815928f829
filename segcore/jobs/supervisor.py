"""The supervisor: starts a job's process, watches it to its end, and says what happened if it dies."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from segcore.events import EndEvent, Request
from segcore.jobs.host import this_host
from segcore.jobs.journal import FolderReporter
from segcore.jobs.process import (
    explain_death,
    is_running,
    is_spread,
    job_command,
    job_process,
    kill_tree,
    memory_kills,
    spawn,
    visible_devices,
)
from segcore.jobs.standby import Standby
from segcore.jobs.store import Job, State, asked, end_job, read_job, update_job
from segcore.workspace import Workspace

POLL_SECONDS = 0.3
BEAT_SECONDS = 5.0
STALE_SECONDS = 120.0
"""A job on another host that has been silent for so long is taken for lost."""
STOP_SECONDS = 300.0
"""How long a job may take to do what it was asked to, before it is ended by force: a step may be long."""
DISCARD_SECONDS = 10.0
"""The same where nothing has to be saved."""
KILL_SECONDS = 10.0
LOCK_SECONDS = 0.3
"""A process that only looks whether a job is supervised holds its lock for an instant."""


def _nothing() -> None:
    """Do nothing: the default of `on_poll`."""


def _staying() -> bool:
    """Return False: the default of `leaving`, and of a process that does one job only."""
    return False


@dataclass(frozen=True)
class Where:
    """Where a job runs.

    Parameters
    ----------
    device : str
        `cuda:1` shows the process that GPU alone; anything else leaves the choice.
    standby : Standby, optional
        Processes that wait for a job; without one of them, or where it fails, a new one is started.
    """

    device: str = ""
    standby: Standby | None = None


ANYWHERE = Where()


def run_job(
    folder: Path,
    workspace: Workspace,
    on_poll: Callable[[], None] = _nothing,
    command: Sequence[str] | None = None,
    grace: float = STOP_SECONDS,
    leaving: Callable[[], bool] = _staying,
    where: Where = ANYWHERE,
) -> Job:
    """Run a waiting job as a child process and return when it is over.

    Parameters
    ----------
    folder : Path
        The run folder. A job that does not wait any more (cancelled, taken by another worker) is left alone.
    workspace : Workspace
        The workspace of the job.
    on_poll : callable
        Called about three times a second while the job runs, and once at the end; never if it is left alone.
    command : sequence of str, optional
        The child's command line; by default `python -m segcore.worker run FOLDER --workspace ROOT`.
    grace : float
        Seconds a job that was asked to pause or stop may take before it is ended by force.
    leaving : callable
        Once it returns True, the job is told to save and end as interrupted, because its machine goes down.
    where : Where
        The device, and processes that wait for a job.

    Returns
    -------
    Job
        How it ended.
    """
    try:
        with _supervision(folder):
            waiting = read_job(folder)
            if waiting.state is not State.QUEUED:
                return waiting
            kills = memory_kills()
            update_job(folder, device=where.device)
            done = None if command else _hand_over(waiting, workspace, on_poll, leaving, where, grace)
            if done is None:
                child = _start(folder, command or job_command(folder, workspace), where.device)
                if child is None:
                    return read_job(folder)
                done = _watch(child, folder, on_poll, grace, leaving), child.returncode
            forced, code = done
            other = job_process(read_job(folder))
            if other is not None:
                # A process started by a supervisor that died was faster than ours: it is the job.
                forced, code = _watch(other, folder, on_poll, grace, leaving), None
            for_memory = None if kills is None else (memory_kills() or 0) > kills
            job = _conclude(folder, waiting.attempts + 1, code, forced, for_memory)
    except Timeout:
        return read_job(folder)
    on_poll()
    return job


def adopt_job(
    folder: Path,
    on_poll: Callable[[], None] = _nothing,
    grace: float = STOP_SECONDS,
    leaving: Callable[[], bool] = _staying,
) -> Job:
    """Watch a running job whose supervisor died, until it ends. One that is supervised is left alone."""
    try:
        with _supervision(folder):
            job = read_job(folder)
            process = job_process(job)
            if process is None:
                return read_job(folder)
            forced = _watch(process, folder, on_poll, grace, leaving)
            job = _conclude(folder, job.attempts, None, forced, None)
    except Timeout:
        return read_job(folder)
    on_poll()
    return job


def is_supervised(folder: Path) -> bool:
    """Say whether some process watches the job at this moment."""
    try:
        with FileLock(folder / ".supervisor.lock", timeout=0):
            return False
    except Timeout:
        return True


def is_lost(job: Job) -> bool:
    """Say whether a running job has lost its process; on another host, whether all of it fell silent."""
    if job.host == this_host():
        return job_process(job) is None
    signs = [job.started or job.created]
    for name in (".heartbeat", "progress.json"):
        with suppress(OSError):
            signs.append((job.folder / name).stat().st_mtime)
    return time.time() - max(signs) > STALE_SECONDS


def end_dead(job: Job, message: str, remedy: str, forced: bool = False, failed: bool = False) -> Job:
    """Write how a job ended whose process died before it could say so.

    What somebody had asked for is honoured. A training that was to stop and keep, and can go on, becomes
    interrupted: it needs another moment to write its results.

    Parameters
    ----------
    job : Job
        The job, as it was last seen.
    message, remedy : str
        What happened, and what to do.
    forced : bool
        Whether its supervisor ended it because it did not obey.
    failed : bool
        Whether it would only fail again.
    """
    request = asked(job.folder)
    kept = " The best model so far was kept." if (job.folder / "best_model.pth").exists() else ""
    state = State.FAILED if failed else State.INTERRUPTED
    if request is Request.DISCARD:
        state, message, remedy = State.DISCARDED, "Discarded.", ""
    elif request is Request.PAUSE:
        state, message, remedy = State.PAUSED, f"Paused; resumed, it {job.resumption}.", ""
    elif request is Request.STOP and (forced or failed or not job.has_checkpoint):
        state, message, remedy = State.CANCELLED, f"Stopped by force.{kept}", ""
    else:
        message += kept
    with suppress(OSError):  # on a full disk, room is left for what matters most: the state
        FolderReporter(job.folder)(EndEvent(state=state, text=message))
    return end_job(job.folder, state, message, remedy, job.attempts)


def _supervision(folder: Path) -> FileLock:
    return FileLock(folder / ".supervisor.lock", timeout=LOCK_SECONDS)


def _hand_over(
    job: Job,
    workspace: Workspace,
    on_poll: Callable[[], None],
    leaving: Callable[[], bool],
    where: Where,
    grace: float,
) -> tuple[bool, int | None] | None:
    """Let a process that waits do the job; None if there is none, or it fails before it has begun.

    Returns
    -------
    tuple, optional
        Whether it had to be ended by force, and its exit code if it has ended by itself.
    """
    if is_spread(job):
        return None  # what it leaves behind may see other GPUs than the next job may
    ready = where.standby.take(job.kind, where.device) if where.standby else None
    if where.standby is None or ready is None:
        return None
    if not ready.hand(job, workspace, visible_devices(job, where.device)):
        ready.end()
        return None
    forced = _watch(ready.process, job.folder, on_poll, grace, leaving, ready.has_left(job))
    code: int | None = ready.process.poll()
    now = read_job(job.folder)
    if job.kind == "predict" and now.state is State.FINISHED and ready.lives:
        where.standby.keep(where.device, ready)
    else:
        ready.end()
        now = read_job(job.folder)  # it may have begun while it was given up
    begun = now.state is not State.QUEUED or now.attempts > job.attempts
    return (forced, code) if begun or leaving() else None


def _start(folder: Path, command: Sequence[str], device: str) -> psutil.Popen | None:
    try:
        with (folder / "log.txt").open("ab") as log:
            return spawn(command, log.fileno(), visible_devices(read_job(folder), device))
    except OSError as error:
        remedy = "Close other programs, check the disk, and start it again."
        end_job(folder, State.FAILED, f"The job's process could not be started: {error.strerror}.", remedy)
        return None


def _watch(
    process: psutil.Process,
    folder: Path,
    on_poll: Callable[[], None],
    grace: float,
    leaving: Callable[[], bool],
    left: Callable[[], bool] = _staying,
) -> bool:
    """Wait for the end of a process, or until it has left the job behind.

    Returns
    -------
    bool
        Whether it had to be ended by force after a request.
    """
    force = _Force(process, grace)
    beat = float("-inf")
    told: float | None = None
    while is_running(process) and not left():
        now = time.monotonic()
        if now - beat > BEAT_SECONDS:
            (folder / ".heartbeat").touch()
            beat = now
            if _is_anothers(folder, process):
                kill_tree(process)
        force.apply(asked(folder), now)
        if leaving() and told is None:
            told = now
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        elif told is not None and now - told > grace + KILL_SECONDS:
            kill_tree(process)
        on_poll()
        try:
            process.wait(POLL_SECONDS)
        except psutil.TimeoutExpired:
            continue
    return force.terminated


class _Force:
    """Ends a process that does not do what it was asked: first politely, then not."""

    def __init__(self, process: psutil.Process, grace: float) -> None:
        self.terminated = False
        self._process = process
        self._grace = grace
        self._request: Request | None = None
        self._since = 0.0

    def apply(self, request: Request | None, now: float) -> None:
        """Take note of what is asked at this moment, and use force if it has been asked for too long."""
        if request is not self._request:
            self._request, self._since = request, now
        if request is None:
            return
        grace = min(self._grace, DISCARD_SECONDS) if request is Request.DISCARD else self._grace
        waited = now - self._since
        if waited > grace + KILL_SECONDS:
            kill_tree(self._process)
        elif waited > grace and not self.terminated:
            self.terminated = True
            with suppress(psutil.NoSuchProcess):
                self._process.terminate()


def _is_anothers(folder: Path, process: psutil.Process) -> bool:
    """Say whether another process does the job: this host was silent for so long that it was given up."""
    job = read_job(folder)
    return job.state is State.RUNNING and (job.host, job.pid) != (this_host(), process.pid)


def _conclude(folder: Path, attempt: int, code: int | None, forced: bool, for_memory: bool | None) -> Job:
    """Return the end state the job wrote, or write one for a process that died before it could."""
    job = read_job(folder)
    if job.state.ended or job.attempts > attempt:
        return job
    if job.state is State.QUEUED and (job.attempts == attempt or code in (0, None)):
        return job  # somebody has resumed it since its end, or it was left to another process
    if job.state is State.QUEUED:
        # It counts as an attempt, so that a process that can never begin is not started for ever.
        job = update_job(folder, started=time.time(), attempts=attempt)
    return end_dead(job, *explain_death(code, for_memory), forced, failed=code is not None and code >= 0)
