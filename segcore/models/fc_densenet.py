"""FC-DenseNet, the hundred layers tiramisu (Jégou et al. 2017): layers see all layers before them, in 2d."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from segcore.errors import ConfigError
from segcore.models.levels import keep_variance
from segcore.models.measured import Measured

LARGEST_HALO = 128
"""Px that a tile reads at most around what it keeps: the deep ones see farther, but hardly weigh it."""


class Size(NamedTuple):
    """What the sizes differ in (section 3.3 and table 2 of the paper)."""

    growth: int
    """Feature maps that every layer adds."""
    down: tuple[int, ...]
    """Layers of every level on the way down."""
    bottom: int
    up: tuple[int, ...]
    """Layers of every level on the way up, from below."""


SIZES = {
    "56": Size(12, (4,) * 5, 4, (4,) * 5),
    "67": Size(16, (5,) * 5, 5, (5,) * 5),
    "103": Size(16, (4, 5, 7, 10, 12), 15, (12, 10, 7, 5, 4)),
}
FIRST = 48
"""Feature maps of the first convolution."""


class DenseBlock(nn.Module):
    """Layers of which each is given what came in and what all layers before it have added.

    Parameters
    ----------
    inputs : int
        Feature maps that come in.
    growth : int
        Feature maps that each layer adds.
    layers : int
        Number of layers: normalisation, ReLU, 3 × 3 convolution.
    dropout : float
        Share of the features that are dropped in training after each convolution.
    """

    def __init__(self, inputs: int, growth: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(inputs + number * growth),
                nn.ReLU(inplace=True),
                nn.Conv2d(inputs + number * growth, growth, 3, padding=1, bias=False),
                nn.Dropout2d(dropout),
            )
            for number in range(layers)
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return what the layers have added, without what came in."""
        seen, added = image, []
        for layer in self.layers:
            new = layer(seen)
            added.append(new)
            seen = torch.cat([seen, new], dim=1)
        return torch.cat(added, dim=1)


class FCDenseNet(Measured):
    """The network of the paper; of a level only what it has added itself is handed up.

    Parameters
    ----------
    channels, classes : int
        Of image and logits.
    size : Size
        Layers and their width.
    dropout : float
        Share of the features that are dropped in training; 0.2 in the paper.
    """

    def __init__(self, channels: int, classes: int, size: Size, dropout: float = 0.0) -> None:
        super().__init__(channels, classes)
        self.first = nn.Conv2d(channels, FIRST, 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        self.grow, self.up = nn.ModuleList(), nn.ModuleList()
        width, skips = FIRST, []
        for layers in size.down:
            self.down.append(DenseBlock(width, size.growth, layers, dropout))
            width += layers * size.growth
            skips.append(width)
            self.shrink.append(
                nn.Sequential(
                    nn.BatchNorm2d(width),
                    nn.ReLU(inplace=True),
                    nn.Conv2d(width, width, 1, bias=False),
                    nn.Dropout2d(dropout),
                )
            )
        self.bottom = DenseBlock(width, size.growth, size.bottom, dropout)
        added = size.bottom * size.growth
        for layers, skip in zip(size.up, reversed(skips), strict=True):
            self.grow.append(nn.ConvTranspose2d(added, added, 3, stride=2, padding=1, output_padding=1))
            self.up.append(DenseBlock(skip + added, size.growth, layers, dropout))
            width, added = skip + added, layers * size.growth
        self.head = nn.Conv2d(width + added, classes, 1)
        self.apply(keep_variance)
        step, reach = 2 ** len(size.down), farthest(size)
        self.divisors = (step, step)
        self.is_local = reach <= LARGEST_HALO
        self.receptive_radii = (min(reach, LARGEST_HALO),) * 2

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the levels of the encoder, the bottom, those of the decoder from below, and the head."""
        levels = zip(self.down, self.shrink, strict=True)
        down = [
            (f"encoder {number}", nn.ModuleList([self.first, *parts] if number == 1 else parts))
            for number, parts in enumerate(levels, 1)
        ]
        count = len(self.up)
        up = [
            (f"decoder {count - number}", nn.ModuleList(parts))
            for number, parts in enumerate(zip(self.grow, self.up, strict=True))
        ]
        return [*down, ("bottom", self.bottom), *up, ("head", self.head)]

    def aligned(self, image: Tensor) -> Tensor:
        """Return the logits of images whose sizes are multiples of `divisors`."""
        x, skips = self.first(image), []
        for block, shrink in zip(self.down, self.shrink, strict=True):
            x = torch.cat([x, block(x)], dim=1)
            skips.append(x)
            x = functional.max_pool2d(shrink(x), 2)
        new = self.bottom(x)
        for grow, block in zip(self.grow, self.up, strict=True):
            x = torch.cat([grow(new), skips.pop()], dim=1)
            new = block(x)
        return self.head(torch.cat([x, new], dim=1))


def farthest(size: Size) -> int:
    """Return the distance in px beyond which the input cannot influence an output pixel, exactly.

    From the output down to the bottom and up again to the input: what one row of pixels depends on, for every
    place it can have in a block of pixels that share one at the bottom.
    """
    most = 0
    for place in range(2 ** len(size.down)):
        low = high = place
        for layers in reversed(size.up):
            low, high = low - layers, high + layers
            low, high = low // 2, -(-high // 2)  # of the enlarging 3 × 3 convolution
        low, high = low - size.bottom, high + size.bottom
        for layers in reversed(size.down):
            low, high = 2 * low - layers, 2 * high + 1 + layers
        most = max(most, place - low + 1, high + 1 - place)
    return most


def build_fc_densenet(channels: int, classes: int, size: str = "56", dropout: float = 0.0) -> FCDenseNet:
    """Build an FC-DenseNet of the paper.

    Parameters
    ----------
    channels, classes : int
        Of image and logits.
    size : str
        "56" (1.4 M parameters), "67" (3.5 M) or "103" (9.3 M).
    dropout : float
        Share of the features that are dropped in training; 0.2 in the paper.

    Raises
    ------
    ConfigError
        There is no such size; the message lists those there are.
    """
    if size not in SIZES:
        raise ConfigError(f"FC-DenseNet has no size {size}.", f"Use one of {', '.join(SIZES)}.")
    return FCDenseNet(channels, classes, SIZES[size], dropout)
