"""The 2D U-Net (Ronneberger et al. 2015) with batch normalisation, for images of any size."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class DoubleConv(nn.Sequential):
    """Two 3 × 3 convolutions, each with batch normalisation and ReLU.

    Parameters
    ----------
    inputs, outputs : int
        Feature maps.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        layers: list[nn.Module] = []
        for channels in (inputs, outputs):
            # No bias: the normalisation that follows would take it away again.
            layers += [
                nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class UNet(nn.Module):
    """U-Net from an image to one logit per class and pixel.

    64 feature maps and 4 layers give the network of the paper (31.0 M parameters), 32 the small one (7.8 M).

    Parameters
    ----------
    channels : int
        Channels of the image.
    classes : int
        Classes, background included.
    features : int
        Feature maps of the first level; every level below doubles them.
    layers : int
        How many times the image is halved.
    """

    def __init__(self, channels: int, classes: int, features: int = 64, layers: int = 4) -> None:
        super().__init__()
        self.channels, self.classes, self.features, self.layers = channels, classes, features, layers
        widths = [features * 2**level for level in range(layers + 1)]
        self.encoder = nn.ModuleList(DoubleConv(a, b) for a, b in pairwise([channels, *widths[:-1]]))
        self.bottom = DoubleConv(widths[-2], widths[-1])
        self.upsample = nn.ModuleList(
            nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in widths[:-1]
        )
        self.decoder = nn.ModuleList(DoubleConv(2 * width, width) for width in widths[:-1])
        self.head = nn.Conv2d(features, classes, 1)
        self.apply(_initialise)

    @property
    def divisor(self) -> int:
        """Side in px that images are padded to a multiple of, and that tiles must be aligned to."""
        return 2**self.layers

    @property
    def receptive_radius(self) -> int:
        """Distance in px beyond which the input cannot influence an output pixel.

        Per level above the bottom: 2 px for the convolutions going down, 2 px going up and 1 px for the 2 × 2
        block a pixel shares when the image is halved; 2 px at the bottom. A px of level n is 2**n px of the
        image.
        """
        return 5 * (2**self.layers - 1) + 2 * 2**self.layers

    def bytes_per_pixel(self, itemsize: int) -> int:
        """Return the memory prediction needs per image pixel, with numbers of `itemsize` bytes.

        The peak is in the last decoder level: the concatenation (2 × features), its parts, the convolution
        before and after normalisation, and the library's own copies; then the float32 logits, their softmax
        and the input.
        """
        return 8 * self.features * itemsize + 4 * (3 * self.classes + 2 * self.channels)

    def forward(self, image_BCYX: Tensor) -> Tensor:
        """Return logits `B K Y X` for images `B C Y X` of any height and width.

        Rows below and columns right of the image are filled by repeating its edge up to a multiple of
        `divisor`, and cut off the result.
        """
        height, width = image_BCYX.shape[-2:]
        x = _pad(image_BCYX, self.divisor)
        skips = []
        for block in self.encoder:
            x = block(x)
            skips.append(x)
            x = functional.max_pool2d(x, 2)
        x = self.bottom(x)
        for level in reversed(range(self.layers)):
            x = torch.cat([skips.pop(), self.upsample[level](x)], dim=1)
            x = self.decoder[level](x)
        return self.head(x)[..., :height, :width]


def _pad(image_BCYX: Tensor, step: int) -> Tensor:
    height, width = image_BCYX.shape[-2:]
    bottom, right = -height % step, -width % step
    if not (bottom or right):
        return image_BCYX
    return functional.pad(image_BCYX, (0, right, 0, bottom), mode="replicate")


def _initialise(module: nn.Module) -> None:
    """Keep the variance of the signal from layer to layer (He et al. 2015)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def architecture(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Return channels, classes, features and layers of the network whose state has these shapes.

    Empty if the names are not those of a UNet.
    """
    head, first = shapes.get("head.weight", ()), shapes.get("encoder.0.0.weight", ())
    if len(head) != 4 or len(first) != 4:
        return {}
    levels = sum(name.startswith("upsample.") and name.endswith(".weight") for name in shapes)
    return {"features": head[1], "layers": levels, "channels": first[1], "classes": head[0]}
