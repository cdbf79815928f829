"""Fake job processes: quick programs that behave as a job might."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from segcore.config import build_config
from segcore.jobs.store import Job, Owner, create_job
from segcore.workspace import Workspace

PRELUDE = """
import os, signal, sys, time
from pathlib import Path
from segcore.jobs.store import State, asked, end_job, start_job
folder = Path(sys.argv[1])
"""


@pytest.fixture
def fake() -> Callable[[str, Path], list[str]]:
    """Return a function that gives the command line of a fake job."""
    return lambda code, folder: [sys.executable, "-c", PRELUDE + code, str(folder)]


@pytest.fixture
def make_job(workspace: Workspace) -> Callable[..., Job]:
    """Return a function that makes a job."""

    def make(kind: str = "train", owner: Owner = "worker") -> Job:
        config = build_config({"session": "fake"})
        return create_job(workspace, "train" if kind == "train" else "predict", config, owner)

    return make
