"""Starting a Dask cluster, or connecting to one: processes here, a scheduler that runs already, or SLURM."""

from __future__ import annotations

import importlib.util
import logging
import math
import os
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch

from segcore.devices import Hardware
from segcore.errors import ConfigError, JobError
from segcore.memory import main_memory

if TYPE_CHECKING:
    from distributed import Client
    from distributed.security import Security

logger = logging.getLogger(__name__)

LOCAL, SLURM = "local", "slurm"
CONNECT_SECONDS = 30
KEYS = ".keys-"
"""Beginning of the name of the folder with the keys of a job."""
SLURM_WORKERS = 16
"""Most workers on SLURM where Dask's configuration names no number."""
PROCESS_MEMORY = 1.5e9
"""Bytes that a process should have: torch, and a pass through the network (`predictor.MOST_ON_CPU`)."""
STEPS = 3
"""Dask threads of a worker on a GPU: one reads, one computes, one writes."""
TASK_MODULE = "segcore.inference.cluster_task"


@dataclass(frozen=True)
class Started:
    """A cluster at work.

    Parameters
    ----------
    client : Client
        The connection to its scheduler.
    ours : bool
        Whether its workers end with the job.
    threads : int, optional
        Threads that torch gets in every worker, see `cluster_task.Bench`.
    most_workers : int
        How many workers it grows to when there is work; 0 if it does not grow.
    queued : bool
        Whether workers may wait in a queue for hours.
    scarce : str
        What is to be said if memory may be too short.
    """

    client: Client
    ours: bool
    threads: int | None = None
    most_workers: int = 0
    queued: bool = False
    scarce: str = ""


def check_cluster(kind: str) -> None:
    """Refuse a cluster for which this machine lacks something.

    Parameters
    ----------
    kind : str
        `local:N`, `tcp://HOST:PORT`, `tls://HOST:PORT` or `slurm`.

    Raises
    ------
    ConfigError
        A package or a command is missing.
    """
    needed = ["distributed", *(["dask_jobqueue"] if kind == SLURM else [])]
    needed += ["cryptography"] if kind == SLURM or kind.startswith(LOCAL) else []
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            f"inference.cluster is {kind}, but {' and '.join(missing)} is not installed.",
            "Install it: pip install 'segcore-studio[cluster]'",
        )
    if kind == SLURM and shutil.which("sbatch") is None:
        raise ConfigError(
            "inference.cluster is slurm, but this machine has no command sbatch.",
            "Start on a login node of the cluster, or use local:N, tcp://HOST:PORT or tls://HOST:PORT.",
        )


def start_cluster(kind: str, hardware: Hardware, folder: Path, stack: ExitStack) -> Started:
    """Start a cluster or connect to it; leaving `stack` ends what was started here.

    Parameters
    ----------
    kind : str
        `local:N`, `tcp://HOST:PORT`, `tls://HOST:PORT` or `slurm`.
    hardware : Hardware
        The device that local processes share.
    folder : Path
        A folder that workers on other hosts see, too; gets keys that only their owner may read.
    stack : ExitStack
        Takes what is to be ended.

    Raises
    ------
    JobError
        The scheduler does not answer, the processes do not start, or Dask's configuration for SLURM is
        incomplete.
    """
    logging.getLogger("distributed").setLevel(logging.WARNING)  # a person reads the log of the job
    name, _, count = kind.partition(":")
    if name == LOCAL:
        return _local(int(count), hardware, stack)
    if kind == SLURM:
        return _slurm(folder, stack)
    return Started(_connect(kind, kind, stack), ours=False)


