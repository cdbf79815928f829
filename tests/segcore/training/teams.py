"""Processes that train together, for tests: forked, since they have everything imported already."""

from __future__ import annotations

import multiprocessing
import pickle
import socket
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from segcore.config import RunConfig
from segcore.events import Event, Request, unasked
from segcore.training.distributed import Ranks, Team
from segcore.training.place import Place
from segcore.training.run import train_in

SECONDS = 120


def in_team(work: Callable[..., Any], *arguments: Any, size: int = 2) -> list[Any]:
    """Return what `work(team, *arguments)` returns in every one of `size` processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    ends, processes = [], []
    for rank in range(size):
        ours, theirs = context.Pipe(duplex=False)
        place = Place(rank, rank, size, size, port=port)
        process = context.Process(target=_work, args=(theirs, place, work, arguments), daemon=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # that threads are lost: they hold nothing
            process.start()
        theirs.close()
        ends.append(ours)
        processes.append(process)
    results = []
    try:
        for rank, end in enumerate(ends):
            assert end.poll(SECONDS), f"process {rank} does not answer"
            error, result = pickle.loads(end.recv_bytes())
            assert not error, error
            results.append(result)
    finally:
        for process in processes:
            process.kill()
            process.join()
    return results


def _work(end: Connection, place: Place, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)  # the threads of the parent did not come along
    try:
        team = Ranks(place, "cpu" if place.rank == 0 else None)
        # Plain bytes: multiprocessing would share the memory of tensors with a process that ends.
        end.send_bytes(pickle.dumps(("", work(team, *arguments))))
        team.close()
    except BaseException:
        end.send_bytes(pickle.dumps((traceback.format_exc(), None)))


def trained(
    team: Team, config: RunConfig, folder: Path, pause_at: int | None = None
) -> tuple[int, list[Event]]:
    """Train and return the requests asked and the events told; paused before step `pause_at`, from 0."""
    events: list[Event] = []
    count = 0

    def asked() -> Request | None:
        nonlocal count
        count += 1
        return Request.PAUSE if pause_at is not None and count > pause_at else None

    def report(event: Event) -> None:
        events.append(event)

    folder.mkdir(exist_ok=True)
    train_in(team, config, folder, report, unasked if pause_at is None else asked)
    return count, events
