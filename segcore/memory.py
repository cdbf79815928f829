"""How much memory there is, whether an error means that it ran out, and a guard that speaks in time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import psutil

from segcore.errors import JobError

CGROUPS = Path("/sys/fs/cgroup")
RESERVE_BYTES, RESERVE_SHARE = 300 * 10**6, 0.03
"""Less than the larger of the two left over: the next allocation may be the last."""
LOOK_EVERY = 1.0
"""Seconds between two looks of the guard."""
_ALLOCATOR_WORDS = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")


class Memory(NamedTuple):
    """Main memory in bytes, as far as this process may use it."""

    total: int
    available: int


class MemoryPressure(JobError):
    """Main memory is nearly used up; whoever goes on now is killed by the system."""


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that main memory or the memory of the device ran out.

    CUDA has a class for it; the allocators of the CPU and of MPS raise a plain RuntimeError.
    """
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _ALLOCATOR_WORDS)


def main_memory(cgroups: Path = CGROUPS, process: Path = Path("/proc/self/cgroup")) -> Memory:
    """Return main memory in all and what is left of it: of the machine, or of the container if that is less.

    Parameters
    ----------
    cgroups : Path
        Where the limits of containers are mounted (cgroup v2, or v1 with its folder `memory`).
    process : Path
        The file that says to which group this process belongs.
    """
    machine = psutil.virtual_memory()
    total, available = int(machine.total), int(machine.available)
    for folder in _own_groups(cgroups, process):
        limit, used = _limit(folder)
        total = min(total, limit)
        available = min(available, max(0, limit - used))
    return Memory(total, available)


class MemoryGuard:
    """Raises before the system kills the process, which would leave no word of why.

    Parameters
    ----------
    read : callable
        Returns the memory there is, see `main_memory`.
    clock : callable
        Returns seconds.
    """

    def __init__(
        self, read: Callable[[], Memory] = main_memory, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._clock = clock
        self._looked = float("-inf")

    def check(self) -> None:
        """Look at the memory, at most once a second; cheap enough for every step.

        Raises
        ------
        MemoryPressure
            Less than 300 MB, or than 3 % of the memory, are left.
        """
        now = self._clock()
        if now - self._looked < LOOK_EVERY:
            return
        self._looked = now
        memory = self._read()
        reserve = max(RESERVE_BYTES, RESERVE_SHARE * memory.total)
        if memory.available >= reserve:
            return
        raise MemoryPressure(
            f"Main memory is nearly used up: {memory.available / 1e6:.0f} MB of {memory.total / 1e9:.1f} GB "
            "are left. The run was stopped before the system would have killed it.",
            "Close other programs, or use a smaller batch size, micro-batch, patch size or fewer features.",
        )


def _own_groups(cgroups: Path, process: Path) -> list[Path]:
    """Return the folders of the groups the process is in, outer ones too: the limit of each holds."""
    try:
        lines = process.read_text().splitlines()
    except OSError:
        lines = []
    found = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers not in ("", "memory"):
            continue
        root = cgroups / "memory" if controllers else cgroups
        parts = [part for part in path.split("/") if part not in ("", "..")]
        found += [root.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
    # Inside a container its own group is often mounted as the root.
    return list(dict.fromkeys([cgroups, cgroups / "memory", *found]))


def _limit(folder: Path) -> tuple[int, int]:
    """Return limit and use of a group in bytes, without the file cache that can be dropped at any time.

    2**62 stands for no limit.
    """
    for limit_name, used_name in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        try:
            limit, used = ((folder / name).read_text().strip() for name in (limit_name, used_name))
        except OSError:
            continue
        if limit.isdigit() and used.isdigit():
            return int(limit), max(0, int(used) - _file_cache(folder))
    return 2**62, 0


def _file_cache(folder: Path) -> int:
    try:
        words = (folder / "memory.stat").read_text().split()
    except OSError:
        return 0
    counts = dict(zip(words[::2], words[1::2], strict=False))
    # v1 counts the groups below only in the entries that begin with total_.
    return int(counts.get("total_inactive_file", counts.get("inactive_file", 0)))
