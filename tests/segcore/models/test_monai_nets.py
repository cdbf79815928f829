"""Networks of MONAI: any size, channels, 2d and 3d, odd spacings, their files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from networks import (
    check_any_size,
    check_comes_back,
    check_half_precision,
    check_learns,
    check_memory,
    check_stages,
)

from segcore.errors import ConfigError
from segcore.models.monai_nets import MonaiNet, build_dynunet, build_segresnet, build_swin_unetr
from segcore.strides import Strides

FLAT: Strides = ()
DEEP: Strides = ((1, 2, 2), (2, 2, 2))


@pytest.fixture(autouse=True)
def _same_seed() -> None:
    torch.manual_seed(0)


def _dynunet(channels: int, plan: Strides) -> MonaiNet:
    return build_dynunet(channels, 2, 8, 2, plan)


def _segresnet(channels: int, plan: Strides) -> MonaiNet:
    return build_segresnet(channels, 2, 8, plan)


def _swin_unetr(channels: int, plan: Strides) -> MonaiNet:
    return build_swin_unetr(channels, 2, 12, plan)


BUILDERS = pytest.mark.parametrize("build", [_dynunet, _segresnet, _swin_unetr])
Build = Callable[[int, Strides], MonaiNet]


@BUILDERS
@pytest.mark.parametrize("plan", [FLAT, DEEP])
def test_any_size_and_every_weight_in_a_stage(build: Build, plan: Strides) -> None:
    network = build(2, plan)
    check_any_size(network, (7, 19, 34)[-network.dimensions :])
    check_any_size(network, (1, 2, 3)[-network.dimensions :])
    check_stages(network)


@BUILDERS
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_it_comes_back_from_a_file(build: Build, channels: int, tmp_path: Path) -> None:
    check_comes_back(lambda: build(channels, FLAT), tmp_path / "weights.pth", (64, 64))


@pytest.mark.parametrize(("build", "rate"), [(_dynunet, 1e-2), (_segresnet, 1e-2), (_swin_unetr, 3e-3)])
def test_two_images_are_learned_by_heart(build: Build, rate: float) -> None:
    check_learns(build(1, FLAT), (64, 64), 30, rate)


@pytest.mark.parametrize("build", [_dynunet, _segresnet])
def test_two_volumes_are_learned_by_heart(build: Build) -> None:
    check_learns(build(1, DEEP), (16, 16, 16), 40, 1e-2)


@BUILDERS
def test_half_precision_is_about_the_same(build: Build) -> None:
    check_half_precision(build(1, FLAT), (64, 64))
    check_half_precision(build(1, DEEP), (16, 32, 32))


@pytest.mark.parametrize(
    ("build", "plan"),
    # In 3d windows of 7 fill only large volumes, which would take too long here.
    [(_dynunet, FLAT), (_dynunet, DEEP), (_segresnet, FLAT), (_segresnet, DEEP), (_swin_unetr, FLAT)],
)
def test_memory_is_enough(build: Build, plan: Strides) -> None:
    check_memory(build(1, plan), (32, 32, 32) if plan else (256, 256))


def test_axes_are_shrunk_as_planned() -> None:
    assert _dynunet(1, DEEP).divisors == (2, 4, 4)
    assert _segresnet(1, DEEP).divisors == (8, 8, 8)


def test_features_that_do_not_suit_are_refused_with_those_that_do() -> None:
    with pytest.raises(ConfigError, match="to 16"):
        build_segresnet(1, 2, 20)
    with pytest.raises(ConfigError, match="to 12"):
        build_swin_unetr(1, 2, 16)
    with pytest.raises(ConfigError, match="2 or more"):
        build_dynunet(1, 2, 8, 1)
