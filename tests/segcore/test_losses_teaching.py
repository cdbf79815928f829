"""The divergence from a teacher: torch's own where he knows, nothing where he has no say."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from segcore.losses.teaching import divergence
from segcore.tasks import SemanticTask, Taught


def shares(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    return torch.softmax(logits / temperature, 1)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 2, 3, 5, 4)])
def test_it_is_the_divergence_of_torch_times_the_square(temperature: float, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    own, his = torch.randn(shape, requires_grad=True), 3 * torch.randn(shape)
    found = divergence(own, shares(his, temperature), temperature)
    expected = functional.kl_div(
        torch.log_softmax(own / temperature, 1), shares(his, temperature), reduction="none"
    )
    torch.testing.assert_close(found, temperature**2 * expected.sum(1).mean(), rtol=1e-5, atol=1e-6)
    found.backward()
    assert own.grad is not None
    assert own.grad.isfinite().all()
    assert divergence(his, shares(his, temperature), temperature) < 1e-5


def test_it_is_blind_where_he_has_no_say() -> None:
    torch.manual_seed(1)
    own, share = torch.randn(1, 3, 6, 6, requires_grad=True), shares(torch.randn(1, 3, 6, 6), 1)
    share[:, :, :3] = 0
    found = divergence(own, share, 2.0)
    torch.testing.assert_close(found, divergence(own[:, :, 3:], share[:, :, 3:], 2.0))
    found.backward()
    assert own.grad is not None
    assert not own.grad[:, :, :3].any()
    assert own.grad[:, :, 3:].any()
    silent = divergence(own, torch.zeros_like(share), 2.0)
    assert silent.item() == 0
    silent.backward()
    assert own.grad.isfinite().all()


def test_rounded_and_interpolated_shares_do_about_the_same() -> None:
    torch.manual_seed(2)
    own, share = torch.randn(1, 4, 8, 8), shares(torch.randn(1, 4, 8, 8), 2)
    rounded = (share * 255).round() / 255
    torch.testing.assert_close(
        divergence(own, rounded, 2.0), divergence(own, share, 2.0), rtol=0.02, atol=1e-3
    )
    torch.testing.assert_close(divergence(own, 0.7 * share, 2.0), divergence(own, share, 2.0))


def test_the_task_shows_the_network_the_image_only_and_weighs_both_losses() -> None:
    torch.manual_seed(3)
    image, share = torch.randn(2, 2, 8, 8), shares(torch.randn(2, 3, 8, 8), 2)
    label = torch.randint(0, 3, (2, 8, 8))
    network = torch.nn.Conv2d(2, 3, 1)

    def cross_entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(logits, target)

    hard = SemanticTask(cross_entropy)
    for layout in (torch.contiguous_format, torch.channels_last):
        both = torch.cat([image, share], 1).contiguous(memory_format=layout)
        for weight in (0.25, 1.0):
            loss, prediction = Taught(hard, 2, weight, 2.0).step(network, both, label)
            logits = network(image)
            expected = weight * divergence(logits, share, 2.0)
            expected = expected + (1 - weight) * cross_entropy(logits, label)
            torch.testing.assert_close(loss, expected)
            assert torch.equal(prediction, logits.argmax(1))
    judged = Taught(hard, 2, 0.5, 2.0).judge(network(image)[0].detach(), label[0])
    torch.testing.assert_close(judged, hard.judge(network(image)[0].detach(), label[0]))
