"""kill -9 of each process and of all at once, at random moments of trainings and segmentations."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from invariants import check_segmentation, check_training
from studio import VICTIMS, Studio

from segcore.config import RunConfig, build_config
from segcore.data.simulate import simulate
from segcore.jobs.queue import submit
from segcore.jobs.store import Job, State, read_job
from segcore.tracking import store
from segcore.workspace import Workspace

KILLS = int(os.environ.get("SEGCORE_KILLS") or 50)
SEED = int(os.environ.get("SEGCORE_KILL_SEED") or 1)
EPOCHS = 10
WEIGHTS = (8, 12, 2, 2)
"""How often each of VICTIMS is struck."""
PATIENCE = 600.0
MOST_RESTARTS = 3
"""A job that was resumed so often without getting on is left in peace: after five it counts as hopeless."""

Wait = Callable[..., None]


@pytest.fixture
def studio(tracked_workspace: Workspace) -> Iterator[Studio]:
    """Start worker and web server; everything is killed at the end."""
    studio = Studio(tracked_workspace, {"OMP_NUM_THREADS": "1"})  # the jobs are tiny
    studio.start()
    yield studio
    studio.close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Make images on which an epoch takes a fraction of a second."""
    return simulate(tmp_path_factory.mktemp("stack"), "2class", 24, 96, 0)


def training(stack: tuple[Path, Path]) -> RunConfig:
    return build_config(
        {
            "session": "faults",
            "data": {
                "images": str(stack[0]), "labels": str(stack[1]), "patch_size": 32, "patches_per_image": 20,
                "validation_slices": "20-23",
            },
            "model": {"features": 4, "layers": 2},
            "training": {
                "epochs": EPOCHS, "batch_size": 4, "checkpoint_minutes": 0.005, "keep_every": 4,
                "averaging": "ema",
            },
            "hardware": {"device": "cpu", "precision": "fp32"},
        }
    )  # fmt: skip


def segmentation(stack: tuple[Path, Path], model: Job) -> RunConfig:
    return build_config(
        {
            "session": "faults",
            "data": {"images": str(stack[0])},
            "inference": {"model": str(model.folder), "tile_size": 64},
            "hardware": {"device": "cpu", "precision": "fp32"},
        }
    )


class Campaign:
    """Feeds a studio with jobs and strikes at it."""

    def __init__(self, studio: Studio, stack: tuple[Path, Path], wait_until: Wait) -> None:
        self.studio = studio
        self.stack = stack
        self.wait = wait_until
        self.random = random.Random(SEED)
        self.train = self._undisturbed(training(stack), "train")
        self.predict = self._undisturbed(segmentation(stack, self.train), "predict")
        self.jobs: list[Job] = []

    def run(self, kills: int) -> None:
        """Strike `kills` times, then let everything come to its end."""
        struck = 0
        while struck < kills:
            self._feed()
            self.studio.start()
            self._let_some_time_pass()
            victim = self.random.choices(VICTIMS, WEIGHTS)[0]
            if self._may_strike(victim) and self.studio.kill(victim):
                struck += 1
        self.studio.start()
        self.wait(lambda: not self.studio.unfinished(), PATIENCE)

    def check(self) -> None:
        """Fail unless every job came to the end it would have come to undisturbed."""
        for job in (read_job(job.folder) for job in self.jobs):
            assert job.state is State.FINISHED, f"{job.id}: {job.state} {job.message}\n{self.studio.log}"
            if job.kind == "train":
                check_training(job, EPOCHS, self.train)
            else:
                check_segmentation(job, self.predict)

    def _undisturbed(self, config: RunConfig, kind: str) -> Job:
        job = submit(self.studio.workspace, "train" if kind == "train" else "predict", config)
        self.wait(lambda: read_job(job.folder).state.final, PATIENCE)
        assert read_job(job.folder).state is State.FINISHED, read_job(job.folder).message
        return job

    def _feed(self) -> None:
        """See to it that there is one training and one segmentation at least."""
        kinds = {job.kind for job in self.studio.unfinished()}
        if "train" not in kinds:
            self.jobs.append(submit(self.studio.workspace, "train", training(self.stack)))
        if "predict" not in kinds:
            config = segmentation(self.stack, self.train)
            self.jobs.append(submit(self.studio.workspace, "predict", config))

    def _let_some_time_pass(self) -> None:
        """Wait for a random number of signs of life; none of them is a moment like any other."""
        signs = self.random.choice((0, 0, 1, 1, 2, 4))
        before = self._sign()
        deadline = time.monotonic() + 15
        while signs and time.monotonic() < deadline:
            now = self._sign()
            signs -= now != before
            before = now
            time.sleep(self.random.uniform(0.0, 0.05))

    def _sign(self) -> tuple[int, ...]:
        files = [
            path
            for job in self.studio.unfinished()
            for path in (job.folder / "progress.json", job.folder / "job.json", job.folder / "events.jsonl")
        ]
        return tuple(path.stat().st_mtime_ns for path in files if path.exists())

    def _may_strike(self, victim: str) -> bool:
        if victim not in ("job", "all"):
            return True
        return all(job.restarts < MOST_RESTARTS for job in self.studio.unfinished())


@pytest.mark.timeout(3 * 3600)
def test_no_kill_loses_a_job_or_leaves_a_trace(
    studio: Studio, stack: tuple[Path, Path], wait_until: Wait
) -> None:
    campaign = Campaign(studio, stack, wait_until)
    campaign.run(KILLS)
    campaign.check()
    trainings = [job for job in campaign.jobs if job.kind == "train"]
    assert trainings, "nothing was trained"
    client = store.client(studio.workspace)

    def tracked(job: Job) -> bool:
        run = read_job(job.folder).mlflow_run_id
        return run is not None and client.get_run(run).info.status == "FINISHED"

    wait_until(lambda: all(tracked(job) for job in trainings), PATIENCE)
    for job in trainings:
        points = client.get_metric_history(str(read_job(job.folder).mlflow_run_id), "val_dice")
        assert sorted(point.step for point in points) == list(range(1, EPOCHS + 1)), job.id
