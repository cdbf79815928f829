"""A line of jobs: the thread of one slot, which takes the next job that fits and watches it to its end."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from functools import partial

from segcore.errors import SegcoreError
from segcore.jobs.host import this_host
from segcore.jobs.process import job_process
from segcore.jobs.queue import next_job, waiting
from segcore.jobs.recovery import recover
from segcore.jobs.standby import Standby
from segcore.jobs.store import Job, State, list_jobs
from segcore.jobs.supervisor import Where, adopt_job, is_supervised, run_job
from segcore.jobs.tokens import QueueUnreachable, Tokens
from segcore.jobs.workers import live_workers
from segcore.worker.following import FollowingThread
from segcore.worker.notify import Notifier
from segcore.worker.slots import Slot
from segcore.workspace import Workspace

logger = logging.getLogger(__name__)

IDLE_SECONDS = 0.5
UNFIT_SECONDS = 2.0
"""How long to wait where jobs wait that cannot run here."""
ORPHANS_SECONDS = 30.0


class Line:
    """The thread that works the jobs of one slot, one after the other.

    Parameters
    ----------
    workspace : Workspace
        The workspace of the jobs.
    slot : Slot
        Kind of the jobs and the device they run on.
    following : FollowingThread
        Tells MLflow about them.
    notifier : Notifier
        Tells a webhook how they ended.
    standby : Standby, optional
        Processes that wait for a job.
    """

    def __init__(
        self,
        workspace: Workspace,
        slot: Slot,
        following: FollowingThread,
        notifier: Notifier,
        standby: Standby | None = None,
    ) -> None:
        self.workspace = workspace
        self.slot = slot
        self._following = following
        self._notifier = notifier
        self._standby = standby
        self._ending = threading.Event()
        self._looked = float("-inf")
        self._begun = False
        # Of no use beyond the worker: a job that does not end in time goes on, and is adopted by the next.
        self._thread = threading.Thread(target=self._work, name=slot.name, daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def end(self) -> None:
        """Take no more jobs, and tell the one at work to save its state and end as interrupted."""
        self._ending.set()

    def join(self, timeout: float) -> bool:
        """Wait for the job at work; False if it has not ended in time."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        answers = True
        while not self._ending.is_set():
            try:
                with Tokens(self.workspace, self.slot.kind) as tokens:
                    while not self._ending.is_set():
                        pause = self._step(tokens)
                        if not answers:
                            logger.info("%s: the queue answers again", self.slot.name)
                        answers = True
                        self._ending.wait(pause)
            except QueueUnreachable as error:
                if answers:
                    logger.warning("%s: waiting for the queue. %s", self.slot.name, error.message)
                answers = False
            except Exception:
                # A full disk or a deleted folder must not end the worker and all other jobs.
                logger.exception("Something went wrong while working %s.", self.slot.name)
            self._ending.wait(IDLE_SECONDS)

    def _step(self, tokens: Tokens) -> float:
        """Run a job if there is one that fits; return how many seconds to wait before the next look."""
        if time.monotonic() - self._looked > ORPHANS_SECONDS:
            self._looked = time.monotonic()
            self._adopt_orphans()
        # Watching an orphan may have taken hours: told to end meanwhile, the worker begins nothing more.
        if self._ending.is_set() or not tokens.count():
            return IDLE_SECONDS
        job = self._next()
        if job is None:
            self._drop_spare(tokens)
            return UNFIT_SECONDS
        if not tokens.take():
            return IDLE_SECONDS
        if not self._run(job):
            tokens.put()  # another slot was faster: the token is for the next job
        return 0.0

    def _next(self) -> Job | None:
        elsewhere = any(
            worker.has_gpu for worker in live_workers(self.workspace) if worker.host != this_host()
        )
        return next_job(self.workspace, self.slot.kind, lambda job: self.slot.fits(job, elsewhere))

    def _drop_spare(self, tokens: Tokens) -> None:
        kind = self.slot.kind
        # Looked again after the taking: a job may have come in between.
        if not waiting(self.workspace, kind) and tokens.take() and waiting(self.workspace, kind):
            tokens.put()

    def _adopt_orphans(self) -> None:
        """Watch running jobs whose supervisor died to their end, before another one is begun."""
        for job in list_jobs(self.workspace, self.slot.kind):
            if job.state is not State.RUNNING or not self._is_ours(job):
                continue
            if self._ending.is_set():
                return
            if job_process(job) is not None and not is_supervised(job.folder):
                logger.info("%s is running without a supervisor: adopted", job.id)
                self._begun = False
                ended = adopt_job(job.folder, partial(self._on_poll, job), leaving=self._ending.is_set)
                self._after(ended)

    def _is_ours(self, job: Job) -> bool:
        known = job.device in self.slot.devices
        return job.device == self.slot.device if known else self.slot.device == self.slot.devices[0]

    def _run(self, job: Job) -> bool:
        """Run a job to its end; return whether it was ours to run."""
        self._begun = False
        ended = run_job(
            job.folder,
            self.workspace,
            partial(self._on_poll, job),
            leaving=self._ending.is_set,
            where=Where(self.slot.device, self._standby),
        )
        self._after(ended)
        return self._begun

    def _on_poll(self, job: Job) -> None:
        if not self._begun:
            self._begun = True
            logger.info("%s begins on %s", job.id, self.slot.device)
            self._notifier.expect(job.folder)
            self._following.follow(job.folder)

    def _after(self, job: Job) -> None:
        if not self._begun:
            return
        logger.info("%s %s %s", job.id, job.state, job.message)
        if job.state is State.INTERRUPTED and not self._ending.is_set():
            with suppress(SegcoreError):  # deleted meanwhile
                if recover(self.workspace, job).state is State.QUEUED:
                    logger.info("%s goes on by itself", job.id)
        self._following.conclude(job.folder)
        self._notifier.tell(job.folder)
