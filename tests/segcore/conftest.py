"""Fake job processes, quick programs that behave as a job might; and a real Redis server."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from segcore.config import build_config
from segcore.jobs.store import Job, Owner, create_job
from segcore.workspace import Workspace

PRELUDE = """
import os, signal, sys, time
from pathlib import Path
from segcore.jobs.store import State, asked, end_job, read_job, start_job
folder = Path(sys.argv[1])
"""


@pytest.fixture
def fake() -> Callable[[str, Path], list[str]]:
    """Return a function that gives the command line of a fake job."""
    return lambda code, folder: [sys.executable, "-c", PRELUDE + code, str(folder)]


@pytest.fixture
def make_job(workspace: Workspace) -> Callable[..., Job]:
    """Return a function that makes a job."""

    def make(kind: str = "train", owner: Owner = "worker", auto_resume: bool = True) -> Job:
        config = build_config({"session": "fake", "training": {"auto_resume": auto_resume}})
        return create_job(workspace, "train" if kind == "train" else "predict", config, owner)

    return make


class RedisServer:
    """A Redis server of its own that keeps nothing on disk: what it forgets must come back by itself."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns once it answers."""
        options = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no"]
        self._process = subprocess.Popen(
            ["redis-server", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def answers(self) -> bool:
        """Say whether it answers."""
        try:
            with Redis.from_url(self.url) as client:
                return bool(client.ping())
        except RedisConnectionError:
            return False

    def stored(self) -> list[str]:
        """Return the names of all that it holds."""
        with Redis.from_url(self.url) as client:
            return sorted(key.decode() for key in client.keys("*"))

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@pytest.fixture
def redis_server(wait_until: Callable[..., None]) -> Iterator[RedisServer]:
    """Start a Redis server."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    server = RedisServer()
    server.start()
    try:
        wait_until(server.answers)
        yield server
    finally:
        server.kill()


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.redis)])
def any_queue(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with the queue in the workspace, and again with the queue on a Redis server."""
    if request.param == "redis":
        monkeypatch.setenv("SEGCORE_QUEUE_URL", request.getfixturevalue("redis_server").url)
    return str(request.param)
