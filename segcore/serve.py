"""Serve: starts the worker, the MLflow UI and the web app together, and ends all of them together."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psutil

from segcore.errors import JobError
from segcore.jobs.process import child_environment
from segcore.jobs.workers import worker_alive, worker_log
from segcore.tracking.store import SETTINGS, artifact_root, ensure_ready, is_server, tracking_uri
from segcore.worker.signals import StopSignals
from segcore.workspace import Workspace

POLL_SECONDS = 0.5
READY_SECONDS = 180.0
PATIENCE_SECONDS = 30.0
"""How long a running job may take to save its state when everything ends."""
LAST_LINES = 15
QUIET_SERVER = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""MLflow's own job queue serves language-model features; here it would be seven idle processes."""


@dataclass(frozen=True)
class Ports:
    """Where the servers listen."""

    host: str = "127.0.0.1"
    app: int = 7860
    mlflow: int = 5000

    def url(self, port: int) -> str:
        """Return the address to type into a browser on this machine."""
        host = "127.0.0.1" if self.host in ("0.0.0.0", "::", "") else self.host
        return f"http://{host}:{port}"


@dataclass
class Service:
    """A process that runs until everything ends."""

    name: str
    command: Sequence[str]
    log: Path
    health: str = ""
    """Address that answers once it is ready."""
    prepare: Callable[[], None] = lambda: None
    """What has to be done before it starts."""
    process: psutil.Popen | None = None
    family: set[psutil.Process] = field(default_factory=set)
    """The process and all it has started, as last seen; a child outlives the knowledge of its parent."""

    def start(self, environment: dict[str, str]) -> None:
        """Start it in a session of its own: Ctrl-C reaches only us, and we end the others in order."""
        self.prepare()
        with self.log.open("ab") as log:
            self.process = psutil.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def look(self) -> int | None:
        """Take note of the processes it has started; return its exit code if it has ended."""
        if self.process is None:
            return None
        code: int | None = self.process.poll()
        if code is None:
            with suppress(psutil.NoSuchProcess):
                self.family |= {self.process, *self.process.children(recursive=True)}
        return code

    def last_lines(self) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-LAST_LINES:])


def serve(workspace: Workspace, ports: Ports, app_options: Sequence[str] = ()) -> int:
    """Serve a workspace until SIGINT or SIGTERM, and return the exit status.

    Parameters
    ----------
    workspace : Workspace
        The workspace.
    ports : Ports
        Where the servers listen.
    app_options : sequence of str
        More options of `python -m app`: `--share`, `--auth USER:PASSWORD …`.

    Raises
    ------
    JobError
        A port is taken, or one of the processes ended by itself; the others are ended as well.
    """
    uri = tracking_uri(workspace)
    own_mlflow = not is_server(uri)
    check_ports(ports, [ports.app, ports.mlflow] if own_mlflow else [ports.app])
    services = plan(workspace, ports, own_mlflow, app_options)
    environment = {**SETTINGS, **QUIET_SERVER, **child_environment()}
    environment.setdefault("SEGCORE_MLFLOW_URL", ports.url(ports.mlflow) if own_mlflow else uri)
    with StopSignals() as stop:
        try:
            for service in services:
                service.start(environment)
            if _until_ready(services, stop):
                _say(f"Segcore Studio  {ports.url(ports.app)}")
                _say(f"MLflow          {environment['SEGCORE_MLFLOW_URL']}")
                _say(f"Workspace       {workspace.root}")
                if "--share" in app_options:
                    _say(f"Public address  see {workspace.state / 'app.log'}, once gradio.live has given it")
                _say("Ctrl-C ends all of it.")
                _watch(services, stop)
        finally:
            end_all(services, stop)
    return 0


def plan(
    workspace: Workspace, ports: Ports, own_mlflow: bool, app_options: Sequence[str] = ()
) -> list[Service]:
    """Return the services to start, in order: the MLflow UI last, for its tables take seconds to prepare."""
    root, state = str(workspace.root), workspace.state
    python = [sys.executable, "-m"]
    services = []
    if not worker_alive(workspace):
        command = [*python, "segcore.worker", "serve", "--workspace", root, "--follow", str(os.getpid())]
        services.append(Service("worker", command, worker_log(workspace)))
    where = ["--host", ports.host, "--port"]
    command = [*python, "app", "--workspace", root, "--no-worker", *where, str(ports.app), *app_options]
    services.append(Service("app", command, state / "app.log", ports.url(ports.app)))
    if own_mlflow:
        store = ["--backend-store-uri", tracking_uri(workspace), "--workers", "1"]
        artifacts = ["--default-artifact-root", artifact_root(workspace) or ""]
        command = [*python, "mlflow", "server", *store, *artifacts, *where, str(ports.mlflow)]
        health = f"{ports.url(ports.mlflow)}/health"
        ready = partial(ensure_ready, workspace)
        services.append(Service("MLflow", command, state / "mlflow.log", health, ready))
    return services


def check_ports(ports: Ports, numbers: Sequence[int]) -> None:
    """Raise JobError if one of the ports is taken; the message names all that are."""
    taken = []
    for number in numbers:
        family = socket.AF_INET6 if ":" in ports.host else socket.AF_INET
        with socket.socket(family) as probe:
            # As servers do it: a port whose last connections are just closing is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((ports.host, number))
            except OSError:
                taken.append(number)
    if taken:
        raise JobError(
            f"Port {' and '.join(map(str, taken))} of {ports.host} is taken by another program.",
            "Close the other program, or choose other ports with --port and --mlflow-port.",
        )


def end_all(services: Sequence[Service], stop: StopSignals) -> None:
    """End every process that was started: first politely, then by force."""
    for service in services:
        service.look()
        if service.process is not None and service.process.poll() is None:
            with suppress(psutil.NoSuchProcess):
                service.process.terminate()
    asked = stop.count
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and stop.count == asked:
        running = [service for service in services if service.process is not None and service.look() is None]
        if not running:
            break
        time.sleep(0.1)
    left = {process for service in services for process in service.family if process.is_running()}
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=5)


def _until_ready(services: Sequence[Service], stop: StopSignals) -> bool:
    """Wait until every service answers; False if somebody asked to end before."""
    deadline = time.monotonic() + READY_SECONDS
    waiting = [service for service in services if service.health]
    while waiting and not stop.count:
        _raise_if_ended(services)
        waiting = [service for service in waiting if not _answers(service.health)]
        if waiting and time.monotonic() > deadline:
            raise JobError(
                f"{waiting[0].name} did not answer within {READY_SECONDS:.0f} s:\n{waiting[0].last_lines()}",
                f"Its whole log is {waiting[0].log}.",
            )
        time.sleep(0.2)
    return not stop.count


def _watch(services: Sequence[Service], stop: StopSignals) -> None:
    while not stop.count:
        _raise_if_ended(services)
        time.sleep(POLL_SECONDS)
    _say("Ending; running jobs are saved and go on at the next start. Ctrl-C again: at once.")


def _raise_if_ended(services: Sequence[Service]) -> None:
    codes = {service.name: service.look() for service in services}
    for service in services:
        if codes[service.name] is not None:
            raise JobError(
                f"{service.name} ended by itself (exit code {codes[service.name]}):\n{service.last_lines()}",
                f"Its whole log is {service.log}.",
            )


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status < 500)
    except OSError:
        return False


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
