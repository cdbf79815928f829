"""Attention and residual U-Net: what they see, any size, channels and dimensions."""

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

from segcore.models.attention_unet import AttentionUNet
from segcore.models.levels import Levels
from segcore.models.residual_unet import ResidualUNet
from segcore.strides import Strides

KINDS = pytest.mark.parametrize("kind", [AttentionUNet, ResidualUNet])
PLANS: list[Strides] = [(), ((1, 2, 2), (2, 2, 2))]


@pytest.fixture(autouse=True)
def _same_seed() -> None:
    torch.manual_seed(0)


@KINDS
@pytest.mark.parametrize("plan", PLANS)
def test_the_radius_is_exactly_how_far_a_pixel_reaches(kind: type[Levels], plan: Strides) -> None:
    network = transparent(kind(1, 2, 1, 2, plan))  # type: ignore[call-arg, arg-type]
    assert network.is_local
    for axis, radius in enumerate(network.receptive_radii):
        assert farthest(network, axis) == radius


@KINDS
@pytest.mark.parametrize("plan", PLANS)
def test_any_size_any_dimension_and_its_memory(kind: type[Levels], plan: Strides) -> None:
    network = kind(2, 3, 4, 2, plan)  # type: ignore[call-arg, arg-type]
    check_any_size(network, (5, 18, 21)[-network.dimensions :])
    check_stages(network)
    check_memory(network, (16, 64, 64) if plan else (256, 256))
    check_half_precision(network, (8, 16, 16) if plan else (32, 32))


@KINDS
def test_a_tile_with_its_halo_gives_what_the_whole_image_gives(kind: type[Levels]) -> None:
    network = kind(1, 2, 4, 2).eval()  # type: ignore[call-arg, arg-type]
    halo, step = network.receptive_radius, network.divisor
    image = torch.randn(1, 1, 2 * (halo + step), 3 * (halo + step))
    start = -(-halo // step) * step
    with torch.inference_mode():
        whole, tile = network(image), network(image[..., step:])
        inner = tile[..., start : -start or None]
        torch.testing.assert_close(inner, whole[..., step + start : step + start + inner.shape[-1]])


@pytest.mark.parametrize("build", [AttentionUNet, ResidualUNet])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_it_comes_back_and_learns(build: type, channels: int, tmp_path: Path) -> None:
    check_comes_back(lambda: build(channels, 2, 4, 2), tmp_path / "weights.pth", (16, 16))
    check_learns(build(channels, 2, 8, 2), (32, 32), 20, 1e-2)


def test_a_gate_only_weakens() -> None:
    gate = AttentionUNet(1, 2, 4, 2).gates[0].eval()
    skip, below = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    with torch.inference_mode():
        weighed = gate(skip, below)
    assert (weighed.abs() <= skip.abs()).all()
    share = weighed / skip  # one weight per pixel, for all features
    torch.testing.assert_close(share, share[:, :1].expand_as(share))


def test_a_block_that_has_learned_nothing_hands_on_its_input() -> None:
    block = ResidualUNet(1, 2, 4, 2).encoder[0]
    block = type(block)(4, 4).eval()
    with torch.no_grad():
        for weight in block.parameters():
            weight.zero_()
        image = torch.randn(1, 4, 8, 8)
        torch.testing.assert_close(block(image), image.relu())
