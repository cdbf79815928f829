"""Prediction on a Dask cluster: groups of blocks go to workers, which write them; what is done is noted here.

The workers write to the same work files as one process would; this process only hands out groups, a few
for every worker at a time, so that an image of any size makes few tasks. Rocklin 2015, "Dask: parallel
computation with blocked algorithms and task scheduling".
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from segcore.blocks import Block
from segcore.config import RunConfig
from segcore.devices import Hardware, versions
from segcore.errors import JobError, SegcoreError
from segcore.events import NoteEvent, Reporter, StageEvent
from segcore.inference.assignment import Assignment, Result
from segcore.inference.cluster_start import Started, check_cluster, start_cluster

if TYPE_CHECKING:
    from distributed import Client, Future

AHEAD = 2
"""Groups of blocks for every worker at a time: one is computed, the next one is there already."""
POLL_SECONDS = 0.3
LOOK_SECONDS = 2.0
"""How often somebody looks which workers there are."""
WAIT_SECONDS = 300.0
"""How long a cluster may be without workers, unless they wait in a queue of their own."""
END_SECONDS = 120.0
"""How long groups that have begun may take to end."""


class Cluster:
    """The workers of one segmentation; they start when the first image is ready for them.

    Parameters
    ----------
    config : RunConfig
        `inference.cluster` says what kind of cluster; see `cluster_start`.
    hardware : Hardware
        The device of this process: workers should have the same.
    report : Reporter
        Told of workers and the address of the dashboard.
    folder : Path
        A folder that all workers see.
    """

    def __init__(self, config: RunConfig, hardware: Hardware, report: Reporter, folder: Path) -> None:
        self._config = config
        self._hardware = hardware
        self._report = report
        self._folder = folder
        self._name = f"segcore-{uuid.uuid4().hex[:12]}"
        self._stack = ExitStack()
        self._started: Started | None = None
        self._seen: dict[str, int] = {}
        self._looked = self._alive = 0.0

    def predict(
        self,
        assignment: Assignment,
        groups: Iterable[list[Block]],
        take: Callable[[Result], None],
        check: Callable[[], None],
    ) -> None:
        """Predict and write groups of blocks; returns when all are on the disk.

        Parameters
        ----------
        assignment : Assignment
            The image.
        groups : iterable of list of Block
            What is to be predicted together.
        take : callable
            Told of blocks that are on the disk, with the pixels of every class in them.
        check : callable
            Called again and again; may raise to break off. What has begun by then ends, and `take` is told.

        Raises
        ------
        JobError
            The workers are lost, differ from this process, or died again and again over the same blocks.
        DataError
            A plane cannot be read.
        """
        check()
        client, assignment = self._start(), assignment.anywhere()
        waiting = ([block.number for block in group] for group in groups)
        ended: SimpleQueue[Future] = SimpleQueue()
        pending: set[Future] = set()
        try:
            while True:
                for numbers in islice(waiting, max(0, self._window() - len(pending))):
                    pending.add(self._submit(client, assignment, numbers, ended))
                if not pending:
                    return
                check()
                if done := _all_of(ended, POLL_SECONDS):
                    pending.difference_update(done)
                    take(self._results(done))
                self._look()
        except BaseException:
            self._end(client, assignment, pending, ended, take)
            raise

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        """End workers that were started here, and let the others go."""
        self._started = None
        self._stack.close()

    def _start(self) -> Client:
        if self._started:
            return self._started.client
        kind = self._config.inference.cluster
        assert kind
        self._report(StageEvent(text=f"starting the cluster {kind}"))
        self._started = started = start_cluster(kind, self._hardware, self._folder, self._stack)
        client, self._alive = started.client, time.monotonic()
        self._look()
        if not started.ours:
            self._stack.callback(self._leave, client)
        count = len(self._seen)
        on = f"predicting on {count} worker{'s' if count != 1 else ''}" if count else "waiting for workers"
        self._report(NoteEvent(text=f"{on}; dashboard {client.dashboard_link}"))
        if started.scarce:
            self._report(NoteEvent(level="warning", text=started.scarce))
        return client

    def _leave(self, client: Client) -> None:
        """Let workers that go on forget the job."""
        from segcore.inference.cluster_task import leave

        with suppress(Exception):  # they may be gone
            client.run(leave, self._name, on_error="ignore")

    def _submit(
        self, client: Client, assignment: Assignment, numbers: list[int], ended: SimpleQueue[Future]
    ) -> Future:
        from segcore.inference.cluster_task import predict_group

        assert self._started
        given = self._name, self._started.threads, assignment, numbers
        with _told_of_loss():
            future = client.submit(predict_group, *given, pure=False)
        future.add_done_callback(ended.put)
        return future

    def _window(self) -> int:
        """Return how many groups may be at work at a time."""
        assert self._started
        return AHEAD * max(len(self._seen), self._started.most_workers, 1)

    def _results(self, done: Collection[Future]) -> Result:
        """Return what workers have written.

        Raises
        ------
        SegcoreError
            What a worker complained of.
        """
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        found: Result = {}
        failure: Exception | None = None
        for future in done:
            try:
                found |= future.result()
            except Exception as error:  # whatever it is, the others' work counts
                failure = failure or error
        if failure is None:
            return found
        if isinstance(failure, SegcoreError):
            raise failure
        if isinstance(failure, KilledWorker):
            raise JobError(
                "Workers of the cluster died again and again while they predicted the same tiles.",
                "Most often memory ran out: use fewer processes or a smaller tile size. The log says more.",
            ) from failure
        if isinstance(failure, FutureCancelledError):
            raise _lost() from failure
        self._seen.clear()
        self._look(now=True)  # a worker with other versions explains it better
        raise failure

    def _look(self, now: bool = False) -> None:
        """See which workers there are, and whether new ones compute as this process does.

        Raises
        ------
        JobError
            There is none for too long, or one cannot take part.
        """
        assert self._started
        if not now and time.monotonic() - self._looked < LOOK_SECONDS:
            return
        client = self._started.client
        with _told_of_loss():
            there = client.nthreads()
            new = [address for address in there if address not in self._seen]
            if new:
                self._inspect(client, new)
        self._seen, self._looked = dict(there), time.monotonic()
        if there:
            self._alive = self._looked
        elif not self._started.queued and self._looked - self._alive > WAIT_SECONDS:
            raise JobError(
                f"The cluster {self._config.inference.cluster} has no workers.",
                "Start workers (dask worker ADDRESS); what is done so far is kept.",
            )

    def _inspect(self, client: Client, addresses: list[str]) -> None:
        """Compare new workers with this process.

        Raises
        ------
        JobError
            One has other versions.
        """
        from segcore.inference.cluster_task import inspect

        answers: dict[str, Any] = client.run(inspect, self._config, workers=addresses, on_error="return")
        devices = set()
        for address, answer in answers.items():
            if isinstance(answer, OSError):
                continue  # it has gone again
            if isinstance(answer, Exception):
                raise JobError(
                    f"The worker {address} of the cluster cannot run this program: {answer}.",
                    "Install the same version there as here.",
                ) from answer
            compare_versions(address, answer)
            devices.add(answer["device"])
        ours = self._hardware.kind()
        if others := devices - {ours}:
            self._report(
                NoteEvent(
                    level="warning",
                    text=f"Workers compute on {' and '.join(sorted(others))}, this process would on "
                    f"{ours}: the result may differ from that of one process in rounding.",
                )
            )

    def _end(
        self,
        client: Client,
        assignment: Assignment,
        pending: set[Future],
        ended: SimpleQueue[Future],
        take: Callable[[Result], None],
    ) -> None:
        """Let what has begun end, so that nobody writes any more, and note it; drop the rest."""
        from segcore.inference.cluster_task import halt

        assert self._started
        deadline = time.monotonic() + END_SECONDS
        with suppress(Exception):  # another failure is on its way; what could not be noted is done again
            client.run(halt, self._name, self._started.threads, assignment.key, on_error="ignore")
            while pending and time.monotonic() < deadline and client.nthreads():
                done = _all_of(ended, POLL_SECONDS)
                pending.difference_update(done)
                if found := {
                    block: pixels
                    for future in done
                    if future.status == "finished"
                    for block, pixels in future.result().items()
                }:
                    take(found)
            client.cancel(list(pending))


def choose_cluster(config: RunConfig, hardware: Hardware, report: Reporter, folder: Path) -> Cluster | None:
    """Return the cluster that `config` asks for, if any; a context, at whose end the cluster ends.

    Parameters
    ----------
    config, hardware, report, folder
        See `Cluster`.

    Raises
    ------
    ConfigError
        A package or a command is missing.
    """
    if config.inference.cluster is None:
        return None
    check_cluster(config.inference.cluster)
    return Cluster(config, hardware, report, folder)


def compare_versions(address: str, theirs: dict[str, Any]) -> None:
    """Refuse a worker that would compute something else.

    Raises
    ------
    JobError
        It has another version of this program, of torch or of Python (3.11.7 and 3.11.9 are the
        same here).
    """
    for name, ours in versions().items():
        other = str(theirs[name])
        same = other.split(".")[:2] == ours.split(".")[:2] if name == "python" else other == ours
        if not same:
            raise JobError(
                f"The worker {address} of the cluster has {name} {other}, but this process has {ours}.",
                "Use the same versions everywhere, for example one environment on a disk that all share.",
            )


def _all_of(ended: SimpleQueue[Future], seconds: float) -> list[Future]:
    """Return all that ended, waiting for the first one at most so long."""
    try:
        found = [ended.get(timeout=seconds)]
    except Empty:
        return []
    while not ended.empty():
        found.append(ended.get())
    return found


@contextmanager
def _told_of_loss() -> Iterator[None]:
    """Turn what Dask says of a scheduler that is gone into a JobError."""
    try:
        yield
    except (OSError, TimeoutError) as error:
        raise _lost() from error


def _lost() -> JobError:
    return JobError(
        "The connection to the cluster was lost.",
        "Check its scheduler and start the segmentation again: it goes on with what is done.",
    )
