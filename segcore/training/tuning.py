"""What makes a process quick for a training: memory that is kept, TF32, kernels built for the network."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from typing import Literal

import torch
from torch import Tensor, nn

from segcore.devices import Hardware
from segcore.events import NoteEvent, Reporter
from segcore.memory import is_out_of_memory

KEPT_BYTES, LARGE_BYTES = 2**30, 32 * 2**20
"""Freed memory that a process keeps at hand, and the size above which an array goes back at once."""
WORTH_STEPS = 5_000
"""Steps from which kernels built for the network, a minute's work, are made up for on CUDA."""
_TRIM, _MAP = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of mallopt(3)."""


def prepare_process(hardware: Hardware) -> None:
    """Set what holds for the whole process.

    On a CPU under Linux, memory that a step frees is kept for the next one: glibc would return it and have
    every page, zeroed, from the system again, tens of thousands per step. On CUDA what stays float32 is
    multiplied in TF32.
    """
    if hardware.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    elif hardware.device.type == "cpu" and sys.platform == "linux":
        with suppress(OSError, AttributeError):  # other C libraries have no mallopt
            mallopt = ctypes.CDLL(None).mallopt
            mallopt(_MAP, LARGE_BYTES)
            mallopt(_TRIM, KEPT_BYTES)


def compiles(wish: Literal["auto", "on", "off"], steps: int, hardware: Hardware, processes: int) -> bool:
    """Say whether kernels are built for the network: the same answer whenever a run is taken up again.

    Parameters
    ----------
    wish : {"auto", "on", "off"}
        The option training.compile. auto: on CUDA, for runs of at least `WORTH_STEPS` steps; on a CPU
        building takes minutes and the convolutions, most of the work, are the same library's.
    steps : int
        Steps of the whole run.
    hardware : Hardware
        Where it computes.
    processes : int
        Processes that train together; several call the network through DDP, uncompiled.
    """
    if processes > 1 or wish == "off":
        return False
    return wish == "on" or (hardware.device.type == "cuda" and steps >= WORTH_STEPS)


class Compiled(nn.Module):
    """A network whose kernels torch.compile builds at the first step; where it cannot, the network as it is.

    Parameters
    ----------
    network : Module
        Goes on holding weights and state; their names in checkpoints stay as they are.
    report : Reporter
        Told once if the kernels cannot be built.
    """

    def __init__(self, network: nn.Module, report: Reporter) -> None:
        super().__init__()
        self.network = network
        self._built = torch.compile(network)
        self._report = report
        self._works = True

    def forward(self, image: Tensor) -> Tensor:
        """Return what the network returns."""
        if self._works:
            try:
                logits: Tensor = self._built(image)
                return logits
            except Exception as error:  # the compiler raises many kinds
                if is_out_of_memory(error):
                    raise
                self._works = False
                self._report(_cannot(error))
        result: Tensor = self.network(image)
        return result


def _cannot(error: Exception) -> NoteEvent:
    reason = str(error).strip().split("\n")[0][:200]
    return NoteEvent(
        level="warning",
        text=f"No kernels could be built for this network ({reason}); the training goes on without.",
        remedy="Install a C++ compiler, or set training.compile to off.",
    )
