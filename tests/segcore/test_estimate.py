"""Estimates: parameters and arithmetic against the real network, times that follow the options."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from segcore.config import RunConfig, build_config
from segcore.estimate import (
    Stack,
    read_machine,
    record_speed,
    training_seconds,
    unet_macs,
    unet_parameters,
)
from segcore.models.unet import UNet
from segcore.workspace import Workspace

SIZES = [(64, 4, 1, 2), (16, 2, 3, 5), (5, 6, 2, 3)]


@pytest.mark.parametrize(("features", "layers", "channels", "classes"), SIZES)
def test_parameters_are_those_of_the_network(features: int, layers: int, channels: int, classes: int) -> None:
    with torch.device("meta"):
        network = UNet(channels, classes, features, layers)
    counted = sum(weight.numel() for weight in network.parameters())
    assert unet_parameters(features, layers, channels, classes) == counted


@pytest.mark.parametrize(("features", "layers", "channels", "classes"), SIZES)
def test_arithmetic_is_what_torch_counts(features: int, layers: int, channels: int, classes: int) -> None:
    with torch.device("meta"):
        network = UNet(channels, classes, features, layers).eval()
        image = torch.empty(1, channels, 100, 130)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    assert 2 * unet_macs(features, layers, 100, 130, channels, classes) == counter.get_total_flops()


def _training(**options: dict[str, object]) -> float:
    return training_seconds(build_config(dict(options)), slices=30, gflops=100.0)


def test_training_time_follows_the_options() -> None:
    base = _training()
    assert base == pytest.approx(training_seconds(RunConfig(), 30, 200.0) * 2)
    assert _training(training={"epochs": 50}) == pytest.approx(base / 2)
    assert _training(model={"features": 32}) == pytest.approx(base / 4, rel=0.05)
    assert _training(data={"validation_slices": "0-25"}) < 0.6 * base
    assert _training(training={"max_minutes": 1.0}) == 60
    assert _training(data={"validation_slices": "29-24"}) > 0


def test_the_measured_speed_gives_back_the_time_it_was_measured_from(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    assert read_machine(workspace) is None
    config = build_config({"training": {"epochs": 1}})
    record_speed(workspace, "CPU", 10.0, unet_macs(64, 4, 64, 64))
    machine = read_machine(workspace)
    assert machine is not None
    seconds = training_seconds(config, 30, machine.gflops, Stack(30, 64, 64))
    assert seconds == pytest.approx(24 * 50 / 10, rel=0.01)


def test_a_new_measurement_replaces_the_old_and_none_does_not(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    record_speed(workspace, "CPU", 10.0, 10**9)
    newer = record_speed(workspace, "GPU", 1000.0, 10**9)
    assert read_machine(workspace) == newer
    assert record_speed(workspace, "GPU", 0.0, 10**9) is None
    assert read_machine(workspace) == newer


def test_a_damaged_record_is_as_good_as_none(tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path)
    (workspace.state / "machine.json").write_text('{"text": "CPU"')
    assert read_machine(workspace) is None
