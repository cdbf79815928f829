"""The view that trains with shared statistics: the same weights, and all that the network itself does."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from teams import in_team
from torch import nn

from segcore.models.smp_nets import build_smp
from segcore.training.distributed import Team
from segcore.training.sync_norm import shared_view


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("encoder", ["tu-mobilenetv3_small_100", "resnet18"])
def test_a_shared_view_computes_what_the_network_does(encoder: str, device: str) -> None:
    torch.manual_seed(0)
    network = build_smp(1, 2, "unet", encoder).eval()
    image = torch.randn(2, 1, 64, 64)
    view = shared_view(network, torch.device(device))
    with torch.inference_mode():
        assert torch.equal(view(image), network(image))
    assert not any(type(module) is nn.BatchNorm2d for module in view.modules())
    assert [id(weight) for weight in view.parameters()] == [id(weight) for weight in network.parameters()]


def difference(team: Team) -> float:
    """Return how far the gradients of a shared batch are from those of the whole one."""
    from timm.layers import BatchNormAct2d

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), BatchNormAct2d(4), nn.Conv2d(4, 2, 1)).train()
    whole, image = deepcopy(network), torch.randn(4, 1, 12, 12)
    step = team.trained(team.view(network, torch.device("cpu")))
    step(image[2 * team.rank : 2 * team.rank + 2]).square().mean().backward()
    whole(image).square().mean().backward()
    pairs = zip(network.parameters(), whole.parameters(), strict=True)
    return max(float((one.grad - other.grad).abs().max()) for one, other in pairs)  # type: ignore[operator]


def test_what_follows_a_normalisation_is_trained_through() -> None:
    assert max(in_team(difference)) < 1e-5
