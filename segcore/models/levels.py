"""What encoder–decoders with skip connections share; a network says what its blocks are, how skips enter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from segcore.models.measured import Measured
from segcore.strides import Strides, divisors, kernels, radii

Block = Callable[[int, int, Sequence[int]], nn.Module]
"""Makes a block from the feature maps that come in and go out, and the size of its two convolutions."""


class Levels(Measured):
    """An image is halved and widened level by level, and built up again beside what every level had seen.

    Exact: an output pixel sees what two convolutions per block reach, and nothing else.

    Parameters
    ----------
    channels, classes : int
        Of image and logits.
    features : int
        Feature maps of the first level; every level below doubles them.
    layers : int
        How many times the image is halved.
    strides : sequence
        Of a 3d network, see `segcore.strides.pooling_plan`; empty in 2d.
    block : callable
        Makes a block of two convolutions.
    """

    is_local = True

    def __init__(
        self, channels: int, classes: int, features: int, layers: int, strides: Strides, block: Block
    ) -> None:
        super().__init__(channels, classes)
        assert not strides or len(strides) == layers, (strides, layers)
        self.features, self.layers = features, layers
        self.strides: tuple[tuple[int, ...], ...] = tuple(strides) or ((2, 2),) * layers
        self.kernels: tuple[tuple[int, ...], ...] = kernels(strides) if strides else ((3, 3),) * (layers + 1)
        widths = [features * 2**level for level in range(layers + 1)]
        self.widths = widths
        steps = pairwise([channels, *widths[:-1]])
        self.encoder = nn.ModuleList(
            block(a, b, size) for (a, b), size in zip(steps, self.kernels[:-1], strict=True)
        )
        self.bottom = block(widths[-2], widths[-1], self.kernels[-1])
        grow = nn.ConvTranspose3d if strides else nn.ConvTranspose2d
        self.upsample = nn.ModuleList(
            grow(2 * width, width, step, stride=step)  # type: ignore[arg-type]
            for width, step in zip(widths[:-1], self.strides, strict=True)
        )
        self.decoder = nn.ModuleList(
            block(2 * width, width, size) for width, size in zip(widths[:-1], self.kernels[:-1], strict=True)
        )
        self.divisors, self.receptive_radii = divisors(self.strides), radii(self.strides, self.kernels)
        self.head = (nn.Conv3d if strides else nn.Conv2d)(features, classes, 1)
        self.apply(keep_variance)

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the levels of the encoder, the bottom, those of the decoder from below, and the head."""
        down = [(f"encoder {level}", block) for level, block in enumerate(self.encoder, start=1)]
        up = [
            (f"decoder {level + 1}", nn.ModuleList(self.of_level(level)))
            for level in reversed(range(self.layers))
        ]
        return [*down, ("bottom", self.bottom), *up, ("head", self.head)]

    def of_level(self, level: int) -> list[nn.Module]:
        """Return the parts of a level of the decoder."""
        return [self.upsample[level], self.decoder[level]]

    def aligned(self, image: Tensor) -> Tensor:
        """Return the logits of images whose sizes are multiples of `divisors`."""
        x = image
        pool = functional.max_pool2d if self.dimensions == 2 else functional.max_pool3d
        skips = []
        for block, step in zip(self.encoder, self.strides, strict=True):
            x = block(x)
            skips.append(x)
            x = pool(x, step)
        x = self.bottom(x)
        for level in reversed(range(self.layers)):
            x = self.decoder[level](self.merged(level, skips.pop(), self.upsample[level](x)))
        return self.head(x)

    def merged(self, level: int, skip: Tensor, below: Tensor) -> Tensor:
        """Return what a level of the decoder works on: the skip connection and what comes from below."""
        return torch.cat([skip, below], dim=1)


def keep_variance(module: nn.Module) -> None:
    """Fill a convolution so that the variance of the signal stays the same (He et al. 2015)."""
    if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
        return  # there is nothing to fill, and torch would import its compiler for it, which takes seconds
    if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
