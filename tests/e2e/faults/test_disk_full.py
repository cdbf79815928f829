"""The disk fills up in the middle of a checkpoint: the old one is intact, and the training goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from invariants import check_files, curve

from segcore.config import RunConfig
from segcore.events import NoteEvent, Request
from segcore.jobs.journal import read_events, read_history
from segcore.jobs.process import child_environment
from segcore.jobs.queue import resume
from segcore.jobs.store import State, ask, create_job, read_job
from segcore.workspace import Workspace

EPOCHS = 6

# No file may grow beyond the limit: the kernel breaks a longer write off in the middle, as a full disk does.
LIMITED = """
import resource, signal, sys
from segcore.worker.__main__ import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.exit(main(["run", sys.argv[2], "--workspace", sys.argv[3]]))
"""


@pytest.fixture
def long_config(tiny_config: RunConfig) -> RunConfig:
    """Return options of a training that saves its state after every step."""
    training = tiny_config.training.model_copy(update={"epochs": EPOCHS, "checkpoint_minutes": 1e-6})
    return tiny_config.model_copy(update={"training": training})


def test_the_old_checkpoint_outlives_a_full_disk(workspace: Workspace, long_config: RunConfig) -> None:
    def run(limit: int) -> str:
        command = [sys.executable, "-c", LIMITED, str(limit), str(job.folder), str(workspace.root)]
        done = subprocess.run(
            command, env=child_environment(), capture_output=True, text=True, timeout=120, check=False
        )
        return done.stdout + done.stderr

    undisturbed = create_job(workspace, "train", long_config, owner="command")
    job = undisturbed
    said = run(10**9)
    assert read_job(undisturbed.folder).state is State.FINISHED, said

    job = create_job(workspace, "train", long_config, owner="command")
    ask_after(job.folder, workspace, epochs=2)
    last = job.folder / "checkpoints" / "last.pt"
    assert read_job(job.folder).state is State.PAUSED
    before, size = last.read_bytes(), last.stat().st_size

    resume(workspace, job.folder)
    run(int(0.6 * size))
    assert last.read_bytes() == before
    torch.load(last, weights_only=True)
    warnings = [event for event in read_events(job.folder) if isinstance(event, NoteEvent)]
    assert any(event.level == "warning" and event.remedy for event in warnings)

    if read_job(job.folder).state is not State.FINISHED:
        resume(workspace, job.folder)
        said = run(10**9)
        assert read_job(job.folder).state is State.FINISHED, said
    check_files(job)
    assert [event.epoch for event in read_history(job.folder)] == list(range(1, EPOCHS + 1))
    assert curve(job.folder) == curve(undisturbed.folder)


def ask_after(folder: Path, workspace: Workspace, epochs: int) -> None:
    """Run a job until it has finished some epochs, and have it paused."""
    command = [sys.executable, "-m", "segcore.worker", "run", str(folder), "--workspace", str(workspace.root)]
    child = subprocess.Popen(command, env=child_environment())
    while len(read_history(folder)) < epochs:
        assert child.poll() is None, "it ended before it could be paused"
    ask(folder, Request.PAUSE)
    child.wait(60)
