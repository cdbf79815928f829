"""How busy the device was during an epoch, and how much memory the run has taken so far."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import torch

from segcore.devices import Hardware


class Usage:
    """Measures the part of an epoch that this process trains.

    Parameters
    ----------
    hardware : Hardware
        Whose use and memory count.
    """

    def __init__(self, hardware: Hardware) -> None:
        self.device = hardware.device
        self.restart()

    def restart(self) -> None:
        """Begin a new measurement."""
        self.waited = 0.0
        """Seconds in which the step waited for its patches."""
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def close(self) -> None:
        """End the measurement: the steps are done."""
        wall = max(time.perf_counter() - self._wall, 1e-9)
        self.loader_wait = min(1.0, self.waited / wall)
        """Share of the time spent waiting for patches, 0 to 1."""
        self.device_use = self._device_use(wall)
        """How busy the device was, 0 to 1; None where nobody can say."""

    @property
    def memory(self) -> int:
        """Peak memory so far in bytes: of the device, on a CPU of the process."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        if self.device.type == "mps":
            return torch.mps.driver_allocated_memory()
        return _peak_of_process(Path("/proc/self/status"))

    def _device_use(self, wall: float) -> float | None:
        if self.device.type == "cpu":
            share = (time.process_time() - self._processor) / (wall * torch.get_num_threads())
            return min(1.0, share)
        if self.device.type == "cuda":
            try:
                return torch.cuda.utilization(self.device) / 100
            except Exception:  # without NVML's Python part, or where the driver does not tell
                return None
        return None


def _peak_of_process(status: Path) -> int:
    """Return the largest resident size the process has had; where nobody says, the present one."""
    try:
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return int(psutil.Process().memory_info().rss)
    return int(line.split()[1]) * 1024
