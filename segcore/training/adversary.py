"""The adversary: a second network learns to tell predictions from annotations; the first one, to deceive it.

An adversarial term for segmentation is that of Luc et al. 2016 (arXiv 1611.08408): what a loss pixel by pixel
does not see, gaps and ragged edges that no annotation has, gives a prediction away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from segcore.config import TrainingConfig
from segcore.devices import Hardware
from segcore.errors import ConfigError
from segcore.losses import Total, alone
from segcore.models.patch_gan import PatchGan
from segcore.models.segmenter import Segmenter
from segcore.tasks import ClassLabels, SemanticTask, Task
from segcore.tiling import IGNORE
from segcore.training.distributed import Team

RATE, BETAS = 2e-4, (0.5, 0.999)
"""Adam as Isola et al. 2017 set it."""
CERTAINTY = 0.9
"""Share of the annotated class that stands for an annotation, at least: with 1 the adversary would only need
to look for numbers that are not round."""


class Adversary:
    """The second network, with its optimizer; part of the state of a run.

    Parameters
    ----------
    channels, classes, dimensions : int
        Of the images and what is predicted, see `PatchGan`.
    weight : float
        Of its verdict in the loss of the first network.
    seed : int
        Of the weights it begins with.
    hardware : Hardware
        Where it computes.
    """

    def __init__(
        self, channels: int, classes: int, dimensions: int, weight: float, seed: int, hardware: Hardware
    ) -> None:
        with torch.random.fork_rng(devices=[]):  # building draws numbers that nobody uses
            self.network = PatchGan(channels, classes, dimensions).to(hardware.device)
        self.network.to(memory_format=hardware.layout(dimensions))  # type: ignore[call-overload]
        self.weight, self._hardware = weight, hardware
        self._due: Tensor | None = None
        self._values = self._noted = self._nothing()
        self.told = self._nothing()
        """Of the last step: the loss of the first network by the verdict, unweighted; that of the second."""
        self.restart(seed)

    def restart(self, seed: int) -> None:
        """Begin anew with other random weights."""
        self.network.draw(seed)
        self.seed = seed
        fused = self._hardware.device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.Adam(self.network.parameters(), RATE, BETAS, fused=fused)
        self.forget()

    def face(self, image: Tensor, logits: Tensor, target: Tensor, total: Total = alone) -> None:
        """Judge a batch, or a piece of it; `settle` then has what both networks learn from that.

        Both learn by least squares (Mao et al. 2017, arXiv 1611.04076). Where nobody annotated, nothing is
        shown of either side, and what it says counts by the share of annotated pixels: so such pixels
        change nothing.

        Parameters
        ----------
        image : Tensor
            `(B, C, …)`.
        logits : Tensor
            `(B, K, …)`, float32.
        target : Tensor
            Class indices `(B, …)`, IGNORE where nobody annotated.
        total : callable
            Adds up what the processes that share a batch have counted.
        """
        annotated = (target != IGNORE).unsqueeze(1)
        # Before the softmax: what is infinite at a pixel that nobody annotated must not become NaN.
        predicted = functional.softmax(torch.where(annotated, logits, 0.0), 1) * annotated
        shown = annotation(predicted.detach(), target)
        frozen = {name: weight.detach() for name, weight in self.network.named_parameters()}
        verdict = functional_call(self.network, frozen, (image, predicted)).float()
        pair = torch.cat([shown, predicted.detach()])
        told, seen_through = self.network(torch.cat([image, image]), pair).float().chunk(2)
        pool = functional.adaptive_avg_pool3d if image.ndim == 5 else functional.adaptive_avg_pool2d
        share = pool(annotated.float(), verdict.shape[2:])
        count = total(share.sum()).clamp(min=1e-6)
        deceived, right, caught = (
            total((share * error**2).sum()) / count for error in (verdict - 1, told - 1, seen_through)
        )
        discerned = (right + caught) / 2
        self._due = self.weight * deceived + discerned
        self._values = torch.stack([deceived, discerned]).detach()

    def settle(self, weight: Tensor | None) -> Tensor:
        """Return what backward adds to the loss of the batch that was faced last.

        The loss of the second network is part of it: no gradient of it reaches the first, and none of the
        verdict the second.

        Parameters
        ----------
        weight : Tensor or None
            Share of a piece in its batch, by which its values are noted; None: the whole.
        """
        due, self._due = self._due, None
        assert due is not None
        self._noted = self._noted + (self._values if weight is None else self._values * weight)
        return due

    def step(self, scaler: torch.amp.GradScaler, team: Team) -> None:
        """Take a step of the second network by the gradients of the whole batch, of all processes."""
        if team.size > 1:
            gradients = [weight.grad for weight in self.network.parameters() if weight.grad is not None]
            together = team.add(torch.cat([gradient.flatten() for gradient in gradients])) / team.size
            parts = together.split([gradient.numel() for gradient in gradients])
            for gradient, part in zip(gradients, parts, strict=True):
                gradient.copy_(part.view_as(gradient))
        scaler.step(self.optimizer)
        self.told = self._noted
        self.forget()

    def forget(self) -> None:
        """Leave nothing of a step that is done or has failed."""
        self.optimizer.zero_grad(set_to_none=True)
        self._due = None
        self._values = self._noted = self._nothing()

    def state_dict(self) -> dict[str, Any]:
        """Return it for a checkpoint."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, content: dict[str, Any] | None) -> None:
        """Go back to a checkpoint; to its first weights if the run had no adversary by then."""
        self.restart(self.seed)
        if content:
            self.network.load_state_dict(content["network"])
            self.optimizer.load_state_dict(content["optimizer"])

    def _nothing(self) -> Tensor:
        return torch.zeros(2, device=self._hardware.device)


