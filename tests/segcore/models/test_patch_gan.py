"""The network that judges predictions: what it sees, what it costs, and that images are judged alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from segcore.config import build_config
from segcore.estimate import (
    Network,
    Stack,
    adversary_macs,
    adversary_parameters,
    patch_macs,
    training_seconds,
    unet_macs,
)
from segcore.footprint import estimate_footprint
from segcore.models.patch_gan import PatchGan

SOLID = ((1, 2, 2),)


@pytest.mark.parametrize("strides", [(), SOLID])
def test_parameters_and_arithmetic_are_counted(strides: tuple[tuple[int, ...], ...]) -> None:
    network = PatchGan(3, 4, 3 if strides else 2)
    sizes = Network(64, 4, 3, 4, strides)
    assert sum(weight.numel() for weight in network.parameters()) == adversary_parameters(sizes)
    done: list[int] = []

    def count(part: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
        weight = part.weight
        assert isinstance(weight, Tensor)
        done.append(result[0].numel() * weight.numel() // len(weight))

    for part in network.parts:
        if isinstance(part, nn.Conv2d | nn.Conv3d):
            part.register_forward_hook(count)
    shape = (4, 256, 256) if strides else (512, 512)
    network(torch.zeros(1, 3, *shape), torch.zeros(1, 4, *shape))
    assert sum(done) == pytest.approx(adversary_macs(sizes, shape), rel=0.1)


def test_the_options_say_what_it_costs() -> None:
    usual, contested = (build_config({"training": {"adversarial": weight}}) for weight in (0, 0.1))
    stack, network = Stack(10), Network(64, 4)
    assert patch_macs(usual, network) == unet_macs(network, (64, 64))
    assert training_seconds(contested, 10, 100, stack) > training_seconds(usual, 10, 100, stack)
    less, more = (estimate_footprint(config, stack) for config in (usual, contested))
    assert more.patch > less.patch
    assert more.weights - less.weights == adversary_parameters(network) * (16 + 12)


def test_a_number_judges_seventy_pixels_and_eleven_slices() -> None:
    network = PatchGan(1, 2, 3)
    for part in network.parts:
        if isinstance(part, nn.InstanceNorm3d):
            part.eval()
            part.forward = lambda image: image  # type: ignore[method-assign]
    image = torch.randn(1, 1, 15, 128, 128, requires_grad=True)
    judged = network(image, torch.zeros(1, 2, 15, 128, 128))
    centre = [size // 2 for size in judged.shape[2:]]
    judged[0, 0, *centre].backward()
    assert image.grad is not None
    seen = image.grad[0, 0].nonzero()
    assert (seen.amax(0) - seen.amin(0) + 1).tolist() == [11, 70, 70]


def test_images_of_a_batch_are_judged_one_by_one() -> None:
    torch.manual_seed(0)
    network = PatchGan(1, 2, 2)
    image, shares = torch.randn(3, 1, 40, 57), torch.rand(3, 2, 40, 57)
    together = network(image, shares)
    for number in range(3):
        alone = network(image[number : number + 1], shares[number : number + 1])
        torch.testing.assert_close(alone[0], together[number], rtol=1e-4, atol=1e-5)


def test_the_first_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = PatchGan(1, 2, 2)
    two = PatchGan(1, 2, 2)
    for network, seed in ((one, 5), (two, 5)):
        network.draw(seed)
    assert all(torch.equal(*pair) for pair in zip(one.parameters(), two.parameters(), strict=True))
    two.draw(6)
    assert not torch.equal(one.parts[0].weight, two.parts[0].weight)
