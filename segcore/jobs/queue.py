"""The queue: one line for trainings, one for segmentations; loses no job over a restart."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from huey import SqliteHuey
from huey.registry import Message
from huey.serializer import Serializer

from segcore.config import RunConfig
from segcore.errors import JobError
from segcore.jobs.store import Job, Kind, State, create_job, end_job, list_jobs
from segcore.jobs.supervisor import is_lost, is_supervised
from segcore.workspace import Workspace

LINES: dict[Kind, str] = {"train": "trainings", "predict": "segmentations"}
START_SECONDS = 60.0
"""How long a command may take between making a job's folder and starting its process."""


class _JsonSerializer(Serializer):
    """Queue entries as JSON: huey's default is pickle, and nothing that lies in a workspace is unpickled."""

    def _serialize(self, data: Message) -> bytes:
        return json.dumps(list(data)).encode()

    def _deserialize(self, data: bytes) -> Message:
        return Message(*json.loads(data))


def _only_enqueue(folder: Path) -> None:
    raise JobError(f"{folder} was taken from a queue that is only written to.", "Start `segcore worker`.")


class JobQueue:
    """The run folders of one kind that wait, in order.

    Parameters
    ----------
    workspace : Workspace
        Its state folder holds the queue.
    kind : {"train", "predict"}
        The line to stand in.
    run : callable, optional
        What `work_next` does with a run folder; without it, the queue is only written to.
    """

    def __init__(self, workspace: Workspace, kind: Kind, run: Callable[[Path], None] = _only_enqueue) -> None:
        self.root = workspace.root
        self._huey = SqliteHuey(
            LINES[kind],
            filename=str(workspace.state / "queue.db"),
            results=False,
            serializer=_JsonSerializer(),
            timeout=30,
            strict_fifo=True,
        )

        def run_job(relative: str) -> None:
            run(self.root / relative)

        self._task = self._huey.task(name="run_job")(run_job)

    def __enter__(self) -> JobQueue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database connection of the calling thread."""
        self._huey.storage.close()

    def put(self, folder: Path) -> None:
        """Put a run folder at the end of the line."""
        # Relative, so that a workspace that was moved while jobs waited goes on where it lies now.
        self._task(folder.relative_to(self.root).as_posix())

    def waiting(self) -> list[Path]:
        """Return the run folders in line, the next one first."""
        items: list[Any] = self._huey.storage.enqueued_items()
        return [self.root / self._huey.deserialize_task(item).args[0] for item in items]

    def work_next(self) -> bool:
        """Take the next run folder out of the line and run it to its end; False if none waits."""
        task = self._huey.dequeue()
        if task is None:
            return False
        self._huey.execute(task)
        return True


def submit(workspace: Workspace, kind: Kind, config: RunConfig, parent: str = "", group: str = "") -> Job:
    """Make a job and put it at the end of its line; `parent` and `group` as in `create_job`.

    Raises
    ------
    JobError
        The run folder or the queue cannot be written.
    """
    job = create_job(workspace, kind, config, parent=parent, group=group)
    try:
        with JobQueue(workspace, kind) as queue:
            queue.put(job.folder)
    except sqlite3.Error as error:
        remedy = f"Check that there is disk space and that {workspace.state} may be written to."
        end_job(job.folder, State.FAILED, f"The job could not be queued: {error}.", remedy)
        raise JobError(f"The job could not be queued: {error}.", remedy) from error
    return job


def reconcile(workspace: Workspace) -> list[Job]:
    """Make folders and queue agree again after a crash or a reboot.

    Jobs that wait without standing in line are put in line again; running jobs whose process is gone are
    marked as interrupted.

    Returns
    -------
    list of Job
        The jobs that were put in line or marked, oldest first.
    """
    touched = []
    open_jobs = [job for job in reversed(list_jobs(workspace)) if not job.state.ended]
    for kind in LINES:
        with JobQueue(workspace, kind) as queue:
            lined_up = set(queue.waiting())
            for job in (job for job in open_jobs if job.kind == kind and not is_supervised(job.folder)):
                if job.state is State.RUNNING and is_lost(job):
                    touched.append(
                        _interrupt(job, "Its process is gone; the computer may have been restarted.")
                    )
                elif job.state is State.QUEUED and job.owner == "worker" and job.folder not in lined_up:
                    queue.put(job.folder)
                    touched.append(job)
                elif job.state is State.QUEUED and job.owner == "command" and _is_abandoned(job):
                    touched.append(_interrupt(job, "The command that made it ended before it began."))
    return touched


def _is_abandoned(job: Job) -> bool:
    return time.time() - job.created > START_SECONDS


def _interrupt(job: Job, message: str) -> Job:
    kept = (job.folder / "best_model.pth").exists()
    remedy = "The best model so far was kept; use it, or start the run again." if kept else "Start it again."
    return end_job(job.folder, State.INTERRUPTED, message, remedy)
