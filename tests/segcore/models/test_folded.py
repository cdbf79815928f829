"""The network made for prediction gives what the trained one gives, of the whole and of every part."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segcore.models.folded import Folded, compose, correct_edges
from segcore.models.unet import UNet
from segcore.tiling import part_span

STRIDES_3D = ((1, 2, 2), (2, 2, 2))


def trained(channels: int = 1, strides: tuple[tuple[int, int, int], ...] = (), features: int = 3) -> UNet:
    """Return a network in which no bias, scale or running statistic is 0 or 1."""
    torch.manual_seed(3)
    network = UNet(channels, 3, features, 2, strides).eval()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if "running_var" in name or ("weight" in name and value.ndim == 1):
                value.uniform_(0.5, 1.5)
            elif value.is_floating_point() and value.ndim == 1:
                value.normal_(0, 0.5)
    return network


def _layout(network: UNet, last: bool) -> torch.memory_format:
    if not last:
        return torch.contiguous_format
    return torch.channels_last if network.dimensions == 2 else torch.channels_last_3d


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize(("channels", "strides"), [(1, ()), (3, ()), (1, STRIDES_3D)])
def test_folding_changes_no_logit(
    channels: int,
    strides: tuple[tuple[int, int, int], ...],
    onednn: bool,
    last: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)
    network = trained(channels, strides)
    folded = Folded(network, torch.float32, _layout(network, last))
    for shape in ((8, 32, 16), (5, 17, 9), (1, 3, 2), (1, 1, 1)):
        images = torch.randn(2, channels, *shape[3 - network.dimensions :])
        with torch.inference_mode():
            torch.testing.assert_close(folded(images), network(images), rtol=1e-4, atol=1e-4)


@given(size=st.integers(40, 120), start=st.integers(0, 119), length=st.integers(1, 60))
@settings(deadline=None, max_examples=15)
def test_a_part_is_that_part_of_the_whole_where_the_halo_is_seen(size: int, start: int, length: int) -> None:
    network = trained()
    folded = Folded(network, torch.float32, torch.channels_last)
    start = min(start, size - 1)
    stop = min(size, start + length)
    span = part_span(start, stop, size, network.receptive_radius, network.divisor)
    image = torch.randn(1, 1, size, size)
    keep = slice(span.start - span.read_start, span.stop - span.read_start)
    with torch.inference_mode():
        part = folded(image[:, :, span.read_start : span.read_stop], (keep, slice(3, size - 7)))
        torch.testing.assert_close(part, folded(image)[:, :, start:stop, 3 : size - 7], rtol=1e-4, atol=1e-4)


def test_a_halo_too_small_would_be_noticed() -> None:
    network = trained()
    folded = Folded(network, torch.float32, torch.channels_last)
    image = torch.randn(1, 1, 96, 96)
    with torch.inference_mode():
        part = folded(image[:, :, 32:80], (slice(8, 40), slice(None)))
        assert (part - network(image)[:, :, 40:72]).abs().max() > 1e-3


@given(height=st.integers(1, 9), width=st.integers(1, 9))
@settings(deadline=None, max_examples=15)
def test_two_steps_composed_are_one_up_to_the_border(height: int, width: int) -> None:
    torch.manual_seed(1)
    up, up_bias = torch.randn(4, 2, 2, 2), torch.randn(2)
    weight, bias = torch.randn(5, 2, 3, 3), torch.randn(5)
    image = torch.randn(2, 4, height, width)
    large = torch.nn.functional.conv_transpose2d(image, up, up_bias, stride=2)
    expected = torch.nn.functional.conv2d(large, weight, bias, padding=1)
    joined, edges = compose(up, up_bias, weight, bias)
    found = torch.nn.functional.conv_transpose2d(image, joined, edges[:, 1, 1], stride=2, padding=1)
    correct_edges(found, edges)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_bf16_scores_like_the_whole_slice_in_float32() -> None:
    torch.manual_seed(0)
    grey = torch.randn(1, 1, 24, 24)
    image = torch.nn.functional.interpolate(grey, scale_factor=8, mode="bilinear")
    label = (image[:, 0].abs() > 0.4).long()
    network = UNet(1, 2, 4, 2).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), 0.02)
    for _ in range(15):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(image), label).backward()
        optimizer.step()
    with torch.inference_mode():
        fine = network.eval()(image).argmax(1)
        coarse = Folded(network, torch.bfloat16, torch.channels_last)(image).argmax(1)
    assert _dice(fine, label) > 0.7
    assert abs(_dice(coarse, label) - _dice(fine, label)) < 0.002


def _dice(found: torch.Tensor, label: torch.Tensor) -> float:
    return float(2 * (found & label).sum() / (found.sum() + label.sum()))


def test_training_mode_is_not_seen() -> None:
    network = trained().train()
    folded = Folded(network, torch.float32, torch.channels_last)
    image = torch.randn(1, 1, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(folded(image), network.eval()(image), rtol=1e-4, atol=1e-4)
