"""Sensor3D: what it sees of which slice, any size and channels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from networks import (
    blind_beyond,
    check_any_size,
    check_comes_back,
    check_half_precision,
    check_learns,
    check_memory,
    check_stages,
)

from segcore.errors import ConfigError
from segcore.models.sensor3d import BothWays, Sensor3D, build_sensor3d


@pytest.fixture(autouse=True)
def _same_seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("slices", [1, 3, 5])
@pytest.mark.parametrize("pixel", [40, 43])
def test_nothing_beyond_the_radius_reaches_a_pixel(slices: int, pixel: int) -> None:
    network = Sensor3D(slices, 2, slices, 2, 2)
    assert network.is_local
    assert network.receptive_radius > 20
    blind_beyond(network, torch.randn(1, slices, 80, 80), (pixel, pixel))


def test_the_radius_of_the_recurrence_is_exact() -> None:
    """The states alone, without the rest: how far a pixel of any slice reaches the farthest slice."""
    join = BothWays(2).double().eval()
    slices = torch.randn(1, 5, 2, 31, 31, dtype=torch.float64, requires_grad=True)
    for known, reach in ((join(slices)[0, 0, 0, 15, 15], 5), (join.middle(slices)[0, 0, 15, 15], 3)):
        (gradient,) = torch.autograd.grad(known, slices)
        seen = gradient.abs().sum((0, 1, 2)).nonzero()
        assert int((seen - 15).abs().max()) == reach


def test_every_slice_counts_and_their_order_too() -> None:
    network = Sensor3D(3, 2, 3, 4, 2).eval()
    image = torch.randn(1, 3, 16, 16, requires_grad=True)
    network(image)[0, 0].sum().backward()
    assert image.grad is not None
    assert (image.grad.abs().sum((0, 2, 3)) > 0).all()
    with torch.inference_mode():
        assert not torch.allclose(network(image), network(image[:, [1, 0, 2]]))


def test_it_works_on_the_middle_of_slices_alike_as_it_reads_them() -> None:
    """Channels of a slice stay together: slices one behind the other, as the data are handed out."""
    network = Sensor3D(6, 2, 3, 4, 2).eval()
    image = torch.randn(1, 6, 16, 16)
    seen: list[torch.Tensor] = []
    network.encoder[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.inference_mode():
        network(image)
    assert torch.equal(seen[0], torch.stack([image[0, 0:2], image[0, 2:4], image[0, 4:6]]))


def test_any_size_its_memory_and_stages() -> None:
    network = Sensor3D(6, 3, 3, 8, 2)
    check_any_size(network, (33, 70))
    check_stages(network)
    check_memory(network, (128, 128))
    check_half_precision(network, (64, 64))


@pytest.mark.parametrize(("channels", "slices"), [(3, 3), (9, 3), (5, 5)])
def test_it_comes_back_and_learns(channels: int, slices: int, tmp_path: Path) -> None:
    check_comes_back(lambda: Sensor3D(channels, 2, slices, 4, 2), tmp_path / "weights.pth", (16, 16))
    check_learns(Sensor3D(channels, 2, slices, 8, 2), (32, 32), 30, 1e-2)


@pytest.mark.parametrize(("channels", "slices"), [(2, 2), (4, 3)])
def test_slices_without_a_middle_are_refused(channels: int, slices: int) -> None:
    with pytest.raises(ConfigError, match="odd number"):
        build_sensor3d(channels, 2, slices)
