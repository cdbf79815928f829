"""A network that judges, part by part of an image, whether labels beside it were annotated or predicted."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from segcore.estimate import ADVERSARY_WIDTHS

SPREAD = 0.02
"""Standard deviation of the weights it begins with, as its authors draw them."""
SLOPE = 0.2


class PatchGan(nn.Module):
    """The PatchGAN discriminator of Isola et al. 2017 (arXiv 1611.07004), half as wide.

    Every number that it answers judges the 70 × 70 px around it; three layers halve the image, two more do
    not. Its normalisation looks at one image at a time (as with their batches of one), so that it does not
    matter how a batch is divided into pieces or among processes. In 3d the kernels see three slices and only
    rows and columns are halved: 11 slices are judged together.

    Parameters
    ----------
    channels, classes : int
        Channels of the image, and of the shares of the classes that are judged beside it.
    dimensions : {2, 3}
        Axes of an image.
    """

    def __init__(self, channels: int, classes: int, dimensions: int) -> None:
        super().__init__()
        solid = dimensions == 3
        convolution: Any = nn.Conv3d if solid else nn.Conv2d
        normalisation: Any = nn.InstanceNorm3d if solid else nn.InstanceNorm2d
        kernel, halving = ((3, 4, 4), (1, 2, 2)) if solid else ((4, 4), (2, 2))
        parts: list[nn.Module] = []
        maps = (channels + classes, *ADVERSARY_WIDTHS, 1)
        last = len(maps) - 2
        for layer, (inputs, outputs) in enumerate(pairwise(maps)):
            stride = halving if layer < last - 1 else (1,) * dimensions
            plain = layer in (0, last)  # a bias would be taken off again by the normalisation
            parts.append(convolution(inputs, outputs, kernel, stride, padding=1, bias=plain))
            if not plain:
                parts.append(normalisation(outputs))
            if layer < last:
                parts.append(nn.LeakyReLU(SLOPE))
        self.parts = nn.Sequential(*parts)

    def forward(self, image: Tensor, shares: Tensor) -> Tensor:
        """Return how annotated the parts of `shares` look: 1 yes, 0 no, and any number beside.

        Parameters
        ----------
        image, shares : Tensor
            `(B, C, Y, X)` and `(B, K, Y, X)`, in 3d `(B, C, Z, Y, X)`; rows and columns of 32 px at least.
        """
        judged: Tensor = self.parts(torch.cat([image, shares], 1))
        return judged

    @torch.no_grad()
    def draw(self, seed: int) -> None:
        """Begin anew with random weights; they depend on the seed alone, on every device.

        The last layer begins with 0, without an opinion: its authors draw it as well, and it takes many times
        as long until what it says is better than a guess.
        """
        generator = torch.Generator().manual_seed(seed)
        last = self.parts[-1].weight
        for weight in self.parameters():
            drawn = torch.zeros(weight.shape)
            if weight.ndim > 1 and weight is not last:
                drawn.normal_(0, SPREAD, generator=generator)
            weight.copy_(drawn)
