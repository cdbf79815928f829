"""The residual U-Net (Zhang et al. 2018; in 3d Lee et al. 2017): every block adds to what it was given."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from segcore.models.levels import Levels
from segcore.models.unet import DoubleConv
from segcore.strides import Strides


class ResidualBlock(nn.Module):
    """Two convolutions whose result is added to their input (He et al. 2016, fig. 2 and option B).

    Parameters
    ----------
    inputs, outputs : int
        Feature maps; where they differ the input is brought to `outputs` by a 1 × 1 convolution.
    kernel : sequence of int
        Size of the convolutions per axis, 1 or 3.
    """

    def __init__(self, inputs: int, outputs: int, kernel: Sequence[int] = (3, 3)) -> None:
        super().__init__()
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if len(kernel) == 2 else (nn.Conv3d, nn.BatchNorm3d)
        # All of the two convolutions but the last ReLU, which comes after the sum.
        self.change = nn.Sequential(*list(DoubleConv(inputs, outputs, kernel))[:-1])
        self.keep = (
            nn.Identity()
            if inputs == outputs
            else nn.Sequential(conv(inputs, outputs, 1, bias=False), norm(outputs))
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return the features."""
        return functional.relu(self.change(image) + self.keep(image))


class ResidualUNet(Levels):
    """A U-Net of residual blocks, in 2d or 3d.

    Parameters
    ----------
    channels, classes : int
        Of image and logits.
    features : int
        Feature maps of the first level; every level below doubles them.
    layers : int
        How many times the image is halved.
    strides : sequence, optional
        Makes it a 3d network, see `segcore.strides.pooling_plan`.
    """

    def __init__(
        self, channels: int, classes: int, features: int = 64, layers: int = 4, strides: Strides = ()
    ) -> None:
        super().__init__(channels, classes, features, layers, strides, ResidualBlock)
