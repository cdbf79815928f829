"""Networks that answer whole objects, made to answer one map: the number of every pixel's object."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from segcore.models.encoder_weights import Transfer
from segcore.models.painting import Objects
from segcore.models.segmenter import Segmenter

MOST_PIXELS = 2**20
"""Px of an image that is answered at once: the networks answer some hundred objects, however large it is."""
INNER = "network."
"""What the names of a network's arrays begin with in `WholeObjects`, beside those that it has without."""


class Answering(Protocol):
    """What `MaskRCNN` and `SetPrediction` have in common, beside being a `Segmenter`."""

    @property
    def transferred(self) -> Transfer | None:
        """What was taken from the pretrained weights, where there were some."""

    def objects(self, image: Tensor, least: int = 1) -> list[Objects]:
        """Return the objects of images `B C Y X`."""


class WholeObjects(Segmenter):
    """A network that answers objects; without labels it draws them, with labels it answers its loss.

    Parameters
    ----------
    network : Segmenter
        Also satisfies `Answering`. Class 0 is background, what is of another class is an object.
    """

    def __init__(self, network: Segmenter) -> None:
        super().__init__(network.channels, 1)
        self.network = network
        self.divisors, self.receptive_radii = network.divisors, network.receptive_radii

    @property
    def transferred(self) -> Transfer | None:
        """What was taken from the pretrained weights, where there were some."""
        found: Transfer | None = self._answering.transferred
        return found

    @property
    def _answering(self) -> Answering:
        answering: Answering = self.network  # type: ignore[assignment]
        return answering

    def bytes_per_pixel(self, itemsize: int) -> int:
        """Return the memory prediction needs per px."""
        return self.network.bytes_per_pixel(itemsize)

    def most_pixels(self) -> int:
        """Return the px of an image that is answered at once."""
        return min(MOST_PIXELS, self.network.most_pixels())

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the parts of the network."""
        return self.network.stages()

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return numbers of objects `B 1 Y X`, float32, 0 beside them; with labels the loss, a scalar.

        Without labels it must be in evaluation mode.

        Parameters
        ----------
        image : Tensor
            `B C Y X`, of any size.
        labels : Tensor, optional
            `B Y X`, numbers of objects; 0 is background, negative where nobody annotated.
        """
        if labels is not None:
            loss: Tensor = self.network(image, labels)
            return loss
        drawn = np.stack([_things(found) for found in self._answering.objects(image)])
        return torch.from_numpy(drawn).to(image.device)[:, None]


def _things(found: Objects) -> np.ndarray:
    """Return the numbers `(Y, X)`, float32, of what is no background, as in panoptic segments some are."""
    is_thing = np.concatenate([[False], found.classes > 0])
    return np.where(is_thing[found.labels], found.labels, 0).astype(np.float32)
