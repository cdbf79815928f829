"""Tokens: what lies in the queue. One says that a job of its kind waits; the folders say which is next."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from segcore.errors import JobError
from segcore.jobs.store import Kind
from segcore.workspace import Workspace

ENVIRONMENT = "SEGCORE_QUEUE_URL"
LINES: dict[Kind, str] = {"train": "trainings", "predict": "segmentations"}


class QueueUnreachable(JobError):
    """The queue cannot be read or written at this moment."""


def job_waits() -> None:
    """Be the task of a token: the worker that takes one looks into the run folders instead of calling it."""


class Tokens:
    """The tokens of one kind of jobs: in SQLite in the workspace, or in Redis at `$SEGCORE_QUEUE_URL`.

    A token too many is harmless: whoever takes it finds no job that waits and drops it. One too few is put in
    by the next `reconcile`. So no crash between two steps can lose a job or run it twice.

    Parameters
    ----------
    workspace : Workspace
        Its state folder holds the SQLite queue, and its identity names the keys on a Redis server.
    kind : {"train", "predict"}
        Which jobs.

    Raises
    ------
    QueueUnreachable
        Here and in every method: the database or the server does not answer.
    """

    def __init__(self, workspace: Workspace, kind: Kind) -> None:
        self._place = os.environ.get(ENVIRONMENT, "")
        self._remedy = (
            "Check that the Redis server runs and that SEGCORE_QUEUE_URL is right."
            if self._place
            else f"Check that there is disk space and that {workspace.state} may be written to."
        )
        # Half a second of imports, Redis among them: only who really asks the queue waits for it.
        from segcore.jobs.huey_store import open_store

        with self._reachable():
            self._huey = open_store(workspace, LINES[kind], self._place)
        self._task = self._huey.task(name="job_waits")(job_waits)

    def __enter__(self) -> Tokens:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        storage = self._huey.storage
        if self._place:
            storage.pool.disconnect()
        else:
            storage.close()

    def put(self, count: int = 1) -> None:
        """Put tokens in."""
        with self._reachable():
            for _ in range(count):
                self._task()

    def take(self) -> bool:
        """Take a token out; False if there is none."""
        with self._reachable():
            # What it says does not matter; one of an earlier version counts as well.
            return self._huey.storage.dequeue() is not None

    def count(self) -> int:
        """Return how many there are."""
        with self._reachable():
            return int(self._huey.storage.queue_size())

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        errors: tuple[type[Exception], ...] = (sqlite3.Error, *_redis_errors(self._place))
        try:
            yield
        except errors as error:
            what = "The queue on the Redis server" if self._place else "The queue"
            reason = str(error).rstrip(".")
            raise QueueUnreachable(f"{what} cannot be reached: {reason}.", self._remedy) from error


def _redis_errors(url: str) -> tuple[type[Exception], ...]:
    if not url:
        return ()
    # A tenth of a second of imports that only those with a server pay for.
    from redis.exceptions import RedisError

    return (RedisError, ValueError)
