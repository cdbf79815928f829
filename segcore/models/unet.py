"""The U-Net (Ronneberger et al. 2015; in 3d Çiçek et al. 2016) with batch normalisation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from segcore.estimate import Network, prediction_bytes
from segcore.models.levels import Levels
from segcore.models.segmenter import Segmenter
from segcore.strides import Strides


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


class UNet(Levels):
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

    def __init__(
        self, channels: int, classes: int, features: int = 64, layers: int = 4, strides: Strides = ()
    ) -> None:
        super().__init__(channels, classes, features, layers, strides, DoubleConv)

    def bytes_per_pixel(self, itemsize: int) -> int:
        """Return the memory prediction needs per pixel (voxel), see `segcore.estimate.prediction_bytes`."""
        network = Network(self.features, self.layers, self.channels, self.classes)
        return prediction_bytes(network, itemsize)

    def most_pixels(self) -> int:
        """Return the px (voxels) of an image up to which `bytes_per_pixel` holds: any number."""
        return Segmenter.most_pixels(self)


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
