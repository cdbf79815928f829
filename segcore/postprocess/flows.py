"""The flow head, after Cellpose: the way to the middle of the object, and how likely there is one.

Stringer et al. 2021 (Nature Methods, doi 10.1038/s41592-020-01018-x).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from segcore.postprocess.following import flow_errors, follow, gather
from segcore.postprocess.heat import flows_of
from segcore.postprocess.objects import clean, numbered
from segcore.postprocess.ranges import check_range
from segcore.postprocess.terms import Total, alone, annotated, weighted_mean

SCALE = 5.0
"""The network answers flows this many times as long, as the authors' does."""


@dataclass(frozen=True)
class FlowDecoding:
    """How objects are made of flows.

    Parameters
    ----------
    threshold : float
        Least probability, 0 to 1, that a pixel is of an object.
    steps : int
        How often pixels move along the flow at most, 1 to 10000: objects may have as many px from the middle
        to the edge.
    error : float
        Largest mean squared distance, 0 to 4, of the network's flow from that of the object that was found;
        what differs more is no object. 0: none is dropped.
    least : int
        Fewest px of an object, 1 to 1e9.
    fill_holes : bool
        Whether background inside an object becomes part of it.
    """

    threshold: float = 0.5
    steps: int = 200
    error: float = 0.4
    least: int = 15
    fill_holes: bool = True

    def __post_init__(self) -> None:
        """Raise `ConfigError` where an option is out of its range."""
        check_range("threshold", self.threshold, 0, 1)
        check_range("steps", self.steps, 1, 10000)
        check_range("error", self.error, 0, 4)
        check_range("least", self.least, 1, 1e9)


@dataclass(frozen=True)
class FlowHead:
    """The probability of an object (map 0) and the flow, px along every axis; satisfies `InstanceHead`.

    Parameters
    ----------
    dimensions : int
        2 or 3.
    """

    dimensions: int = 2

    def __post_init__(self) -> None:
        """Raise `ConfigError` where a field is out of its range."""
        check_range("dimensions", self.dimensions, 2, 3)

    @property
    def channels(self) -> int:
        """Maps that the network must answer."""
        return 1 + self.dimensions

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Return 1 in objects (IGNORE where nobody annotated) and the flow; see `InstanceHead`."""
        numbers, _ = numbered(labels)
        return np.concatenate([np.minimum(numbers, 1)[None].astype(np.float32), flows_of(numbers)])

    def loss(self, output: Tensor, target: Tensor, total: Total = alone) -> Tensor:
        """Return half the squared error of five times the flow plus the cross-entropy of the probability.

        Both are means over all annotated pixels, the background included.
        """
        output, known = output.float(), annotated(target)
        error = ((output[:, 1:] - SCALE * target[:, 1:]) ** 2).mean(1)
        inside = target[:, 0].clamp(min=0)
        entropy = functional.binary_cross_entropy_with_logits(output[:, 0], inside, reduction="none")
        return weighted_mean(error, known, total) / 2 + weighted_mean(entropy, known, total)

    def activate(self, output: Tensor) -> Tensor:
        """Return the probability and the flow, of about length 1."""
        return torch.cat([output[:, :1].float().sigmoid(), output[:, 1:].float() / SCALE], dim=1)

    def inside(self, maps: Tensor) -> Tensor:
        """Return where an object is the more likely; see `InstanceHead`."""
        return maps[:, 0] > 0.5

    def ideal(self, target: np.ndarray) -> np.ndarray:
        """Return the target itself; what nobody annotated is background."""
        return np.concatenate([np.maximum(target[:1], 0), target[1:]])

    def flip(self, maps: np.ndarray, axis: int) -> np.ndarray:
        """Return the maps of the reversed image; see `InstanceHead`."""
        signs = np.ones(len(maps), maps.dtype)
        signs[1 + axis] = -1
        return np.flip(maps, axis + 1) * signs.reshape(-1, *[1] * (maps.ndim - 1))

    def decode(self, maps: np.ndarray, options: FlowDecoding | None = None) -> np.ndarray:
        """Return objects: the pixels that flow to one place; see `InstanceHead`.

        Where an object is dropped because its flows do not fit, nothing is left.
        """
        options = options or FlowDecoding()
        inside = maps[0] > options.threshold
        ends = follow(maps[1:], inside, options.steps)
        labels = clean(gather(ends, inside), options.least, fill=False)
        if options.error and labels.any():
            errors = flow_errors(labels, maps[1:], flows_of(labels))
            labels[(errors > options.error)[labels]] = 0
        return clean(labels, options.least, options.fill_holes)
