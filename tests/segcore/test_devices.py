"""Devices: what is chosen, what is refused, how much memory is left."""

from __future__ import annotations

import psutil
import pytest
import torch

from segcore import devices
from segcore.config import HardwareConfig
from segcore.devices import choose
from segcore.errors import ConfigError


def test_auto_takes_the_fastest_device_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_devices", lambda: ["mps", "cpu"])
    assert choose(HardwareConfig()).device.type == "mps"
    monkeypatch.setattr(devices, "_devices", lambda: ["cpu"])
    assert choose(HardwareConfig()).device.type == "cpu"


def test_a_missing_device_is_refused_with_a_list_of_those_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(devices, "_devices", lambda: ["mps", "cpu"])
    with pytest.raises(ConfigError, match="cuda, but this machine offers only mps, cpu"):
        choose(HardwareConfig(device="cuda"))


@pytest.mark.parametrize(("device", "precision"), [("cpu", "fp16"), ("mps", "bf16")])
def test_a_format_the_device_does_badly_is_refused(
    device: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "_devices", lambda: [device, "cpu"])
    with pytest.raises(ConfigError, match=precision):
        choose(HardwareConfig.model_validate({"device": device, "precision": precision}))


@pytest.mark.parametrize("fast", [True, False])
def test_a_cpu_computes_bf16_only_where_it_has_the_instructions(
    fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: fast)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    hardware = choose(HardwareConfig(device="cpu"))
    assert hardware.dtype is (torch.bfloat16 if fast else torch.float32)


def test_autocast_computes_in_the_chosen_format() -> None:
    layer = torch.nn.Linear(3, 2)
    for precision, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        hardware = choose(HardwareConfig.model_validate({"device": "cpu", "precision": precision}))
        with hardware.autocast():
            assert layer(torch.ones(1, 3)).dtype is dtype
        assert not hardware.needs_scaler
        assert hardware.describe().startswith("CPU, ")
        assert hardware.describe().endswith(precision)


def test_free_memory_is_at_most_what_the_machine_has() -> None:
    free = choose(HardwareConfig(device="cpu")).free_memory()
    assert 0 < free <= psutil.virtual_memory().total
