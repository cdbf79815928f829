"""Memory: limits of containers count, errors are told apart, the guard speaks in time and not too often."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest
import torch

from segcore.errors import JobError
from segcore.memory import LOOK_EVERY, Memory, MemoryGuard, is_out_of_memory, main_memory


def _group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def test_without_limits_it_is_the_memory_of_the_machine(tmp_path: Path) -> None:
    memory = main_memory(tmp_path, tmp_path / "none")
    assert memory.total == psutil.virtual_memory().total
    assert 0 < memory.available <= memory.total


def test_the_limit_of_a_container_counts(tmp_path: Path) -> None:
    _group(tmp_path, memory__max="1000", memory__current="400")
    assert main_memory(tmp_path, tmp_path / "none") == Memory(1000, 600)
    _group(tmp_path, memory__max="max", memory__current="400")
    assert main_memory(tmp_path, tmp_path / "none").total == psutil.virtual_memory().total


def test_the_tightest_limit_of_all_outer_groups_counts(tmp_path: Path) -> None:
    process = tmp_path / "cgroup"
    process.write_text("0::/slice/job\n")
    _group(tmp_path / "slice", memory__max="1000", memory__current="900")
    _group(tmp_path / "slice" / "job", memory__max="2000", memory__current="100")
    assert main_memory(tmp_path, process) == Memory(1000, 100)


def test_the_older_kind_of_groups_counts_too_and_a_droppable_cache_is_free(tmp_path: Path) -> None:
    process = tmp_path / "cgroup"
    process.write_text("4:memory:/job\n3:cpuset:/\n")
    _group(
        tmp_path / "memory" / "job",
        memory__limit_in_bytes="1000",
        memory__usage_in_bytes="900",
        memory__stat="cache 500\ninactive_file 1\ntotal_inactive_file 300",
    )
    assert main_memory(tmp_path, process) == Memory(1000, 400)


def test_errors_of_every_allocator_are_known() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB"))
    with pytest.raises(RuntimeError) as failure:
        torch.empty(2**50)
    assert is_out_of_memory(failure.value)
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("out of memory of what was said"))


@pytest.mark.parametrize(
    ("total", "available", "calm"),
    [(10**10, 4 * 10**8, True), (10**10, 2.9 * 10**8, False), (10**11, 2.9 * 10**9, False)],
)
def test_the_guard_speaks_when_little_is_left(total: int, available: float, calm: bool) -> None:
    guard = MemoryGuard(lambda: Memory(total, int(available)), lambda: 0.0)
    if calm:
        guard.check()
        return
    with pytest.raises(JobError, match="nearly used up") as failure:
        guard.check()
    assert "smaller" in failure.value.remedy


def test_the_guard_looks_at_most_once_a_second() -> None:
    now, looks = [0.0], []

    def read() -> Memory:
        looks.append(now[0])
        return Memory(10**10, 10**10)

    guard = MemoryGuard(read, lambda: now[0])
    for _ in range(100):
        guard.check()
        now[0] += LOOK_EVERY / 10
    assert len(looks) == pytest.approx(10, abs=1)
