"""kill -9 of a segmentation at random moments: it goes on, and the result is the same to the byte."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from invariants import check_files

from segcore.config import RunConfig, build_config
from segcore.data.simulate import simulate
from segcore.jobs.process import child_environment
from segcore.jobs.store import Job, State, create_job, read_job
from segcore.workspace import Workspace

KILLS = 6

# The engine is imported once; every attempt is a fork of that process, which has no thread yet.
DRIVER = """
import os, random, signal, sys, time
from pathlib import Path
import torch
import segcore.inference.run
from segcore.inference import writing
from segcore.jobs.store import State, end_job, line_up_again, read_job
from segcore.worker.child import work
from segcore.workspace import Workspace

chance = random.Random(3)
writing.FLUSH_SECONDS = 0.0  # every block is saved at once, so that every kill meets another state


def saved(folder):
    return sum(len(path.read_bytes().splitlines()) for path in folder.glob("partial/**/*.jsonl"))


def attempt(folder, kill):
    pid = os.fork()
    if pid == 0:
        os._exit(work(folder, Workspace(Path(sys.argv[1]))))
    wanted, pause = saved(folder) + chance.choice((0, 1, 1, 2)), chance.uniform(0, 0.05)
    while os.waitpid(pid, os.WNOHANG)[0] == 0:
        if kill and saved(folder) >= wanted:
            time.sleep(pause)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            break
        time.sleep(0.002)


for folder, kills in zip(map(Path, sys.argv[2::2]), map(int, sys.argv[3::2])):
    for _ in range(kills):
        attempt(folder, True)
        print(folder.name, saved(folder), flush=True)
        end_job(folder, State.INTERRUPTED)
        line_up_again(folder, 0.0, 1)
    attempt(folder, False)
"""
FORMATS: dict[str, dict[str, object]] = {"tiff": {"probabilities": True}, "ome-zarr": {"format": "ome-zarr"}}


def segmentation(images: Path, model: Path, options: dict[str, object]) -> RunConfig:
    return build_config(
        {
            "session": "faults",
            "data": {"images": str(images)},
            "inference": {"model": str(model), "tile_size": 64, **options},
            "hardware": {"device": "cpu", "precision": "fp32"},
        }
    )


@pytest.mark.timeout(900)
def test_a_segmentation_goes_on_after_every_kill(
    workspace: Workspace, tiny_config: RunConfig, tmp_path: Path
) -> None:
    images, _ = simulate(tmp_path / "new", "2class", 10, 96, 1)
    trained = create_job(workspace, "train", tiny_config, owner="command")
    jobs: dict[str, tuple[Job, Job]] = {}
    for name, options in FORMATS.items():
        config = segmentation(images, trained.folder, options)
        undisturbed, killed = (create_job(workspace, "predict", config, owner="command") for _ in range(2))
        jobs[name] = undisturbed, killed
    words = [str(trained.folder), "0"]
    for undisturbed, killed in jobs.values():
        words += [str(undisturbed.folder), "0", str(killed.folder), str(KILLS)]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(workspace.root), *words],
        env=child_environment() | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    for name, (undisturbed, killed) in jobs.items():
        for job in (undisturbed, killed):
            assert read_job(job.folder).state is State.FINISHED, done.stdout + done.stderr
        saved = [
            int(line.split()[1]) for line in done.stdout.splitlines() if line.startswith(f"{killed.id} ")
        ]
        assert len(saved) > 2, f"{name}: all kills met the same state: {saved}"
        check_files(killed)
        assert not (killed.folder / "partial").exists()
        assert files(killed.folder) == files(undisturbed.folder), name
        assert pixels(killed) == pixels(undisturbed), name


def files(folder: Path) -> dict[str, bytes]:
    """Return the results by their paths in the run folder."""
    found = [path for name in ("segmentation*", "probabilities*") for path in folder.glob(name)]
    every = [file for path in found for file in (path, *path.rglob("*")) if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in every}


def pixels(job: Job) -> object:
    """Return how many pixels of every class were counted."""
    return json.loads((job.folder / "metadata.json").read_text())["class_pixels"]
