"""The U-Net in three dimensions: where it pools, how far it looks, odd sizes, its state."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from segcore.models.unet import UNet, architecture
from segcore.strides import LEAST, Strides, divisors, kernels, pooling_plan

PLANS: list[Strides] = [
    ((2, 2, 2), (2, 2, 2)), ((1, 2, 2), (2, 2, 2)), ((1, 2, 2), (1, 2, 2)), ((2, 1, 1), (2, 2, 2)),
]  # fmt: skip
spacings = st.floats(0.05, 20.0)


@given(
    voxel=st.tuples(spacings, spacings, spacings),
    depth=st.integers(1, 16).map(lambda number: 4 * number),
    side=st.integers(1, 8),
    layers=st.integers(2, 4),
)
def test_a_plan_halves_what_is_fine_and_large_enough(
    voxel: tuple[float, float, float], depth: int, side: int, layers: int
) -> None:
    patch = (depth, side * 2**layers * LEAST, side * 2**layers * LEAST)
    plan = pooling_plan(voxel, patch, layers)
    assert len(plan) == layers
    for size, divisor in zip(patch, divisors(plan), strict=True):
        assert size % divisor == 0
        assert size // divisor >= LEAST
    spacing = list(voxel)
    for step in plan:
        assert 2 in step
        halved = [spacing[axis] for axis in range(3) if step[axis] == 2]
        assert max(halved) < 2 * min(halved)
        spacing = [size * factor for size, factor in zip(spacing, step, strict=True)]


def test_slices_far_apart_are_left_alone_until_the_others_are_as_coarse() -> None:
    assert pooling_plan((5, 1, 1), (16, 64, 64), 4) == ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    assert kernels(((1, 2, 2), (2, 2, 2))) == ((1, 3, 3), (3, 3, 3), (3, 3, 3))
    assert pooling_plan(None, (16, 64, 64), 2) == pooling_plan((None, 1, 1), (16, 64, 64), 2)


@pytest.mark.parametrize("plan", PLANS)
def test_the_radius_is_exactly_how_far_a_voxel_reaches_along_each_axis(plan: Strides) -> None:
    network = _transparent(UNet(1, 2, 1, 2, plan))
    sizes = [
        2 * (radius + step) // step * step + step
        for radius, step in zip(network.receptive_radii, network.divisors, strict=True)
    ]
    middle = [size // 2 // step * step for size, step in zip(sizes, network.divisors, strict=True)]
    plain = torch.zeros(1, 1, *sizes, dtype=torch.float64)
    with torch.inference_mode():
        reference = network(plain)
        for axis, step in enumerate(network.divisors):
            farthest = 0
            for shift in range(step):
                at = [place + (shift if number == axis else 0) for number, place in enumerate(middle)]
                poked = plain.clone()
                poked[0, 0, *at] = 1e6
                changed = (network(poked) != reference).any(dim=1)[0].nonzero()[:, axis]
                farthest = max(farthest, int((changed - at[axis]).abs().max()))
            assert farthest == network.receptive_radii[axis]


@given(shape=st.tuples(st.integers(1, 9), st.integers(1, 20), st.integers(1, 20)))
@settings(deadline=None, max_examples=15)
def test_any_size_is_the_same_as_repeating_the_edge_by_hand(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    network = UNet(2, 3, 2, 2, ((1, 2, 2), (2, 2, 2))).eval()
    image = torch.randn(1, 2, *shape)
    padded = functional.pad(image, (0, -shape[2] % 4, 0, -shape[1] % 4, 0, -shape[0] % 2), mode="replicate")
    with torch.inference_mode():
        result = network(image)
        assert result.shape == (1, 3, *shape)
        torch.testing.assert_close(result, network(padded)[:, :, : shape[0], : shape[1], : shape[2]])


def test_a_network_that_does_not_look_along_the_planes_is_the_2d_network_on_each() -> None:
    """With kernels and strides of 1 along the planes in all but the bottom, whose sides are zero here."""
    flat, deep = UNet(1, 2, 2, 2), UNet(1, 2, 2, 2, ((1, 2, 2), (1, 2, 2)))
    weights = {}
    for name, tensor in deep.state_dict().items():
        source = flat.state_dict()[name]
        weights[name] = tensor.clone()
        if tensor.ndim == 5:
            weights[name].zero_()
            weights[name][:, :, tensor.shape[2] // 2] = source
        else:
            weights[name] = source
    deep.load_state_dict(weights)
    image = torch.randn(1, 1, 3, 16, 16)
    with torch.inference_mode():
        volume = deep.eval()(image)
        for plane in range(3):
            torch.testing.assert_close(volume[:, :, plane], flat.eval()(image[:, :, plane]))


def test_the_architecture_can_be_told_from_the_shapes() -> None:
    network = UNet(3, 5, 6, 2, ((1, 2, 2), (2, 2, 2)))
    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert architecture(shapes) == {
        "dimensions": 3, "features": 6, "layers": 2, "channels": 3, "classes": 5, "strides": "1×2×2, 2×2×2",
    }  # fmt: skip


def _transparent(network: UNet) -> UNet:
    """Make every path through the network positive and growing, so that whatever can reach an output does."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(1.0)
    return network.double().eval()
