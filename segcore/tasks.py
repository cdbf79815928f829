"""What separates model families: how a batch becomes a loss, and how the output becomes labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from segcore.config import RunConfig
from segcore.losses import Total, alone, build_loss
from segcore.losses.teaching import divergence


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


@dataclass(frozen=True)
class Taught:
    """One class for every pixel, learned from annotations and from a teacher's probabilities.

    The loss is (1 - share) × that of the annotations + share × the divergence from the teacher.

    Parameters
    ----------
    task : SemanticTask
        Knows the annotations.
    channels : int
        Channels of the image that the network sees; those behind them are the teacher's probabilities.
    share : float
        Weight of the teacher, above 0 to 1.
    temperature : float
        See `divergence`.
    """

    task: SemanticTask
    channels: int
    share: float
    temperature: float

    def step(self, network: nn.Module, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch and its predicted class indices."""
        seen, taught = image[:, : self.channels], image[:, self.channels :]
        logits = network(seen.contiguous(memory_format=_layout(image)))
        found = logits.float()
        loss = self.share * divergence(found, taught, self.temperature)
        if self.share < 1:
            loss = loss + (1 - self.share) * self.task.loss(found, label)
        return loss, logits.detach().argmax(1)

    def judge(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the loss of one predicted image, by its annotation alone."""
        return self.task.judge(logits, label)


def _layout(image: Tensor) -> torch.memory_format:
    """Return how a batch lies in memory."""
    last = torch.channels_last if image.ndim == 4 else torch.channels_last_3d
    return last if image.is_contiguous(memory_format=last) else torch.contiguous_format


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
