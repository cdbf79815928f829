"""The attention U-Net (Oktay et al. 2018): gates let through of a skip connection what is asked for below."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from segcore.models.levels import Levels, keep_variance
from segcore.models.unet import DoubleConv
from segcore.strides import Strides


class AttentionGate(nn.Module):
    """Weighs every pixel of a skip connection between 0 and 1 by what the level below has found there.

    Additive attention as in eq. 1 and 2 of the paper, at the resolution of the skip: what comes from below
    has been enlarged by then, so no weight is interpolated, and the gate sees nothing beyond its pixel.

    Parameters
    ----------
    features : int
        Feature maps of the skip connection, and of what comes from below.
    dimensions : int
        2 or 3.
    """

    def __init__(self, features: int, dimensions: int) -> None:
        super().__init__()
        conv, norm = (nn.Conv2d, nn.BatchNorm2d) if dimensions == 2 else (nn.Conv3d, nn.BatchNorm3d)
        inner = max(1, features // 2)
        self.skip = nn.Sequential(conv(features, inner, 1, bias=False), norm(inner))
        self.below = nn.Sequential(conv(features, inner, 1, bias=False), norm(inner))
        self.weight = conv(inner, 1, 1)

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        """Return the skip connection, weighed."""
        return skip * self.weight(functional.relu(self.skip(skip) + self.below(below))).sigmoid()


class AttentionUNet(Levels):
    """A U-Net with a gate in every skip connection, in 2d or 3d.

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
        super().__init__(channels, classes, features, layers, strides, DoubleConv)
        self.gates = nn.ModuleList(AttentionGate(width, self.dimensions) for width in self.widths[:-1])
        self.gates.apply(keep_variance)

    def of_level(self, level: int) -> list[nn.Module]:
        """Return the parts of a level of the decoder."""
        return [self.gates[level], *super().of_level(level)]

    def merged(self, level: int, skip: Tensor, below: Tensor) -> Tensor:
        """Return the gated skip connection and what comes from below."""
        return super().merged(level, self.gates[level](skip, below), below)
