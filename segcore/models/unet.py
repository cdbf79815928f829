"""The U-Net (Ronneberger et al. 2015; in 3d Çiçek et al. 2016) with batch normalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from segcore.estimate import Network, prediction_bytes
from segcore.models.levels import keep_variance
from segcore.models.segmenter import Segmenter
from segcore.strides import Strides, divisors, kernels, radii


class DoubleConv(nn.Sequential):
    """Two convolutions, each with batch normalisation and ReLU.

    Parameters
    ----------
    inputs, outputs : int
        Feature maps.
    kernel : sequence of int
        Size of the convolutions per axis, 1 or 3.
    """

    def __init__(self, inputs: int, outputs: int, kernel: Sequence[int] = (3, 3)) -> None:
        conv, normalise = (nn.Conv2d, nn.BatchNorm2d) if len(kernel) == 2 else (nn.Conv3d, nn.BatchNorm3d)
        size, padding = tuple(kernel), tuple(side // 2 for side in kernel)
        layers: list[nn.Module] = []
        for channels in (inputs, outputs):
            # No bias: the normalisation that follows would take it away again.
            layers += [
                conv(channels, outputs, size, padding=padding, bias=False),  # type: ignore[arg-type]
                normalise(outputs),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers)


class UNet(Segmenter):
    """U-Net from an image to one logit per class and pixel, in 2d or 3d.

    64 feature maps and 4 layers give the network of the paper (31.0 M parameters), 32 the small one (7.8 M).

    Parameters
    ----------
    channels : int
        Channels of the input; in 2.5d those of all slices that are seen together.
    classes : int
        Classes, background included.
    features : int
        Feature maps of the first level; every level below doubles them.
    layers : int
        How many times the image is halved.
    strides : sequence, optional
        Makes it a 3d network: how much every level shrinks planes, rows and columns, see
        `segcore.strides.pooling_plan`; one entry per layer.
    """

    is_local = True

    def __init__(
        self, channels: int, classes: int, features: int = 64, layers: int = 4, strides: Strides = ()
    ) -> None:
        super().__init__(channels, classes)
        assert not strides or len(strides) == layers, (strides, layers)
        self.features, self.layers = features, layers
        self.strides: tuple[tuple[int, ...], ...] = tuple(strides) or ((2, 2),) * layers
        self.kernels: tuple[tuple[int, ...], ...] = kernels(strides) if strides else ((3, 3),) * (layers + 1)
        widths = [features * 2**level for level in range(layers + 1)]
        steps = pairwise([channels, *widths[:-1]])
        self.encoder = nn.ModuleList(
            DoubleConv(a, b, size) for (a, b), size in zip(steps, self.kernels[:-1], strict=True)
        )
        self.bottom = DoubleConv(widths[-2], widths[-1], self.kernels[-1])
        grow = nn.ConvTranspose3d if strides else nn.ConvTranspose2d
        self.upsample = nn.ModuleList(
            grow(2 * width, width, step, stride=step)  # type: ignore[arg-type]
            for width, step in zip(widths[:-1], self.strides, strict=True)
        )
        self.decoder = nn.ModuleList(
            DoubleConv(2 * width, width, size)
            for width, size in zip(widths[:-1], self.kernels[:-1], strict=True)
        )
        self.divisors, self.receptive_radii = divisors(self.strides), radii(self.strides, self.kernels)
        self.head = (nn.Conv3d if strides else nn.Conv2d)(features, classes, 1)
        self.apply(keep_variance)

    def bytes_per_pixel(self, itemsize: int) -> int:
        """Return the memory prediction needs per pixel (voxel), see `segcore.estimate.prediction_bytes`."""
        network = Network(self.features, self.layers, self.channels, self.classes)
        return prediction_bytes(network, itemsize)

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the levels of the encoder, the bottom, those of the decoder from below, and the head."""
        down = [(f"encoder {level}", block) for level, block in enumerate(self.encoder, start=1)]
        ups = list(zip(self.upsample, self.decoder, strict=True))
        up = [
            (f"decoder {level}", nn.ModuleList(parts))
            for level, parts in reversed(list(enumerate(ups, start=1)))
        ]
        return [*down, ("bottom", self.bottom), *up, ("head", self.head)]

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
            x = torch.cat([skips.pop(), self.upsample[level](x)], dim=1)
            x = self.decoder[level](x)
        return self.head(x)


def architecture(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int | str]:
    """Return dimensions, channels, classes, features and layers of the network whose state has these shapes.

    In 3d also its strides, as text. Empty if the names are not those of a UNet.
    """
    head, first = shapes.get("head.weight", ()), shapes.get("encoder.0.0.weight", ())
    if len(head) not in (4, 5) or len(first) != len(head):
        return {}
    names = sorted(name for name in shapes if name.startswith("upsample.") and name.endswith(".weight"))
    found: dict[str, int | str] = {
        "dimensions": len(head) - 2,
        "features": head[1],
        "layers": len(names),
        "channels": first[1],
        "classes": head[0],
    }
    if len(head) == 5:
        found["strides"] = ", ".join("×".join(map(str, shapes[name][2:])) for name in names)
    return found
