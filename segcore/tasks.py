"""What separates model families: how a batch becomes a loss, and how the output becomes labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from segcore.config import RunConfig
from segcore.losses import Total, alone, build_loss


class Task(Protocol):
    """What the training loop needs to know of a model family."""

    def step(self, network: nn.Module, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch and its predicted class indices `(B, Y, X)`, in 3d `(B, Z, Y, X)`."""

    def judge(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the loss of one predicted image."""


@dataclass(frozen=True)
class SemanticTask:
    """One class for every pixel; the network returns logits `(B, K, Y, X)`, in 3d `(B, K, Z, Y, X)`."""

    loss: Callable[[Tensor, Tensor], Tensor]

    def step(self, network: nn.Module, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch and its predicted class indices."""
        logits = network(image)
        return self.loss(logits.float(), label), logits.detach().argmax(1)

    def judge(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the loss of one predicted image, logits `(K, …)` and class indices `(…)`."""
        return self.loss(logits.float()[None], label[None])


def build_task(
    config: RunConfig,
    loss: str | None = None,
    weights: Sequence[float] | None = None,
    total: Total = alone,
) -> Task:
    """Return the task of the configured model family.

    Parameters
    ----------
    config : RunConfig
        Options.
    loss : str, optional
        Replaces the configured loss.
    weights : sequence of float, optional
        How much every class counts.
    total : callable
        Adds up what the processes that share a batch have counted.
    """
    return SemanticTask(build_loss(loss or config.training.loss, weights, total))