def _local(count: int, hardware: Hardware, stack: ExitStack) -> Started:
    """Start processes here that speak TLS; one that dies is started again, as often as its tasks may fail."""
    from distributed import LocalCluster

    on_cpu = hardware.device.type == "cpu"
    scratch = stack.enter_context(TemporaryDirectory(prefix="segcore-dask-", ignore_cleanup_errors=True))
    try:
        cluster = LocalCluster(
            n_workers=count,
            threads_per_worker=1 if on_cpu else STEPS,
            memory_limit=0,  # of ours, the blocks are small enough; Dask would end workers that others crowd
            # Whoever may talk to a scheduler may run code as its owner: without the key, which lies in memory
            # only, other people of this machine may not.
            security=True,
            dashboard_address="127.0.0.1:0",
            local_directory=scratch,
            silence_logs=logging.ERROR,
            preload=[TASK_MODULE],
        )
    except (OSError, RuntimeError, TimeoutError) as error:
        raise JobError(
            f"{count} processes could not be started: {error}.", "Use fewer processes; the log says more."
        ) from error
    stack.callback(_quietly, cluster.close)
    scarce = ""
    if on_cpu and count * PROCESS_MEMORY > (available := main_memory().available):
        scarce = (
            f"{count} processes may need {count * PROCESS_MEMORY / 1e9:.1f} GB of memory, of which "
            f"{available / 1e9:.1f} GB are free: local:{max(1, int(available / PROCESS_MEMORY))} is safer."
        )
    # Who sets OMP_NUM_THREADS decides for every process, and gets the bits of one process in float32, too; to
    # give each of them all cores unasked would cost more than rounding is worth.
    told = "OMP_NUM_THREADS" in os.environ
    threads = torch.get_num_threads() if told else max(1, torch.get_num_threads() // count)
    client = _connect(cluster, f"{LOCAL}:{count}", stack)
    return Started(client, ours=True, threads=threads, scarce=scarce)


def _slurm(folder: Path, stack: ExitStack) -> Started:
    """Ask SLURM for workers, more the more work there is, as the files in ~/.config/dask say.

    Every host reaches the scheduler, so it speaks TLS: with the keys of those files, or with some of its own.
    """
    import dask
    from dask_jobqueue.slurm import SLURMCluster
    from distributed.security import Security

    told = dask.config.get("distributed.comm.tls.ca-file", None)
    try:
        cluster = SLURMCluster(security=Security() if told else _new_keys(folder, stack))
    except (ValueError, TypeError) as error:
        raise JobError(
            f"Dask's configuration for SLURM is incomplete: {error}",
            "Write cores, memory, walltime and queue into ~/.config/dask/jobqueue.yaml; docs/cluster.md has "
            "an example.",
        ) from error
    stack.callback(_quietly, cluster.close)
    most = dask.config.get("distributed.adaptive.maximum")
    most = SLURM_WORKERS if math.isinf(most) else int(most)
    cluster.adapt(maximum=most)
    return Started(_connect(cluster, SLURM, stack), ours=True, most_workers=most, queued=True)


def _new_keys(folder: Path, stack: ExitStack) -> Security:
    """Make a key for scheduler, workers and client; it lies in a folder that only its owner may open."""
    from distributed.security import Security

    for old in folder.glob(f"{KEYS}*"):  # of a process that was killed before it could
        shutil.rmtree(old, ignore_errors=True)
    made = Security.temporary()
    place = Path(stack.enter_context(TemporaryDirectory(prefix=KEYS, dir=folder.absolute())))
    certificate, key = place / "certificate.pem", place / "key.pem"
    certificate.write_text(made.tls_ca_file)
    key.write_text(made.tls_worker_key)
    pairs = {
        f"tls_{role}_{name}": str(path)
        for role in ("scheduler", "worker", "client")
        for name, path in (("cert", certificate), ("key", key))
    }
    return Security(require_encryption=True, tls_ca_file=str(certificate), **pairs)


def _connect(scheduler: Any, name: str, stack: ExitStack) -> Client:
    from distributed import Client

    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise JobError(
            f"The scheduler {name} of the Dask cluster does not answer.",
            "Check that it runs (dask scheduler), that its address and port are right and that no firewall "
            "stands between; what is done so far is kept.",
        ) from error
    stack.callback(_quietly, client.close)
    return client


def _quietly(end: Callable[[], object]) -> None:
    """End something; what it complains of only matters to who reads the log."""
    try:
        end()
    except Exception as error:
        logger.warning("%s: %s", type(error).__name__, error)
