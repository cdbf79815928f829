"""What separates model families: how a batch becomes a loss, and how the output becomes labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from segcore.config import RunConfig
from segcore.losses import build_loss


class Task(Protocol):
    """What the training loop needs to know of a model family."""

    def step(self, network: nn.Module, image_BCYX: Tensor, label_BYX: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch and its predicted class indices `(B, Y, X)`."""

    def judge(self, logits_KYX: Tensor, label_YX: Tensor) -> Tensor:
        """Return the loss of one predicted plane."""


@dataclass(frozen=True)
class SemanticTask:
    """One class for every pixel; the network returns logits `(B, K, Y, X)`."""

    loss: Callable[[Tensor, Tensor], Tensor]

    def step(self, network: nn.Module, image_BCYX: Tensor, label_BYX: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch and its predicted class indices `(B, Y, X)`."""
        logits_BKYX = network(image_BCYX)
        return self.loss(logits_BKYX.float(), label_BYX), logits_BKYX.detach().argmax(1)

    def judge(self, logits_KYX: Tensor, label_YX: Tensor) -> Tensor:
        """Return the loss of one predicted plane."""
        return self.loss(logits_KYX.float()[None], label_YX[None])


def build_task(config: RunConfig, loss: str | None = None) -> Task:
    """Return the task of the configured model family; `loss` replaces the configured one."""
    return SemanticTask(build_loss(loss or config.training.loss))
