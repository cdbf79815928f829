"""A real MLflow server in a process of its own, which may be stopped and started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from served_app import free_port

from segcore.tracking import store

START_SECONDS = 120


class TrackingServer:
    """An MLflow server that keeps its artifacts to itself.

    Parameters
    ----------
    folder : Path
        Where its database, artifacts and log lie; made here.
    empty_store : Path
        A database with MLflow's tables, because making them takes seconds.
    """

    def __init__(self, folder: Path, empty_store: Path) -> None:
        folder.mkdir()
        shutil.copy(empty_store, folder / "mlflow.db")
        self.url = f"http://127.0.0.1:{free_port()}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What the server had to say."""
        return (self._folder / "log.txt").read_text("utf-8", "replace")

    def start(self) -> str:
        """Start the server, wait until it answers, and return its address."""
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"),
            *("--port", self.url.rpartition(":")[2], "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}"),
            *("--artifacts-destination", str(self._folder / "artifacts")),
        ]
        settings = store.SETTINGS | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self._folder / "log.txt").open("ab") as log:
            self._process = subprocess.Popen(
                command, cwd=self._folder, env=os.environ | settings, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.2)
        return self.url

    def close(self) -> None:
        """Stop the server, if it runs."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGTERM)
            self._process.wait(30)
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False
