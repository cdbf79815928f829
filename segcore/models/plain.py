"""Any network as it is, made for prediction: in evaluation mode, in the number format of the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from segcore.devices import Hardware
from segcore.models.segmenter import Segmenter, evaluating


class Plain:
    """Applies a network; what it has learned meanwhile is seen.

    Parameters
    ----------
    network : Segmenter
        On `hardware.device`; it may be in training mode, and is again after a call.
    hardware : Hardware
        Number format and memory layout.
    """

    def __init__(self, network: Segmenter, hardware: Hardware) -> None:
        self._network, self._hardware = network, hardware

    def __call__(self, images: Tensor, keep: Sequence[slice] | None = None) -> Tensor:
        """Return logits, see `Folded.__call__`; all are computed, whatever is kept."""
        layout = self._hardware.layout(self._network.dimensions)
        with evaluating(self._network), torch.no_grad(), self._hardware.autocast():
            logits = self._network(images.contiguous(memory_format=layout))
        return logits[:, :, *(keep or ())].float()
