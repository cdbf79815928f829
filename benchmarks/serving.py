"""The web app in a process of its own, for benchmarks that are its clients."""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import psutil

from segcore.jobs.process import child_environment


@contextmanager
def started(
    workspace: Path, *words: str, log: Path | None = None, **environment: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Start `python -m app` and give its address, where nobody listens yet, and the process.

    At the end it is killed with all that it started.

    Parameters
    ----------
    workspace : Path
        The folder to serve.
    *words : str
        Further words of the command line.
    log : Path, optional
        Gets what the app says.
    **environment : str
        Variables that differ from those of this process.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with log.open("wb") if log else nullcontext() as stream:
        server = subprocess.Popen(
            [sys.executable, "-m", "app", "--workspace", str(workspace), "--port", str(port), *words],
            env={**child_environment(), **environment},
            stdout=stream or subprocess.DEVNULL,
            stderr=stream or subprocess.DEVNULL,
        )
    try:
        yield f"http://127.0.0.1:{port}/", server
    finally:
        family: list[psutil.Process] = []
        if server.poll() is None:
            family = psutil.Process(server.pid).children(recursive=True)
        server.kill()
        server.wait()
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family)


def answers(url: str) -> bool:
    """Say whether something is served at an address, and read it to the end."""
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200 and response.read())
    except OSError:
        return False
