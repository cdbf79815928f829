"""FC-DenseNet: the parameters of the paper, and exactly how far it sees."""

from __future__ import annotations

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
    farthest,
    transparent,
)

from segcore.errors import ConfigError
from segcore.models.fc_densenet import SIZES, FCDenseNet, Size, build_fc_densenet
from segcore.models.fc_densenet import farthest as computed

TINY = Size(2, (1, 2), 1, (2, 1))


@pytest.fixture(autouse=True)
def _same_seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(("size", "millions"), [("56", 1.5), ("67", 3.5), ("103", 9.4)])
def test_the_parameters_are_those_of_the_paper(size: str, millions: float) -> None:
    with torch.device("meta"):
        network = build_fc_densenet(3, 11, size)
    count = sum(weight.numel() for weight in network.parameters())
    assert count == pytest.approx(1e6 * millions, rel=0.1)


@pytest.mark.parametrize("size", [Size(1, (1,), 1, (1,)), TINY, Size(1, (2, 1, 1), 2, (1, 1, 3))])
def test_the_radius_is_exactly_how_far_a_pixel_reaches(size: Size) -> None:
    network = transparent(FCDenseNet(1, 2, size))
    assert network.is_local
    assert farthest(network, 0) == farthest(network, 1) == network.receptive_radius == computed(size)


def test_the_networks_of_the_paper_see_farther_than_any_tile_reads() -> None:
    for size in SIZES.values():
        assert computed(size) > 128
    with torch.device("meta"):
        assert not build_fc_densenet(1, 2).is_local


def test_any_size_its_memory_and_stages() -> None:
    network = build_fc_densenet(2, 3)
    check_any_size(network, (33, 70))
    check_stages(network)
    check_memory(network, (128, 128))
    check_half_precision(network, (64, 64))


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_it_comes_back_and_learns(channels: int, tmp_path: Path) -> None:
    check_comes_back(lambda: FCDenseNet(channels, 2, TINY), tmp_path / "weights.pth", (16, 16))
    check_learns(FCDenseNet(channels, 2, TINY._replace(growth=8)), (32, 32), 20, 1e-2)


def test_nothing_is_dropped_in_a_prediction() -> None:
    network = FCDenseNet(1, 2, TINY, dropout=0.5)
    image = torch.randn(1, 1, 16, 16)
    with torch.inference_mode():
        assert not torch.equal(network.train()(image), network(image))
        assert torch.equal(network.eval()(image), network(image))


def test_an_unknown_size_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="103"):
        build_fc_densenet(1, 2, "99")
