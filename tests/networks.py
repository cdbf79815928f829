"""What every network must keep to, to be called on one network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from segcore.models.measured import Measured
from segcore.models.saved import read_weights, save_weights
from segcore.models.segmenter import Segmenter


def check_any_size(network: Segmenter, shape: Sequence[int]) -> None:
    """Give logits of the size of the image, whatever it is; those of its padding are cut off."""
    torch.manual_seed(0)
    image = torch.randn(1, network.channels, *shape)
    sides = [(0, -size % step) for size, step in zip(shape, network.divisors, strict=True)]
    padded = torch.nn.functional.pad(image, [end for pair in reversed(sides) for end in pair], "replicate")
    with torch.inference_mode():
        logits = network.eval()(image)
        assert logits.shape == (1, network.classes, *shape)
        assert logits.isfinite().all()
        torch.testing.assert_close(logits, network(padded)[:, :, *(slice(size) for size in shape)])


def check_comes_back(build: Callable[[], Segmenter], path: Path, shape: Sequence[int]) -> None:
    """Weights that were saved give another network of the same options the same output to the bit.

    It is built without memory, as when a model is loaded.
    """
    network = build()
    image = torch.randn(2, network.channels, *shape)
    network.train()(image)  # statistics are no longer those of a fresh network
    save_weights(network, path)
    with torch.device("meta"):
        other = build()
    other.load_state_dict(read_weights(path), assign=True)
    with torch.inference_mode():
        assert torch.equal(other.eval()(image), network.eval()(image))


def check_stages(network: Segmenter) -> None:
    """Every weight belongs to exactly one stage, and every weight learns."""
    staged = [id(weight) for _, part in network.stages() for weight in part.parameters()]
    assert len(staged) == len(set(staged))
    assert set(staged) == {id(weight) for weight in network.parameters()}
    names = [name for name, _ in network.stages()]
    assert len(set(names)) == len(names)


def check_learns(network: Segmenter, shape: Sequence[int], steps: int, rate: float = 3e-3) -> None:
    """Two images are learned by heart; the first step changes every weight."""
    torch.manual_seed(0)
    label = torch.zeros(2, *shape, dtype=torch.long)
    label[0, ..., shape[-1] // 4 : shape[-1] // 2], label[1, ..., : shape[-2] // 2, :] = 1, 1
    image = torch.randn(2, network.channels, *shape) + 4 * label[:, None]
    optimizer = torch.optim.Adam(network.parameters(), rate)
    network.train()
    losses = []
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(network(image), label)
        optimizer.zero_grad()
        loss.backward()
        if not losses:
            missing = [name for name, weight in network.named_parameters() if weight.grad is None]
            assert not missing, missing
        optimizer.step()
        losses.append(float(loss.detach()))
    assert min(losses[-3:]) < 0.3 * losses[0], losses


def check_memory(network: Measured, shape: Sequence[int]) -> None:
    """Say of memory enough for what a prediction was seen to take, and less than 3 times of it."""
    # Of single small volumes torch unfolds every neighbourhood; of two, as of large ones, it does not.
    image = torch.randn(2, network.channels, *shape)
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        network.eval()(image)
    now = most = 0
    for event in record.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    seen = most / image[:, 0].numel()
    assert seen < network.bytes_per_pixel(4) < 3 * seen + 200
    assert network.bytes_per_pixel(2) <= network.bytes_per_pixel(4)


def check_half_precision(network: Segmenter, shape: Sequence[int]) -> None:
    """Under bfloat16 and with channels last the answer is about the same."""
    image = torch.randn(1, network.channels, *shape)
    network.eval()
    layout = torch.channels_last if network.dimensions == 2 else torch.channels_last_3d
    with torch.inference_mode():
        exact = network(image)
        with torch.autocast("cpu", torch.bfloat16):
            rough = network(image.contiguous(memory_format=layout)).float()
    assert (rough - exact).abs().mean() < 0.05 * exact.std() + 1e-3


def farthest(network: Segmenter, axis: int) -> int:
    """Return how far along `axis` a pixel of the input reaches, of a network in which all that can, does."""
    step, radius = network.divisors[axis], network.receptive_radii[axis]
    sizes = list(network.divisors)
    sizes[axis] = 2 * (radius + step) // step * step + step
    middle = sizes[axis] // 2 // step * step
    plain = torch.zeros(1, network.channels, *sizes, dtype=torch.float64)
    most = 0
    with torch.inference_mode():
        reference = network(plain)
        for shift in range(step):
            poked = plain.clone()
            poked.select(axis + 2, middle + shift)[:] = 1e6
            changed = (network(poked) != reference).any(dim=1)[0].nonzero()[:, axis]
            most = max(most, int((changed - middle - shift).abs().max()))
    return most


def transparent(network: Segmenter) -> Segmenter:
    """Make every path through the network positive and growing, so that whatever can reach an output does."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.fill_(1.0)
    return network.double().eval()


def blind_beyond(network: Segmenter, image: Tensor, pixel: Sequence[int]) -> None:
    """Let the gradient of an output pixel be zero where the input is farther away than `receptive_radii`."""
    watched = image.clone().requires_grad_()
    network.eval()(watched)[0, :, *pixel].sum().backward()
    assert watched.grad is not None
    seen = watched.grad[0].abs().sum(0).nonzero()
    for axis, radius in enumerate(network.receptive_radii):
        assert int((seen[:, axis] - pixel[axis]).abs().max()) <= radius
