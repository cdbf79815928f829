"""Networks of MONAI (Cardoso et al. 2022) in 2d and 3d: DynUNet, SegResNet and Swin UNETR.

All of them normalise by the mean of what they are given, so the result for a tile is not exactly that for the
whole image.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from segcore.errors import ConfigError
from segcore.models.measured import Measured, built
from segcore.models.segmenter import pad_behind
from segcore.strides import Strides, divisors, kernels, radii

WIDEST = {2: 512, 3: 320}
"""Most feature maps of a level of DynUNet, in 2d and 3d, as in nnU-Net."""
HALVINGS = 3
"""Times that SegResNet halves an image."""
SWIN_DIVISOR = 32
SWIN_HALO = {2: 128, 3: 32}
"""Px (voxels) that a tile reads around what it keeps: Swin UNETR sees farther, but hardly weighs it."""
WINDOW = 7
"""Patches along each side of a window within which Swin UNETR compares."""
HEADS = (3, 6, 12, 24)


class MonaiNet(Measured):
    """A network of MONAI.

    Parameters
    ----------
    channels, classes : int
        Of image and logits.
    network : Module
        The network of MONAI.
    steps, halo : tuple of int
        Per axis, `divisors` and `receptive_radii`.
    """

    def __init__(
        self, channels: int, classes: int, network: Any, steps: tuple[int, ...], halo: tuple[int, ...]
    ) -> None:
        super().__init__(channels, classes)
        self.network = network
        self.divisors, self.receptive_radii = steps, halo

    def aligned(self, image: Tensor) -> Tensor:
        """Return the logits of images whose sizes are multiples of `divisors`."""
        sizes = tuple(image.shape[2:])
        if sizes == self.divisors:
            # One number would be left at the bottom, which cannot be normalised.
            image = pad_behind(image, [*sizes[:-1], 2 * sizes[-1]])
        return self.run(image)[..., : sizes[-1]]

    def run(self, image: Tensor) -> Tensor:
        """Return the logits of images that are large enough."""
        return self.network(image)


class DynUNet(MonaiNet):
    """The U-Net of nnU-Net (Isensee et al. 2021) as MONAI builds it: strided convolutions, instance norm."""

    def __init__(
        self, channels: int, classes: int, network: Any, steps: tuple[int, ...], halo: tuple[int, ...]
    ) -> None:
        super().__init__(channels, classes, network, steps, halo)
        del network.skip_layers  # the same layers under a second name; a saved model would hold all twice

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the levels of the encoder, the bottom, those of the decoder from below, and the head."""
        network = self.network
        down = [network.input_block, *network.downsamples]
        return [
            *((f"encoder {level}", part) for level, part in enumerate(down, 1)),
            ("bottom", network.bottleneck),
            *((f"decoder {len(down) - number}", part) for number, part in enumerate(network.upsamples)),
            ("head", network.output_block),
        ]

    def run(self, image: Tensor) -> Tensor:
        """Return the logits of images that are large enough."""
        network = self.network
        skips = [network.input_block(image)]
        for part in network.downsamples:
            skips.append(part(skips[-1]))
        x = network.bottleneck(skips[-1])
        for part in network.upsamples:
            x = part(x, skips.pop())
        return network.output_block(x)


class SegResNet(MonaiNet):
    """A residual encoder and a light decoder (Myronenko 2018, without its autoencoder)."""

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the levels of the encoder, those of the decoder from below, and the head."""
        network = self.network
        down = [nn.ModuleList([network.convInit, network.down_layers[0]]), *network.down_layers[1:]]
        ups = list(zip(network.up_samples, network.up_layers, strict=True))
        return [
            *((f"encoder {level}", part) for level, part in enumerate(down, 1)),
            *((f"decoder {len(ups) - number}", nn.ModuleList(parts)) for number, parts in enumerate(ups)),
            ("head", network.conv_final),
        ]


class SwinUNETR(MonaiNet):
    """Attention within shifted windows, and a convolutional decoder (Hatamizadeh et al. 2022)."""

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the parts of the encoder, what its features go through, the decoder, and the head."""
        network, swin = self.network, self.network.swinViT
        parts = [swin.patch_embed, swin.layers1, swin.layers2, swin.layers3, swin.layers4]
        skips = [network.encoder1, network.encoder2, network.encoder3, network.encoder4]
        return [
            *((f"encoder {number}", part) for number, part in enumerate(parts)),
            ("skips", nn.ModuleList(skips)),
            ("bottom", network.encoder10),
            *((f"decoder {level}", getattr(network, f"decoder{level}")) for level in (5, 4, 3, 2, 1)),
            ("head", network.out),
        ]


