"""The worker service: one line of trainings, one of segmentations, each job in a process of its own."""

from __future__ import annotations

import json
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from segcore.errors import JobError
from segcore.events import Request
from segcore.files import write_atomic
from segcore.jobs.queue import LINES, JobQueue, reconcile
from segcore.jobs.store import Kind, State, ask, list_jobs, read_job
from segcore.jobs.supervisor import adopt_job, is_supervised, job_process, run_job, worker_lock
from segcore.tracking.mlflow import pending
from segcore.worker.following import FollowingThread
from segcore.worker.signals import StopSignals
from segcore.workspace import Workspace

logger = logging.getLogger(__name__)

IDLE_SECONDS = 0.5
RECONCILE_SECONDS = 30.0
LOCK_SECONDS = 3.0
END_SECONDS = 90.0
"""How long jobs that were asked to stop may take when the worker ends."""


def run_worker(workspace: Workspace, follow: int | None = None) -> None:
    """Work the queue of a workspace until SIGINT or SIGTERM.

    Parameters
    ----------
    workspace : Workspace
        The workspace to serve; it has one worker at a time.
    follow : int, optional
        Process id: the worker ends when this process is gone and no job is running or queued.

    Raises
    ------
    JobError
        Another worker serves the workspace.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s worker: %(message)s")
    # huey's own lines say nothing that ours do not.
    logging.getLogger("huey").setLevel(logging.WARNING)
    stop = threading.Event()
    with StopSignals(lambda count: stop.set()):
        while True:
            lock = _take_lock(workspace)
            try:
                _serve(workspace, follow, stop)
            finally:
                lock.release()
            # A job that was submitted while we made up our mind to go saw a worker alive, and started none.
            if stop.is_set() or not _has_work(workspace):
                return


def _take_lock(workspace: Workspace) -> FileLock:
    lock = worker_lock(workspace)
    try:
        # Not at once: a process that only looks whether a worker is alive holds the lock for an instant.
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout as error:
        raise JobError(
            f"Another worker serves {workspace.root} already.",
            "Nothing needs to be done; jobs are being worked.",
        ) from error
    content = {"pid": os.getpid(), "host": socket.gethostname(), "started": time.time()}
    write_atomic(workspace.state / "worker.json", json.dumps(content))
    return lock


def _serve(workspace: Workspace, follow: int | None, stop: threading.Event) -> None:
    following = FollowingThread(workspace)
    lines = {kind: Line(workspace, kind, following) for kind in LINES}
    with ExitStack() as stack:
        stack.callback(following.close)
        for job in reconcile(workspace):
            logger.info(
                "%s was %s by a restart", job.id, "put in line again" if not job.state.ended else job.state
            )
        _catch_up(workspace, following)
        for line in lines.values():
            line.start()
        logger.info("ready: %s", workspace.root)
        reconciled = time.monotonic()
        while not stop.wait(IDLE_SECONDS):
            if follow is not None and not psutil.pid_exists(follow) and not _has_work(workspace):
                break
            if time.monotonic() - reconciled > RECONCILE_SECONDS:
                with _survived("looking for jobs that were left alone"):
                    reconcile(workspace)
                    _catch_up(workspace, following)
                reconciled = time.monotonic()
        for line in lines.values():
            line.end()
        deadline = time.monotonic() + END_SECONDS
        for line in lines.values():
            line.join(max(0.0, deadline - time.monotonic()))
        following.wait(10.0)


def _has_work(workspace: Workspace) -> bool:
    return any(not job.state.ended and job.owner == "worker" for job in list_jobs(workspace))


def _catch_up(workspace: Workspace, following: FollowingThread) -> None:
    """Tell MLflow the rest about trainings that ended while nobody could."""
    for folder in pending(workspace):
        with suppress(JobError):  # deleted a moment ago
            if read_job(folder).state.ended:
                following.conclude(folder)


@contextmanager
def _survived(doing: str) -> Iterator[None]:
    """Log an error and go on: a full disk or a deleted folder must not end the worker and all other jobs."""
    try:
        yield
    except Exception:
        logger.exception("Something went wrong while %s.", doing)


class Line:
    """The thread that works the jobs of one kind, one after the other."""

    def __init__(self, workspace: Workspace, kind: Kind, following: FollowingThread) -> None:
        self.workspace = workspace
        self.kind: Kind = kind
        self.following = following
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name=LINES[kind])

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def end(self) -> None:
        """Take no more jobs, and ask the one at work to stop and keep."""
        self._ending.set()

    def join(self, timeout: float) -> None:
        """Wait for the job at work."""
        self._thread.join(timeout)

    def _work(self) -> None:
        with JobQueue(self.workspace, self.kind, self._run) as queue:
            looked = float("-inf")
            while not self._ending.is_set():
                worked = False
                with _survived(f"working the {LINES[self.kind]}"):
                    if time.monotonic() - looked > RECONCILE_SECONDS:
                        looked = time.monotonic()
                        self._adopt_orphans()
                    worked = queue.work_next()
                if not worked:
                    self._ending.wait(IDLE_SECONDS)

    def _adopt_orphans(self) -> None:
        """Watch running jobs whose supervisor died to their end, before another one is begun."""
        for job in list_jobs(self.workspace, self.kind):
            if job.state is State.RUNNING and job_process(job) is not None and not is_supervised(job.folder):
                logger.info("%s is running without a supervisor: adopted", job.id)
                self._watch(job.folder, adopted=True)

    def _run(self, folder: Path) -> None:
        if self._ending.is_set():
            return  # it goes on waiting; the next worker puts it in line again
        # It may have been cancelled, deleted or lined up twice since.
        if (folder / "job.json").exists() and read_job(folder).state is State.QUEUED:
            logger.info("%s begins", folder.name)
            self._watch(folder, adopted=False)

    def _watch(self, folder: Path, adopted: bool) -> None:
        def pass_on_stop() -> None:
            # A job whose process has not begun yet is left waiting: the next worker takes it.
            if self._ending.is_set() and read_job(folder).state is State.RUNNING:
                ask(folder, Request.STOP)

        self.following.follow(folder)
        job = adopt_job(folder, pass_on_stop) if adopted else run_job(folder, self.workspace, pass_on_stop)
        logger.info("%s %s %s", job.id, job.state, job.message)
        self.following.conclude(folder)
