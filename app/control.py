"""Control: what the page may do with jobs: pause, stop, discard, resume, put in another order."""

from __future__ import annotations

from segcore.errors import JobError
from segcore.events import Request
from segcore.jobs import queue
from segcore.jobs import store as jobs
from segcore.jobs.store import Job, Kind, State
from segcore.jobs.workers import ensure_worker
from segcore.workspace import Workspace

KINDS: tuple[Kind, ...] = ("train", "predict")


class Control:
    """Acts on the jobs of a workspace, whoever started them. All it does is written into their folders.

    Parameters
    ----------
    workspace : Workspace
        The workspace of the jobs.
    worker : bool
        Start a worker process when a job waits and none is there.
    """

    def __init__(self, workspace: Workspace, worker: bool = True) -> None:
        self._workspace = workspace
        self._worker = worker

    # One job ----

    def pause(self, identity: str) -> Job:
        """Ask a job to save everything and free its device; one that waits is taken out of the line.

        Raises
        ------
        JobError
            There is no such job, or it is over.
        """
        job = self._find(identity)
        if job.state.ended:
            raise _over(job)
        return jobs.ask(job.folder, Request.PAUSE)

    def stop(self, identity: str) -> Job:
        """Ask a job to end and keep what it has, also one that is paused; JobError if it is over."""
        job = self._find(identity)
        if job.state.final:
            raise _over(job)
        job = queue.stop(self._workspace, job.folder)
        # One that was paused needs a moment of a device to write its results.
        self.wake()
        return job

    def discard(self, identity: str) -> Job:
        """Throw away what a job made; one at work is asked to end first. JobError if it is finished."""
        return queue.discard(self._workspace, self._find(identity).folder)

    def resume(self, identity: str) -> Job:
        """Put a job that was paused, interrupted, stopped or failed in line again, to go on where it was.

        Raises
        ------
        JobError
            It is under way, finished or discarded.
        """
        job = queue.resume(self._workspace, self._find(identity).folder)
        self.wake()
        return job

    def drop(self, identity: str) -> Job:
        """Take a job out of the line for good; one that has begun before keeps what it has reached.

        Raises
        ------
        JobError
            It does not wait (any more).
        """
        job = self._waiting(identity)
        return self.stop(identity) if job.attempts else self.discard(identity)

    def move(self, identity: str, place: int) -> Job:
        """Give a job that waits another place in its line, 1 for the next to run; JobError if it runs."""
        return queue.move(self._workspace, self._waiting(identity), place)

    def shift(self, identity: str, steps: int) -> Job:
        """Move a job that waits by some places, a negative number towards the front; JobError if it runs."""
        job = self._waiting(identity)
        line = [other.id for other in self.waiting(job.kind)]
        place = line.index(identity) + 1 + steps if identity in line else 1
        return queue.move(self._workspace, job, max(1, place))

    # All jobs ----

    def running(self) -> list[Job]:
        """Return the jobs at work, of both kinds, the oldest first."""
        found = [job for job in jobs.list_jobs(self._workspace) if job.state is State.RUNNING]
        return sorted(found, key=lambda job: (job.started or job.created, job.id))

    def waiting(self, kind: Kind) -> list[Job]:
        """Return the jobs of one kind that wait, the next one first."""
        return queue.waiting(self._workspace, kind)

    def held(self) -> list[Job]:
        """Return the jobs that are paused or interrupted, the last one first."""
        found = [
            job for job in jobs.list_jobs(self._workspace) if job.state in (State.PAUSED, State.INTERRUPTED)
        ]
        return sorted(found, key=lambda job: (job.ended or job.created, job.id), reverse=True)

    def wake(self) -> None:
        """Start a worker if jobs wait or run, and the app may start one."""
        if self._worker and any(not job.state.ended for job in jobs.list_jobs(self._workspace)):
            ensure_worker(self._workspace)

    def _find(self, identity: str) -> Job:
        return jobs.find_job(self._workspace, identity)

    def _waiting(self, identity: str) -> Job:
        job = self._find(identity)
        if job.state is not State.QUEUED:
            raise JobError(f"The job {identity} does not wait any more: it is {job.state}.", "")
        return job


def _over(job: Job) -> JobError:
    return JobError(f"The job {job.id} is already {job.state}.", "Look at it in the tab Runs.")
