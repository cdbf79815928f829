"""The U-Net: size, reach, padding, seeds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from segcore.config import ModelConfig
from segcore.errors import ConfigError
from segcore.models.build import BUILDERS, build_model
from segcore.models.unet import UNet, architecture


@pytest.mark.parametrize(("features", "millions"), [(64, 31.0), (32, 7.8)])
def test_it_is_the_network_of_the_paper(features: int, millions: float) -> None:
    with torch.device("meta"):
        network = UNet(1, 2, features, 4)
    assert round(sum(weight.numel() for weight in network.parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_receptive_radius_is_exactly_how_far_an_input_pixel_reaches(layers: int) -> None:
    network = _transparent(UNet(1, 2, 1, layers))
    radius, step = network.receptive_radius, network.divisor
    size = 2 * (radius + step) // step * step + step
    plain = torch.zeros(1, 1, size, size, dtype=torch.float64)
    farthest = 0
    with torch.inference_mode():
        reference = network(plain)
        for shift in range(step):
            row = size // 2 // step * step + shift
            poked = plain.clone()
            poked[0, 0, row, row] = 1e6
            changed = (network(poked) != reference).any(dim=1)[0].nonzero()
            farthest = max(farthest, int((changed - row).abs().max()))
    assert farthest == radius


@given(height=st.integers(1, 40), width=st.integers(1, 40))
@settings(deadline=None, max_examples=20)
def test_any_size_is_the_same_as_repeating_the_edge_by_hand(height: int, width: int) -> None:
    torch.manual_seed(0)
    network = UNet(2, 3, 2, 2).eval()
    image = torch.randn(1, 2, height, width)
    padded = functional.pad(image, (0, -width % 4, 0, -height % 4), mode="replicate")
    with torch.inference_mode():
        result = network(image)
        assert result.shape == (1, 3, height, width)
        torch.testing.assert_close(result, network(padded)[..., :height, :width])


def test_a_seed_gives_the_same_weights() -> None:
    networks = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        networks.append(build_model(ModelConfig(features=2, layers=2), 1, 2).state_dict())
    same = [torch.equal(networks[0][name], networks[1][name]) for name in networks[0]]
    assert all(same)
    assert not torch.equal(networks[0]["head.weight"], networks[2]["head.weight"])


def test_signals_keep_their_size_through_the_fresh_network() -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        logits = UNet(1, 2, 8, 4)(torch.randn(2, 1, 64, 64))
    assert 0.1 < logits.std() < 10


def test_every_weight_learns() -> None:
    torch.manual_seed(0)
    network = UNet(1, 2, 4, 2)
    network(torch.randn(2, 1, 32, 32)).square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in network.parameters())


def test_the_architecture_can_be_told_from_the_shapes() -> None:
    network = UNet(3, 5, 6, 2)
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert architecture(shapes) == {
        "dimensions": 2, "features": 6, "layers": 2, "channels": 3, "classes": 5
    }  # fmt: skip
    assert architecture({"fc.weight": (2, 3)}) == {}


def test_an_unknown_family_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unet"):
        BUILDERS["vnet"]


def _transparent(network: UNet) -> UNet:
    """Make every path through the network positive and growing, so that whatever can reach an output does."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(1.0)
    return network.double().eval()
