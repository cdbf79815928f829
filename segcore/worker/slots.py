"""Slots: the devices of a worker, and which jobs may run on which."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from segcore.errors import ConfigError, SegcoreError
from segcore.jobs.store import Job, Kind

CPU = "cpu"
LIST_SECONDS = 20.0
NAME = re.compile(r"^(cpu|cuda:[\w/-]+)$", re.ASCII)


@dataclass(frozen=True)
class Slot:
    """A place where one job of a kind runs at a time.

    Parameters
    ----------
    kind : {"train", "predict"}
        What runs there.
    device : str
        `cpu`, `cuda:0` …
    devices : tuple of str
        All devices of the worker.
    """

    kind: Kind
    device: str
    devices: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the slot is called in the log."""
        return f"{self.kind} on {self.device}"

    def fits(self, job: Job, elsewhere: bool) -> bool:
        """Say whether a job may run here.

        Parameters
        ----------
        job : Job
            A job that waits.
        elsewhere : bool
            Whether a worker of another host has a GPU.
        """
        try:
            wanted = job.config.hardware.device
        except SegcoreError:
            return True  # the job's own process says what is wrong with its options
        if self.device != CPU:
            return wanted != CPU
        if wanted == CPU:
            return True
        # Without a GPU anywhere, the job's own process says that there is none, or finds one we do not know.
        return self.devices == (CPU,) and not (wanted == "cuda" and elsewhere)


def parse_devices(text: str) -> tuple[str, ...]:
    """Return the devices of a list as `cuda:0,cuda:1,cpu`.

    Raises
    ------
    ConfigError
        A name is not a device, or stands there twice.
    """
    names = tuple(name.strip() for name in text.split(","))
    wrong = [name for name in names if not NAME.match(name)]
    if wrong:
        raise ConfigError(
            f"{', '.join(map(repr, wrong))} is not a device.", "Write cpu, cuda:0, or several: cuda:0,cuda:1."
        )
    if len(set(names)) < len(names):
        raise ConfigError(f"A device stands twice in {text!r}.", "Name every device once.")
    return names


def detect_devices(command: Sequence[str] = ("nvidia-smi", "-L")) -> tuple[str, ...]:
    """Return the GPUs that this process may use, and the CPU.

    Asks the driver's own tool, because torch takes seconds to import and would occupy memory on every GPU.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        numbers = [number.strip() for number in visible.split(",")]
        return (*(f"cuda:{number}" for number in numbers if number not in ("", "-1")), CPU)
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=LIST_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return (CPU,)
    count = sum(line.startswith("GPU ") for line in answer.stdout.splitlines())
    return (*(f"cuda:{number}" for number in range(count)), CPU)