def annotation(predicted: Tensor, target: Tensor) -> Tensor:
    """Return what stands for an annotation beside a prediction: shares of the classes `(B, K, …)`.

    The annotated class has what the prediction gives it, but at least `CERTAINTY`; the others have their
    shares of the rest ("scaling" of Luc et al. 2016, section 3.2). Where nobody annotated all are 0.
    """
    annotated, index = (target != IGNORE).unsqueeze(1), target.long().clamp(min=0).unsqueeze(1)
    given = predicted.gather(1, index)
    certain = given.clamp(min=CERTAINTY)
    rest = (1 - certain) / (1 - given).clamp(min=1e-6)
    return torch.where(annotated, (predicted * rest).scatter(1, index, certain), 0.0)


@dataclass(frozen=True)
class Contested(ClassLabels):
    """A semantic task whose predictions face an adversary; only its own loss is reported as such.

    Parameters
    ----------
    task : SemanticTask
        Knows the annotations.
    adversary : Adversary
        Judges; what comes of it is fetched with `Adversary.settle`.
    total : callable
        Adds up what the processes that share a batch have counted.
    """

    task: SemanticTask
    adversary: Adversary
    total: Total = alone

    def step(self, network: nn.Module, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of a batch, the adversary's verdict left out, and its predicted class indices."""
        logits = network(image)
        found = logits.float()
        self.adversary.face(image, found, target, self.total)
        return self.task.loss(found, target), logits.detach().argmax(1)

    def judge(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the loss of one predicted image, by its annotation alone."""
        return self.task.judge(logits, label)


def build_adversary(training: TrainingConfig, network: Segmenter, hardware: Hardware) -> Adversary | None:
    """Return what the predictions of a network will face; None where `training.adversarial` is 0."""
    if not training.adversarial:
        return None
    size = (network.channels, network.classes, network.dimensions)
    return Adversary(*size, training.adversarial, training.seed, hardware)


def contested(task: Task, adversary: Adversary, total: Total) -> Contested:
    """Return a task whose predictions face an adversary.

    Raises
    ------
    ConfigError
        The task has no class for every pixel that could be judged.
    """
    if not isinstance(task, SemanticTask):
        raise ConfigError(
            "training.adversarial judges a class for every pixel, and this model learns something else.",
            "Set training.adversarial to 0, or choose a family that learns classes, for example unet.",
        )
    return Contested(task, adversary, total)
