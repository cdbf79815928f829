"""Estimates: parameters and arithmetic against the real network, times that follow the options."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from segcore.config import ModelConfig, RunConfig, build_config
from segcore.errors import ConfigError
from segcore.estimate import (
    Network,
    Stack,
    network_of,
    parameters_of,
    patch_shape,
    plan_strides,
    read_machine,
    record_speed,
    training_seconds,
    unet_macs,
    unet_parameters,
)
from segcore.models.build import build_model
from segcore.models.unet import UNet
from segcore.strides import divisors
from segcore.workspace import Workspace

NETWORKS = [
    Network(64, 4, 1, 2), Network(16, 2, 3, 5), Network(5, 6, 2, 3),
    Network(4, 2, 3, 2, ((1, 2, 2), (2, 2, 2))), Network(3, 3, 1, 4, ((2, 2, 2),) * 3),
]  # fmt: skip


@pytest.mark.parametrize("network", NETWORKS)
def test_parameters_are_those_of_the_network(network: Network) -> None:
    counted = sum(weight.numel() for weight in _built(network).parameters())
    assert unet_parameters(network) == counted


@pytest.mark.parametrize("network", NETWORKS)
def test_arithmetic_is_what_torch_counts(network: Network) -> None:
    shape = (9, 50, 37) if network.strides else (100, 130)
    with torch.device("meta"):
        image = torch.empty(1, network.inputs, *shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        _built(network)(image)
    assert 2 * unet_macs(network, shape) == counter.get_total_flops()


def _built(network: Network) -> UNet:
    with torch.device("meta"):
        return UNet(network.inputs, network.classes, network.features, network.layers, network.strides).eval()


@pytest.mark.parametrize("mode", ["2.5d", "3d"])
def test_the_network_is_the_one_of_the_mode(mode: str) -> None:
    config = build_config({"data": {"mode": mode, "context_slices": 5}})
    network = network_of(config, Stack(30, 64, 64, 2, voxel=(1.0, 0.3, 0.3)))
    assert network.inputs == {"2.5d": 10, "3d": 2}[mode]
    assert network.strides == plan_strides(config, (1.0, 0.3, 0.3))
    assert bool(network.strides) == (mode == "3d")
    assert training_seconds(config, 30, 100.0, Stack(30, 64, 64, 2)) > 0


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
    record_speed(workspace, "CPU", 10.0, unet_macs(Network(64, 4), (64, 64)))
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


def test_in_3d_a_patch_keeps_four_pixels_at_the_deepest_level() -> None:
    flat = {"data": {"patch_size": 32}, "model": {"layers": 4}}
    assert patch_shape(build_config(flat)) == (32, 32)
    with pytest.raises(ConfigError, match="at least 64 px in 3d"):
        build_config({**flat, "data": {"patch_size": 32, "mode": "3d"}})
    solid = build_config({**flat, "data": {"patch_size": 64, "mode": "3d", "patch_depth": 8}})
    assert patch_shape(solid) == (8, 64, 64)
    assert len(plan_strides(solid, None)) == 4


@pytest.mark.parametrize("family", ["segresnet", "swin-unetr"])
def test_a_network_that_halves_every_axis_has_the_strides_it_is_built_with(family: str) -> None:
    config = build_config({"model": {"family": family}, "data": {"mode": "3d", "patch_size": 64}})
    strides = plan_strides(config, None)
    assert strides == plan_strides(config, (5.0, 1.0, 1.0))
    with torch.device("meta"):
        assert build_model(config.model, 1, 2, strides).divisors == divisors(strides)


@pytest.mark.parametrize(
    ("mode", "options", "tolerance"),
    [
        ("2d", {"family": "unet-attention", "features": 32, "layers": 3}, 0.05),
        ("2d", {"family": "unet-residual", "features": 16}, 0.05),
        ("2d", {"family": "dynunet", "features": 32}, 0.35),
        ("3d", {"family": "segresnet", "features": 16}, 0.3),
        ("3d", {"family": "swin-unetr"}, 0.3),
        ("2.5d", {"family": "sensor3d", "features": 16, "layers": 3}, 0.1),
        ("2d", {"family": "unet-encoder", "encoder": "resnet101"}, 0.2),
        ("2d", {"family": "deeplabv3plus", "encoder": "mobilenet_v2"}, 0.35),
        ("2d", {"family": "pspnet", "encoder": "resnet18"}, 0.4),
    ],
)
def test_the_parameters_of_other_families_are_about_those_of_the_network(
    mode: str, options: dict[str, object], tolerance: float
) -> None:
    config = build_config({"model": options, "data": {"mode": mode}})
    network = network_of(config)
    slices = config.data.context_slices if mode == "2.5d" else 1
    with torch.device("meta"):
        built = build_model(config.model, network.inputs, 2, network.strides, slices)
    counted = sum(weight.numel() for weight in built.parameters())
    assert parameters_of(config.model, network) == pytest.approx(counted, rel=tolerance)


def test_an_encoder_that_nobody_has_listed_counts_as_the_usual_one() -> None:
    usual = ModelConfig(family="unet-encoder")
    other = ModelConfig(family="unet-encoder", encoder="tu-nobody")
    assert parameters_of(other, Network(*other.like)) == usual.kind.parameters
    smallest = ModelConfig(family="pspnet", encoder="tu-mobilenetv3_small_100")
    assert 0 < parameters_of(smallest, Network(*smallest.like)) < smallest.kind.parameters