def build_dynunet(
    channels: int, classes: int, features: int = 32, layers: int = 4, strides: Strides = ()
) -> DynUNet:
    """Build a DynUNet.

    Parameters
    ----------
    channels, classes : int
        Of image and logits.
    features : int
        Feature maps of the first level; every level below doubles them, up to 512 in 2d and 320 in 3d.
    layers : int
        How many times the image is halved; at least 2.
    strides : tuple, optional
        Makes it a 3d network, see `segcore.strides.pooling_plan`: one entry per layer.

    Raises
    ------
    ConfigError
        There are too few layers.
    """
    from monai.networks.nets import DynUNet as Network

    if layers < 2:
        raise ConfigError(f"DynUNet has at least 2 layers, not {layers}.", "Set model.layers to 2 or more.")
    dimensions = 3 if strides else 2
    steps: tuple[tuple[int, ...], ...] = tuple(strides) or ((2, 2),) * layers
    sizes: tuple[tuple[int, ...], ...] = kernels(strides) if strides else ((3, 3),) * (layers + 1)
    network = built(
        lambda: Network(
            spatial_dims=dimensions,
            in_channels=channels,
            out_channels=classes,
            kernel_size=sizes,
            strides=[(1,) * dimensions, *steps],
            upsample_kernel_size=steps,
            filters=[min(features * 2**level, WIDEST[dimensions]) for level in range(layers + 1)],
        )
    )
    return DynUNet(channels, classes, network, divisors(steps), radii(steps, sizes))


def build_segresnet(channels: int, classes: int, features: int = 16, strides: Strides = ()) -> SegResNet:
    """Build a SegResNet; it halves all axes 3 times, so it suits voxels that are about as deep as wide.

    Parameters
    ----------
    channels, classes : int
        Of image and logits.
    features : int
        Feature maps of the first level, a multiple of 8; every level below doubles them.
    strides : tuple, optional
        Whether it is a 3d network: if there are any.

    Raises
    ------
    ConfigError
        `features` is not a multiple of 8.
    """
    from monai.networks.nets import SegResNet as Network

    _multiple("SegResNet", features, 8)
    dimensions = 3 if strides else 2
    network = built(
        lambda: Network(
            spatial_dims=dimensions, init_filters=features, in_channels=channels, out_channels=classes
        )
    )
    steps = ((2,) * dimensions,) * HALVINGS
    halo = radii(steps, ((3,) * dimensions,) * (HALVINGS + 1))
    return SegResNet(channels, classes, network, divisors(steps), halo)


def build_swin_unetr(channels: int, classes: int, features: int = 24, strides: Strides = ()) -> SwinUNETR:
    """Build a Swin UNETR; it halves all axes 5 times.

    Parameters
    ----------
    channels, classes : int
        Of image and logits.
    features : int
        Feature maps of the first level, a multiple of 12; every level below doubles them.
    strides : tuple, optional
        Whether it is a 3d network: if there are any.

    Raises
    ------
    ConfigError
        `features` is not a multiple of 12.
    """
    from monai.networks.nets import SwinUNETR as Network

    _multiple("Swin UNETR", features, 12)
    dimensions = 3 if strides else 2
    network = built(
        lambda: Network(
            in_channels=channels,
            out_channels=classes,
            feature_size=features,
            num_heads=HEADS,
            window_size=WINDOW,
            spatial_dims=dimensions,
        )
    )
    steps, halo = (SWIN_DIVISOR,) * dimensions, (SWIN_HALO[dimensions],) * dimensions
    return SwinUNETR(channels, classes, network, steps, halo)


def _multiple(name: str, features: int, step: int) -> None:
    if features < step or features % step:
        raise ConfigError(
            f"{name} needs features that are a multiple of {step}, not {features}.",
            f"Set model.features to {max(step, features // step * step)}.",
        )
