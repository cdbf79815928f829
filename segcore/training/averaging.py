"""The average of the weights over the steps of a run: validated and kept instead of the last weights."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from segcore.devices import Hardware
from segcore.models.segmenter import Segmenter

EMA_DECAY = 0.999
"""Weight of the past in the running average, once there is enough of it."""
SWA_START = 0.75
"""Share of the run after which plain averaging begins; the learning rate stays at its level from then on."""
STATISTICS_BATCHES = 64
"""Batches from which the statistics of batch normalisation are counted; more change nothing visible."""


class WeightAverage:
    """A second network that holds the average of the weights of the first.

    Parameters
    ----------
    network : Segmenter
        The network that is trained.
    kind : {"ema", "swa"}
        ema: exponential moving average whose memory grows with the run, up to a thousand steps. swa: plain
        average (stochastic weight averaging, Izmailov et al. 2018, arXiv 1803.05407), over the steps instead
        of over the epochs, because a short run has only a few epochs.
    """

    def __init__(self, network: Segmenter, kind: str) -> None:
        self.network: Segmenter = deepcopy(network).eval().requires_grad_(False)
        self.kind = kind
        self.count = 0
        """Steps in the average."""
        self._own, self._theirs = _numbers(self.network), _numbers(network)

    @torch.no_grad()
    def update(self) -> None:
        """Take the weights after a step into the average; costs one pass over the weights."""
        if self.kind == "swa":
            weight = 1 / (self.count + 1)
        else:
            # A short memory at first: the random weights of the start must not stay in the average.
            weight = 1 - min(EMA_DECAY, self.count / (10 + self.count))
        torch._foreach_lerp_(self._own, self._theirs, weight)
        self.count += 1

    def begins(self, progress: float) -> bool:
        """Return whether the weights belong into the average when `progress` (0 … 1) of the run is done."""
        return self.kind == "ema" or progress >= SWA_START

    @torch.no_grad()
    def recount(
        self,
        images: Iterable[Tensor],
        hardware: Hardware,
        frozen: list[nn.Module],
        view: nn.Module | None = None,
    ) -> None:
        """Count the statistics of batch normalisation anew: averaged ones do not belong to averaged weights.

        Parameters
        ----------
        images : iterable of Tensor
            Batches `(B, C, Y, X)` on the device.
        hardware : Hardware
            Gives the number format.
        frozen : list of Module
            Parts of the averaged network, or of the view, that keep their statistics.
        view : Module, optional
            A view of the averaged network whose statistics are those of several processes.
        """
        view = view or self.network
        kept = {id(module) for part in frozen for module in part.modules()}
        norms = [
            module for module in view.modules() if isinstance(module, _BatchNorm) and id(module) not in kept
        ]
        momenta = [module.momentum for module in norms]
        for module in norms:
            module.reset_running_stats()
            module.momentum = None  # the plain mean over all batches
            module.train()
        for image_BCYX in images:
            with hardware.autocast():
                view(image_BCYX)
        for module, momentum in zip(norms, momenta, strict=True):
            module.momentum = momentum
            module.eval()

    def restart(self) -> None:
        """Forget the average; it begins anew with the weights after the next step."""
        self.count = 0

    def state_dict(self) -> dict[str, Any]:
        """Return the average for a checkpoint; it has no weights before it has begun."""
        return {"count": self.count, "network": self.network.state_dict() if self.count else {}}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Go back to the average of a checkpoint; one that had not begun begins at the next step."""
        if content["count"]:
            self.network.load_state_dict(content["network"])
        self.count = content["count"]


def _numbers(network: nn.Module) -> list[Tensor]:
    """Return weights and statistics; the tensors stay the same ones for the life of the network."""
    return [tensor for tensor in (*network.parameters(), *network.buffers()) if tensor.is_floating_point()]
