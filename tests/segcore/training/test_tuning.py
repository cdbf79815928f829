"""Kernels built for a network change no name and end no training; memory is kept where it can be."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from segcore.devices import Hardware
from segcore.events import Event, NoteEvent
from segcore.training.tuning import WORTH_STEPS, Compiled, compiles, prepare_process

CPU = Hardware(torch.device("cpu"), torch.float32, channels_last=True)
CUDA = Hardware(torch.device("cuda"), torch.float32, channels_last=True)


def failing(message: str) -> Callable[[nn.Module], Callable[[Tensor], Tensor]]:
    """Return a compiler whose kernels always fail."""

    def build(network: nn.Module) -> Callable[[Tensor], Tensor]:
        def kernel(image: Tensor) -> Tensor:
            raise RuntimeError(message)

        return kernel

    return build


def test_without_a_compiler_the_training_goes_on_and_the_person_is_told_once(monkeypatch):
    monkeypatch.setattr(torch, "compile", failing("no g++\nlong trace"))
    network, told = nn.Conv2d(1, 2, 3), list[Event]()
    compiled = Compiled(network, told.append)
    image = torch.rand(1, 1, 8, 8)
    for _ in range(2):
        assert torch.equal(compiled(image), network(image))
    assert len(told) == 1
    assert isinstance(told[0], NoteEvent)
    assert "no g++)" in told[0].text
    assert told[0].remedy


def test_memory_that_runs_out_is_not_taken_for_a_missing_compiler(monkeypatch):
    monkeypatch.setattr(torch, "compile", failing("DefaultCPUAllocator: can't allocate memory"))
    compiled = Compiled(nn.Conv2d(1, 2, 3), pytest.fail)
    with pytest.raises(RuntimeError, match="allocate"):
        compiled(torch.rand(1, 1, 8, 8))


@pytest.mark.parametrize(
    ("wish", "steps", "hardware", "processes", "expected"),
    [
        ("auto", 10**6, CPU, 1, False),
        ("auto", WORTH_STEPS, CUDA, 1, True),
        ("auto", WORTH_STEPS - 1, CUDA, 1, False),
        ("on", 1, CPU, 1, True),
        ("on", 10**6, CUDA, 2, False),
        ("off", 10**6, CUDA, 1, False),
    ],
)
def test_kernels_are_built_where_the_run_pays_for_them(wish, steps, hardware, processes, expected):
    assert compiles(wish, steps, hardware, processes) is expected


def test_preparing_a_process_twice_is_harmless():
    prepare_process(CPU)
    prepare_process(CPU)
    assert torch.equal(torch.zeros(10**6), torch.zeros(10**6))
