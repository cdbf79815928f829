"""Where a process stands among those that train together, as torchrun or SLURM says; without torch.

The variables are those of the documentation of torchrun (docs.pytorch.org/docs/stable/elastic/run.html) and
of srun (slurm.schedmd.com/srun.html).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from segcore.config import TrainingConfig
from segcore.errors import ConfigError

_SLURM_PORTS = 15000
Problem = tuple[str, str]
"""What does not fit, and what to do about it."""


@dataclass(frozen=True)
class Place:
    """Where a process stands among those that train together."""

    rank: int = 0
    """Number among all processes; 0 leads."""
    local_rank: int = 0
    """Number among those of its host, and of the device it takes."""
    size: int = 1
    """Processes in all."""
    local_size: int = 1
    """Processes of its host."""
    address: str = "127.0.0.1"
    port: int = 0
    """Where the leader listens, so that they find each other."""
    launcher: str = ""
    """Who started the processes: "torchrun", "SLURM", or "" if the leader does."""


def launched(environment: Mapping[str, str] = os.environ) -> Place | None:
    """Return the place that torchrun or SLURM gave this process, None where neither started several."""
    if int(environment.get("WORLD_SIZE", 1)) > 1 and "RANK" in environment:
        size = int(environment["WORLD_SIZE"])
        return Place(
            rank=int(environment["RANK"]),
            local_rank=int(environment.get("LOCAL_RANK", 0)),
            size=size,
            local_size=int(environment.get("LOCAL_WORLD_SIZE", size)),
            address=environment.get("MASTER_ADDR", "127.0.0.1"),
            port=int(environment.get("MASTER_PORT", 0)),
            launcher="torchrun",
        )
    # The script of a job also has a number among the tasks; only what srun starts has a step of several.
    if int(environment.get("SLURM_STEP_NUM_TASKS", 1)) > 1 and "SLURM_PROCID" in environment:
        size = int(environment["SLURM_STEP_NUM_TASKS"])
        hosts = environment.get("SLURM_STEP_NODELIST") or environment.get("SLURM_JOB_NODELIST", "127.0.0.1")
        port = _SLURM_PORTS + int(environment.get("SLURM_JOB_ID", "0")) % 10000
        return Place(
            rank=int(environment["SLURM_PROCID"]),
            local_rank=int(environment.get("SLURM_LOCALID", 0)),
            size=size,
            local_size=size // int(environment.get("SLURM_STEP_NUM_NODES", 1)),
            address=environment.get("MASTER_ADDR") or _first_host(hosts),
            port=int(environment.get("MASTER_PORT", port)),
            launcher="SLURM",
        )
    return None


def launch_problems(training: TrainingConfig, place: Place | None) -> list[Problem]:
    """Return in what the options do not fit the processes that a launcher has started.

    Parameters
    ----------
    training : TrainingConfig
        The options.
    place : Place, optional
        What `launched` says.
    """
    devices, hosts = training.devices, training.num_nodes
    problems: list[Problem] = []
    if training.batch_size % (devices * hosts):
        text = f"training.batch_size {training.batch_size} cannot be divided among {devices * hosts} devices."
        problems.append((text, "Choose a batch size that is a multiple of all devices, or fewer devices."))
    if place is None and hosts > 1:
        text = f"training.num_nodes is {hosts}, but nothing has started the processes of the other hosts."
        problems.append((text, "Start it with deploy/train-torchrun.sh or deploy/train-slurm.sbatch."))
    if place is not None and (place.size, place.local_size) != (devices * hosts, devices):
        text = (
            f"{place.launcher} has started {place.size} processes, {place.local_size} on every host, but "
            f"training.devices is {devices} and training.num_nodes {hosts}."
        )
        there = place.size // place.local_size
        problems.append((text, f"Set --training.devices {place.local_size} --training.num-nodes {there}."))
    return problems


def raise_problems(problems: list[Problem]) -> None:
    """Raise a ConfigError that lists all of them, if there are any."""
    if problems:
        texts, remedies = zip(*problems, strict=True)
        raise ConfigError("\n".join(texts), "\n".join(remedies))


def _first_host(hosts: str) -> str:
    """Return the first host of a list as SLURM writes it: `node[3-5,9],other` begins with `node3`."""
    first = re.match(r"([^,\[]+)(?:\[([^\],-]+)[^\]]*\])?([^,]*)", hosts)
    return "".join(part or "" for part in first.groups()) if first else hosts
