"""The worker service: on every device a line of trainings and one of segmentations."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import psutil
from filelock import FileLock, Timeout

from segcore.errors import JobError
from segcore.jobs.recovery import reconcile, resumes_itself
from segcore.jobs.standby import Standby
from segcore.jobs.store import list_jobs, read_job
from segcore.jobs.tokens import LINES, QueueUnreachable, Tokens
from segcore.jobs.workers import announce_worker, worker_lock
from segcore.tracking.mlflow import pending
from segcore.worker.following import FollowingThread
from segcore.worker.line import Line
from segcore.worker.notify import Notifier
from segcore.worker.signals import StopSignals
from segcore.worker.slots import Slot, detect_devices
from segcore.workspace import Workspace

logger = logging.getLogger(__name__)

IDLE_SECONDS = 0.5
RECONCILE_SECONDS = 30.0
LOCK_SECONDS = 3.0
END_SECONDS = 90.0
"""How long jobs may take to save their state when the worker ends."""


def run_worker(workspace: Workspace, follow: int | None = None, devices: tuple[str, ...] = ()) -> None:
    """Work the queue of a workspace until SIGINT or SIGTERM.

    Parameters
    ----------
    workspace : Workspace
        The workspace to serve; it has one worker at a time on every host.
    follow : int, optional
        Process id: the worker ends when this process is gone and no job is running or queued.
    devices : tuple of str
        Devices to work on, `cpu`, `cuda:0` …: each runs a training and a segmentation at a time. By default
        what is there.

    Raises
    ------
    JobError
        Another worker of this host serves the workspace, or SEGCORE_QUEUE_URL is no address of a queue.
    """
    with suppress(QueueUnreachable), Tokens(workspace, "train"):
        pass  # a server that does not answer is waited for, an address that can never work is told at once
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s worker: %(message)s")
    # huey's own lines say nothing that ours do not.
    logging.getLogger("huey").setLevel(logging.WARNING)
    devices = devices or detect_devices()
    stop = threading.Event()
    with StopSignals(lambda name, count: stop.set()):
        while True:
            lock = _take_lock(workspace)
            try:
                announce_worker(workspace, devices)
                _serve(workspace, follow, devices, stop)
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
            "Nothing needs to be done; jobs are being worked. On another machine of the same name, set "
            "SEGCORE_HOST.",
        ) from error
    return lock


def _serve(workspace: Workspace, follow: int | None, devices: tuple[str, ...], stop: threading.Event) -> None:
    following, notifier, standby = FollowingThread(workspace), Notifier(workspace), Standby()
    lines = [
        Line(workspace, Slot(kind, device, devices), following, notifier, standby)
        for kind in LINES
        for device in devices
    ]
    with ExitStack() as stack:
        stack.callback(following.close)
        stack.callback(notifier.close)
        stack.callback(standby.close)
        _put_right(workspace, following, notifier)
        for line in lines:
            line.start()
        logger.info("ready: %s on %s", workspace.root, ", ".join(devices))
        reconciled = time.monotonic()
        while not stop.wait(IDLE_SECONDS):
            if follow is not None and not psutil.pid_exists(follow) and not _has_work(workspace):
                break
            if time.monotonic() - reconciled > RECONCILE_SECONDS:
                _put_right(workspace, following, notifier)
                reconciled = time.monotonic()
            with _survived("looking after the processes that wait"):
                standby.tend()
        for line in lines:
            line.end()
        deadline = time.monotonic() + END_SECONDS
        for line in lines:
            if not line.join(max(0.0, deadline - time.monotonic())):
                logger.warning("%s: its job has not ended yet and goes on alone", line.slot.name)
        following.wait(10.0)


def _put_right(workspace: Workspace, following: FollowingThread, notifier: Notifier) -> None:
    """Find jobs that were left alone, and tell MLflow and the webhook what they have missed."""
    with _survived("looking for jobs that were left alone"):
        try:
            for job in reconcile(workspace):
                logger.info("%s was left alone and is %s now", job.id, job.state)
        except QueueUnreachable as error:
            logger.warning("%s", error)
        for folder in pending(workspace):
            with suppress(JobError):  # deleted a moment ago
                if read_job(folder).state.ended:
                    following.conclude(folder)
        notifier.catch_up()


def _has_work(workspace: Workspace) -> bool:
    jobs = list_jobs(workspace)
    return any((not job.state.ended and job.owner == "worker") or resumes_itself(job) for job in jobs)


@contextmanager
def _survived(doing: str) -> Iterator[None]:
    """Log an error and go on: a full disk or a deleted folder must not end the worker and all other jobs."""
    try:
        yield
    except Exception:
        logger.exception("Something went wrong while %s.", doing)
