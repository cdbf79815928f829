"""What separates model families: how a batch becomes a loss, and how the output becomes labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from segcore.config import RunConfig
from segcore.losses import Total, alone, build_loss
from segcore.losses.teaching import divergence
from segcore.postprocess.heads import InstanceHead
from segcore.tiling import IGNORE

_ENCODERS = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix="targets")
"""Make the targets of a batch patch by patch: most of it lets other threads run."""


class Task(Protocol):
    """What the training loop needs to know of a model family."""

    encodes: ClassVar[bool]
    """Whether targets take time to be made of labels, so that it is worth making them ahead."""

    def target(self, label: Tensor) -> Tensor:
        """Return what the loss compares with, of labels `(B, Y, X)`, in 3d `(B, Z, Y, X)`."""

    def classes(self, target: Tensor) -> Tensor:
        """Return the class indices `(B, Y, X)`, in 3d `(B, Z, Y, X)`, of targets, with IGNORE."""

    def step(self, network: nn.Module, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch and its predicted class indices `(B, Y, X)`, in 3d `(B, Z, Y, X)`."""

    def judge(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the loss of one predicted image."""


class ClassLabels:
    """The part of a task whose labels are class indices, which the loss compares with as they are."""

    encodes: ClassVar[bool] = False

    def target(self, label: Tensor) -> Tensor:
        """Return the labels."""
        return label

    def classes(self, target: Tensor) -> Tensor:
        """Return the targets."""
        return target


@dataclass(frozen=True)
class SemanticTask(ClassLabels):
    """One class for every pixel; the network returns logits `(B, K, Y, X)`, in 3d `(B, K, Z, Y, X)`."""

    loss: Callable[[Tensor, Tensor], Tensor]

    def step(self, network: nn.Module, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch and its predicted class indices."""
        logits = network(image)
        return self.loss(logits.float(), target), logits.detach().argmax(1)

    def judge(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the loss of one predicted image, logits `(K, …)` and class indices `(…)`."""
        return self.loss(logits.float()[None], label[None])


@dataclass(frozen=True)
class InstanceTask:
    """Objects one by one; labels are their numbers, and the network returns what a head makes objects of.

    Classes are 0, background, and 1, object. Those of a step are a guess, without decoding; validation
    decodes.

    Parameters
    ----------
    head : InstanceHead
        Makes targets, loss and objects.
    total : callable
        Adds up what the processes that share a batch have counted.
    """

    head: InstanceHead
    total: Total = alone
    encodes: ClassVar[bool] = True

    def target(self, label: Tensor) -> Tensor:
        """Return the maps `(B, T, …)`, float32, of numbers of objects `(B, …)`; made on the CPU.

        Pieces of one number are objects of their own: the border of a patch and mirrored pixels part what
        was one, and the middle of an object would lie where no way inside it leads.
        """
        maps = list(_ENCODERS.map(self._encoded, label.cpu().numpy()))
        return torch.from_numpy(np.stack(maps)).to(label.device)

    def _encoded(self, label: np.ndarray) -> np.ndarray:
        """Return the target `(T, …)` of one patch."""
        from skimage.measure import label as numbered_pieces

        pieces = numbered_pieces(np.maximum(label, 0), background=0, connectivity=label.ndim)
        return self.head.encode(np.where(label < 0, IGNORE, pieces))

    def classes(self, target: Tensor) -> Tensor:
        """Return 1 in objects, 0 beside them, IGNORE where nobody annotated: map 0 of every head says it."""
        first = target[:, 0]
        return torch.where(first == IGNORE, IGNORE, (first > 0).long())

    def step(self, network: nn.Module, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch and where objects seem to be."""
        output = network(image)
        loss = self.head.loss(output, target, self.total)
        return loss, self.head.inside(self.head.activate(output.detach())).long()

    def judge(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the loss of one predicted image, output `(maps, …)` and numbers of objects `(…)`."""
        return self.head.loss(logits[None], self.target(label[None]))


@dataclass(frozen=True)
class AnsweredTask(InstanceTask):
    """Objects of a network that answers them whole, and the loss, too: `network(image, numbers)` is a scalar.

    What it would answer, it says in evaluation mode only: the classes of a step are not known.
    """

    def step(self, network: nn.Module, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch, and IGNORE everywhere."""
        numbers = target[:, 0].long()
        return network(image, numbers), torch.full_like(numbers, IGNORE)


@dataclass(frozen=True)
class OwnLossTask(ClassLabels):
    """One class for every pixel, learned by the loss of the network: `network(image, classes)` is a scalar.

    Parameters
    ----------
    loss : callable
        Judges what is predicted, as in other families; it is not learned from.
    """

    loss: Callable[[Tensor, Tensor], Tensor]

    def step(self, network: nn.Module, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch, and IGNORE everywhere, see `AnsweredTask`."""
        return network(image, target), torch.full_like(target, IGNORE)

    def judge(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the loss of one predicted image, logits `(K, …)` and class indices `(…)`."""
        return self.loss(logits.float()[None], label[None])


@dataclass(frozen=True)
class Taught(ClassLabels):
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

    def step(self, network: nn.Module, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch and its predicted class indices."""
        seen, taught = image[:, : self.channels], image[:, self.channels :]
        logits = network(seen.contiguous(memory_format=_layout(image)))
        found = logits.float()
        loss = self.share * divergence(found, taught, self.temperature)
        if self.share < 1:
            loss = loss + (1 - self.share) * self.task.loss(found, target)
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
    head: InstanceHead | None = None,
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
    head : InstanceHead, optional
        Of a model that tells objects apart; it has a loss of its own.
    """
    own_loss = config.model.kind.own_loss
    if head is not None:
        return AnsweredTask(head, total) if own_loss else InstanceTask(head, total)
    judging = build_loss(loss or config.training.loss, weights, total)
    return OwnLossTask(judging) if own_loss else SemanticTask(judging)
