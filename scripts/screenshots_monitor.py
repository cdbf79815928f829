"""The runs of a watched training for docs/screenshots."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segcore.config import RunConfig, build_config
from segcore.errors import JobError
from segcore.events import Request
from segcore.jobs import queue
from segcore.jobs.journal import read_history
from segcore.jobs.store import Job, State, ask, list_jobs, read_job
from segcore.workspace import Workspace

STEEP = "steep-start"
"""Session of the run whose learning rate is far too high, so that the autopilot has to step in."""
STEEP_EPOCHS, KEPT_EVERY, RATE = 24, 4, 30.0
LONG_EPOCHS = 2000
PATIENCE_SECONDS = 1200


@dataclass(frozen=True)
class Cast:
    """The runs that are photographed.

    Parameters
    ----------
    steep : Job
        Finished, with interventions and kept epochs.
    running, paused : Job
        Under way, and taken from its device in mid-run; others wait behind the one that runs.
    """

    steep: Job
    running: Job
    paused: Job


@contextmanager
def cast(root: Path) -> Iterator[Cast]:
    """Make the runs in the workspace of the demo, whose worker must be there; end the long ones."""
    workspace = Workspace.open(root)
    steep = _steep(workspace)
    long: list[Job] = []
    try:
        long.append(_submit(workspace, "membranes", 40))
        paused = long[0]
        _await(lambda: _epochs(paused) >= 3, "the run to be paused did not get on")
        ask(paused.folder, Request.PAUSE)
        _await(lambda: read_job(paused.folder).state is State.PAUSED, "the run was not paused")
        long += [_submit(workspace, name) for name in ("nuclei", "nuclei-wide", "vesicles")]
        _await(lambda: _epochs(long[1]) >= 1, "the long run did not get on")
        yield Cast(steep, long[1], paused)
    finally:
        for job in long[::-1]:
            with suppress(JobError):
                queue.discard(workspace, job.folder)


def _steep(workspace: Workspace) -> Job:
    for job in list_jobs(workspace, "train"):
        if job.session == STEEP and job.state is State.FINISHED:
            return job
    options = {"epochs": STEEP_EPOCHS, "keep_every": KEPT_EVERY, "learning_rate": RATE}
    job = queue.submit(workspace, "train", _config(workspace, STEEP, options))
    _await(lambda: read_job(job.folder).state.final, "the run with the autopilot did not end")
    return read_job(job.folder)


def _submit(workspace: Workspace, session: str, epochs: int = LONG_EPOCHS) -> Job:
    return queue.submit(workspace, "train", _config(workspace, session, {"epochs": epochs}))


def _config(workspace: Workspace, session: str, training: dict[str, Any]) -> RunConfig:
    sample = workspace.data / "sample"
    return build_config(
        {
            "session": session,
            "data": {
                "images": str(sample / "raw.tif"), "labels": str(sample / "labels.tif"), "patch_size": 128,
                "patches_per_image": 4,
            },
            "model": {"features": 8, "layers": 3},
            "training": training,
        }
    )  # fmt: skip


def _epochs(job: Job) -> int:
    return len(read_history(job.folder))


def _await(condition: Callable[[], bool], trouble: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{trouble} within {PATIENCE_SECONDS // 60} minutes")
        time.sleep(0.2)
