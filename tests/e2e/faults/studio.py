"""Web server, worker and jobs of one workspace in real processes, any of which may be killed at once."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
from served_app import REPOSITORY, free_port

from segcore.jobs.process import job_process
from segcore.jobs.store import Job, list_jobs
from segcore.workspace import Workspace

VICTIMS = ("job", "worker", "web", "all")


class Studio:
    """Starts what does not run, and kills.

    Parameters
    ----------
    workspace : Workspace
        The workspace that is served.
    environment : dict of str, optional
        Environment variables for all processes, beside our own.
    """

    def __init__(self, workspace: Workspace, environment: dict[str, str] | None = None) -> None:
        self.workspace = workspace
        self._environment = os.environ | (environment or {})
        self._port = free_port()
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        # Known already, so that no measurement takes the processor from the jobs.
        (workspace.state / "machine.json").write_text('{"text": "CPU, 2 cores", "gflops": 50}')

    @property
    def log(self) -> str:
        """What the worker had to say."""
        return self._log("worker").read_text("utf-8", "replace")

    def start(self, *names: str) -> None:
        """Start the worker and the web server, or those named, unless they run."""
        root = str(self.workspace.root)
        commands = {
            "worker": ["-m", "segcore.worker", "serve", "--workspace", root],
            "web": ["-m", "app", "--workspace", root, "--port", str(self._port), "--no-worker"],
        }
        for name in names or tuple(commands):
            known = self._processes.get(name)
            if known is None or known.poll() is not None:
                with self._log(name).open("ab") as log:
                    self._processes[name] = subprocess.Popen(
                        [sys.executable, *commands[name]],
                        cwd=REPOSITORY,
                        env=self._environment,
                        stdout=log,
                        stderr=log,
                        start_new_session=True,
                    )

    def jobs_at_work(self) -> list[psutil.Process]:
        """Return the processes of the jobs, also of those that have not said yet that they began."""
        found = {job_process(job) for job in list_jobs(self.workspace)} - {None}
        worker = self._processes.get("worker")
        if worker is not None and worker.poll() is None:
            children = psutil.Process(worker.pid).children(recursive=True)
            found |= {child for child in children if _does_a_job(child)}
        return [process for process in found if process is not None]

    def kill(self, victim: str) -> int:
        """Kill one kind of process, or all at once, with SIGKILL; return how many there were."""
        victims = self.jobs_at_work() if victim in ("job", "all") else []
        for name, process in self._processes.items():
            if victim in (name, "all") and process.poll() is None:
                victims.append(psutil.Process(process.pid))
        for process in victims:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(victims, timeout=30)
        for name, started in self._processes.items():
            if victim in (name, "all"):
                started.wait(30)
        return len(victims)

    def close(self) -> None:
        """Kill everything."""
        self.kill("all")

    def unfinished(self) -> list[Job]:
        """Return the jobs that wait, run, or will be taken up again by themselves."""
        return [job for job in list_jobs(self.workspace) if not job.state.final]

    def _log(self, name: str) -> Path:
        return self.workspace.root.with_name(f"{name}.log")


def _does_a_job(process: psutil.Process) -> bool:
    try:
        return bool({"run", "ready"} & set(process.cmdline()))
    except psutil.Error:
        return False
