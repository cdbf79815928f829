"""Workers: which of them serve a workspace, one on every host, and how the web server starts its own."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from segcore.files import write_atomic
from segcore.jobs.host import this_host
from segcore.jobs.process import spawn
from segcore.workspace import Workspace


class WorkerInfo(BaseModel):
    """What a worker says of itself in `.segcore/worker-HOST.json`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    host: str
    pid: int
    started: float
    devices: tuple[str, ...] = ("cpu",)
    """Its slots: `cpu`, `cuda:0` …"""

    @property
    def has_gpu(self) -> bool:
        """True if one of its slots is a GPU."""
        return any(device != "cpu" for device in self.devices)


def worker_lock(workspace: Workspace) -> FileLock:
    """Return the lock that this host's worker of the workspace holds as long as it lives."""
    return FileLock(_file(workspace, this_host(), "lock"))


def worker_log(workspace: Workspace) -> Path:
    """Return where this host's worker writes, if it was not started in a terminal."""
    return _file(workspace, this_host(), "log")


def announce_worker(workspace: Workspace, devices: tuple[str, ...]) -> WorkerInfo:
    """Write down that this process is this host's worker."""
    info = WorkerInfo(host=this_host(), pid=os.getpid(), started=time.time(), devices=devices)
    write_atomic(_file(workspace, info.host, "json"), info.model_dump_json())
    return info


def live_workers(workspace: Workspace) -> list[WorkerInfo]:
    """Return the workers that serve the workspace, by host."""
    found = []
    for path in sorted(workspace.state.glob("worker-*.json")):
        try:
            info = WorkerInfo.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            continue
        if _is_locked(_file(workspace, info.host, "lock")):
            found.append(info)
    return found


def worker_alive(workspace: Workspace) -> bool:
    """Say whether a worker serves the workspace, on whatever host."""
    return any(_is_locked(path) for path in workspace.state.glob("worker-*.lock"))


def ensure_worker(workspace: Workspace) -> bool:
    """Start a worker that outlives the calling process only for work in hand, unless a worker is there.

    Cheap enough to be called after every submitted job. Returns whether one was started.
    """
    if worker_alive(workspace):
        return False
    command = [sys.executable, "-m", "segcore.worker", "serve", "--workspace", str(workspace.root)]
    with worker_log(workspace).open("ab") as log:
        worker = spawn([*command, "--follow", str(os.getpid())], log.fileno())
    # Somebody has to wait for it, or it stays a zombie for as long as the web server lives.
    threading.Thread(target=worker.wait, name="worker-reaper", daemon=True).start()
    return True


def _file(workspace: Workspace, host: str, kind: str) -> Path:
    return workspace.state / f"worker-{host}.{kind}"


def _is_locked(path: Path) -> bool:
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True
