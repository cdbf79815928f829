"""The web app in a process of its own, as a person would start it, for the tests that talk to it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import psutil

START_SECONDS = 120
REPOSITORY = Path(__file__).resolve().parents[1]


class ServedApp:
    """`python -m app` on a free port; `close` ends it, its worker and its jobs.

    Parameters
    ----------
    folder : Path
        The workspace; the log of the server goes beside it.
    worker : bool
        Let it start a worker when there is something to do.
    """

    def __init__(self, folder: Path, worker: bool = True) -> None:
        self.workspace = folder
        self._options = [] if worker else ["--no-worker"]
        self.port = free_port()
        self._log = folder.with_name("app.log")
        self._process: subprocess.Popen[bytes] | None = None
        self._family: set[psutil.Process] = set()
        state = folder / ".segcore"
        state.mkdir(parents=True, exist_ok=True)
        # Known already, so that no measurement takes the processor from the tests.
        (state / "machine.json").write_text('{"text": "CPU, 2 cores", "gflops": 50}')

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self.port}/"

    @property
    def log(self) -> str:
        """What the server had to say."""
        return self._log.read_text("utf-8", "replace")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = [sys.executable, "-m", "app", "--workspace", str(self.workspace), "--port", str(self.port)]
        command += self._options
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        # One core for its jobs, so that several of them and the browser do not stand in each other's way.
        environment["OMP_NUM_THREADS"] = "1"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=REPOSITORY, env=environment, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill the server alone, as a crash would; its worker and its jobs go on."""
        assert self._process is not None
        self._family |= set(psutil.Process(self._process.pid).children(recursive=True))
        self._process.kill()
        self._process.wait()
        self._process = None

    def close(self) -> None:
        """End the server and everything it started."""
        if self._process is not None:
            self.kill()
        for member in list(self._family):
            try:
                self._family |= set(member.children(recursive=True))
            except psutil.NoSuchProcess:
                continue
        for member in self._family:
            try:
                member.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(self._family, timeout=10)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
