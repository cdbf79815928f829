"""Processes: how the work of a job is started, found again, ended, and what a death may mean."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from segcore.errors import SegcoreError
from segcore.jobs.host import this_host
from segcore.jobs.store import Job, State, read_job
from segcore.workspace import Workspace

SIGKILL = -9
"""Exit code of a process that was killed; Windows has no signal.SIGKILL."""
KILL_COUNTERS = (Path("/proc/vmstat"), Path("/sys/fs/cgroup/memory.events"))


def job_command(folder: Path, workspace: Workspace) -> list[str]:
    """Return the command line that does the work of a job."""
    return [sys.executable, "-m", "segcore.worker", "run", str(folder), "--workspace", str(workspace.root)]


def ready_command(mark: str) -> list[str]:
    """Return the command line of a process that waits for a job, see `segcore.jobs.standby`."""
    return [sys.executable, "-m", "segcore.worker", "ready", mark]


def job_process(job: Job) -> psutil.Process | None:
    """Return the living process of a running job of this host, or None.

    A process counts only if the job's id or mark stands in its command line: after a reboot another one may
    have its number.
    """
    if job.state is not State.RUNNING or job.pid is None or job.host != this_host():
        return None
    try:
        process = psutil.Process(job.pid)
        named = any(job.id in part or (job.mark and job.mark == part) for part in process.cmdline())
        return process if named and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:
        return process


def is_running(process: psutil.Process) -> bool:
    """Say whether a process lives; a child of ours that has ended is reaped."""
    if isinstance(process, psutil.Popen):
        return process.poll() is None
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def kill_job(folder: Path) -> None:
    """End the job's process and all it started at once; its supervisor writes down that it was killed."""
    process = job_process(read_job(folder))
    if process is not None:
        kill_tree(process)


def kill_tree(process: psutil.Process) -> None:
    """Kill a process and everything it started."""
    try:
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue


def child_environment() -> dict[str, str]:
    """Return the environment for our own Python processes.

    They find this very package wherever they are started, and never take a `random.py` of the user's folder
    for the standard one.
    """
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1"}
    root = Path(__file__).resolve().parents[2]
    if not {"site-packages", "dist-packages"} & set(root.parts):
        paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    return environment


def spawn(
    command: Sequence[str],
    output: int,
    extra: Mapping[str, str] | None = None,
    source: int = subprocess.DEVNULL,
) -> psutil.Popen:
    """Start a process of ours.

    Parameters
    ----------
    command : sequence of str
        Its command line.
    output : int
        The open file that it writes into.
    extra : mapping of str to str, optional
        What stands in its environment beside ours.
    source : int
        Where it reads from; `subprocess.PIPE` to write to it.
    """
    return psutil.Popen(
        command,
        stdin=source,
        stdout=output,
        stderr=subprocess.STDOUT,
        env={**child_environment(), **(extra or {})},
        # A session of its own: Ctrl-C in the terminal, or the end of whoever started it, does not reach it.
        start_new_session=True,
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )


def is_spread(job: Job) -> bool:
    """Say whether a job uses all GPUs of its host: it shares a batch among them, or has a cluster."""
    with suppress(SegcoreError):  # the job's own process says what is wrong with its options
        return job.config.training.devices > 1 if job.kind == "train" else bool(job.config.inference.cluster)
    return False


def visible_devices(job: Job, device: str) -> Mapping[str, str]:
    """Return the environment in which a job sees `device` only, or all GPUs if it uses all."""
    kind, _, number = device.partition(":")
    if kind != "cuda" or is_spread(job):
        return {}
    # nvidia-smi counts them by their place on the bus, CUDA by speed unless it is told otherwise.
    order = {} if "CUDA_VISIBLE_DEVICES" in os.environ else {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    return {"CUDA_VISIBLE_DEVICES": number, **order}


def memory_kills(counters: Sequence[Path] = KILL_COUNTERS) -> int | None:
    """Return how many processes the kernel has killed for want of memory; None where it does not count."""
    found = []
    for path in counters:
        try:
            lines = path.read_text().splitlines()
        except OSError:
            continue
        found += [int(line.split()[1]) for line in lines if line.startswith("oom_kill ")]
    return sum(found) if found else None


def explain_death(code: int | None, for_memory: bool | None) -> tuple[str, str]:
    """Return message and remedy for a process that ended without saying why.

    Parameters
    ----------
    code : int, optional
        Its exit code, negative for a signal; None if nobody could wait for it.
    for_memory : bool, optional
        Whether the kernel killed a process for want of memory meanwhile; None if it does not say.
    """
    look = "Look at the end of its log, then resume it."
    if code == SIGKILL and for_memory is not False:
        return (
            "The job's process was killed, probably because memory ran out.",
            "Use a smaller batch size, patch size or number of features, or close other programs.",
        )
    if code == SIGKILL:
        return "The job's process was killed.", look
    if code is None:
        return "The job's process ended without a word.", look
    how = f"by {_signal_name(-code)}" if code < 0 else f"with exit code {code}"
    return f"The job's process ended unexpectedly {how}.", look


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
