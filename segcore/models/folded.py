"""A U-Net made for prediction: the same numbers up to rounding as the trained one, in a fraction of the time.

Every batch normalisation is folded into its convolution, the weights lie in the number format and memory
layout of the arithmetic, and where oneDNN computes, sums and ReLU are done while a convolution writes its
result. What only the halo of a tile was needed for is not computed further up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from segcore.models.segmenter import pad_behind
from segcore.models.unet import UNet

COMPOSED_WIDTH = 64
"""Levels with at most so many feature maps go up in one step (`compose`); further down it gains nothing."""

Spans = list[tuple[int, int]]
"""Per axis the first px and the end of what is computed."""


class Layer(NamedTuple):
    """Weights and bias of a convolution."""

    weight: Tensor
    bias: Tensor | None


class Composed(NamedTuple):
    """A transposed convolution and the convolution after it as one, see `compose`."""

    weight: Tensor
    edges: Tensor


class Level(NamedTuple):
    """How the decoder goes up to one level."""

    up: Layer
    from_below: Layer
    from_skip: Layer
    second: Layer
    composed: Composed | None


class Folded:
    """Applies what a network has learned; later changes of its weights are not seen.

    Parameters
    ----------
    network : UNet
        The trained network. Normalisation uses its running statistics, in training mode, too.
    dtype : torch.dtype
        Number format of the arithmetic.
    layout : torch.memory_format
        How images lie in memory.
    """

    def __init__(self, network: UNet, dtype: torch.dtype, layout: torch.memory_format) -> None:
        self.steps, self.divisors = network.strides, network.divisors
        self.kernels = network.kernels
        self._dtype, self._layout = dtype, layout
        device = network.head.weight.device
        self._on_onednn = (
            device.type == "cpu"
            and torch.backends.mkldnn.is_available()
            and layout is not torch.contiguous_format
        )
        with torch.no_grad():
            self._encoder = [self._double(block) for block in network.encoder]
            self._bottom = self._double(network.bottom)
            self._levels = [self._level(network, level) for level in range(network.layers)]
            self._head = self._layer(network.head.weight, network.head.bias)

    def __call__(self, images: Tensor, keep: Sequence[slice] | None = None) -> Tensor:
        """Return logits `(B, K, Y, X)` or `(B, K, Z, Y, X)`, float32.

        Parameters
        ----------
        images : Tensor
            Normalised, `(B, C, Y, X)` or `(B, C, Z, Y, X)`, of any size; see `UNet.forward`.
        keep : sequence of slice, optional
            The part of rows and columns (in 3d of planes before them) that is wanted; by default all.
        """
        sizes = images.shape[2:]
        kept = keep or [slice(None)] * len(sizes)
        wanted = [part.indices(size)[:2] for part, size in zip(kept, sizes, strict=True)]
        x = self._laid_out(pad_behind(images, self.divisors).to(self._dtype))
        skips: list[Tensor] = []
        spans, ranges = list(wanted), [tuple(x.shape[2:])]
        for (first, second), step in zip(self._encoder, self.steps, strict=True):
            x = self._conv(self._conv(x, first), second)
            skips.append(x)
            x = self._pool(x, step)
            ranges.append(tuple(x.shape[2:]))
        needed = self._needed(spans, ranges)
        x = self._conv(self._conv(x, self._bottom[0]), self._bottom[1])
        have: Spans = [(0, size) for size in ranges[-1]]
        for level in reversed(range(len(self.steps))):
            x = _part(x, have, needed[level + 1])
            step = self.steps[level]
            have = [(a * s, b * s) for (a, b), s in zip(needed[level + 1], step, strict=True)]
            skip = _part(skips.pop(), [(0, size) for size in ranges[level]], have)
            joined = self._join(x, skip, level)
            del x, skip  # or they would take memory during the next convolution
            x = self._conv(joined, self._levels[level].second)
            del joined
        return _part(self._conv(x, self._head, relu=False), have, wanted).float()

    def _needed(self, wanted: Spans, ranges: Sequence[tuple[int, ...]]) -> list[Spans]:
        """Return what must be known of every level's result for the wanted part of the logits."""
        needed = [wanted]
        for step, kernel, sizes in zip(self.steps, self.kernels, ranges, strict=False):
            spans = [
                (max(0, low - 2 * (size // 2)) // by, -(-min(end, high + 2 * (size // 2)) // by))
                for (low, high), by, size, end in zip(needed[-1], step, kernel, sizes, strict=True)
            ]
            needed.append(spans)
        return needed

    def _double(self, block: Any) -> tuple[Layer, Layer]:
        return self._layer(*_fused(block[0], block[1])), self._layer(*_fused(block[3], block[4]))

    def _level(self, network: Any, level: int) -> Level:
        block, up = network.decoder[level], network.upsample[level]
        weight, bias = _fused(block[0], block[1])
        width = len(weight)
        below = weight[:, width:]
        composed = None
        if self._on_onednn and network.dimensions == 2 and width <= COMPOSED_WIDTH:
            joined, edges = compose(up.weight, up.bias, below, bias)
            composed = Composed(self._laid_out(joined.to(self._dtype)), edges.to(self._dtype))
        return Level(
            self._layer(up.weight, up.bias),
            self._layer(below, bias),
            self._layer(weight[:, :width], None),
            self._layer(*_fused(block[3], block[4])),
            composed,
        )

    def _layer(self, weight: Tensor, bias: Tensor | None) -> Layer:
        bias = None if bias is None else bias.detach().to(self._dtype, copy=True)
        return Layer(self._laid_out(weight.detach().to(self._dtype, copy=True)), bias)

    def _laid_out(self, x: Tensor) -> Tensor:
        """Return `x` in the memory layout; of one channel torch would otherwise not know which it has."""
        if self._layout is not torch.contiguous_format and x.shape[1] == 1:
            x = x.contiguous()
            # A convolution of one channel that torch takes for channels first is ten times slower on a CPU.
            return x.as_strided(x.shape, (x[0].numel(), 1, *x.stride()[2:]))
        return x.contiguous(memory_format=self._layout)

    def _conv(self, x: Tensor, layer: Layer, relu: bool = True) -> Tensor:
        weight, bias = layer
        padding = [size // 2 for size in weight.shape[2:]]
        ones = [1] * len(padding)
        if self._on_onednn:
            # What torch.compile makes of convolution and ReLU on a CPU.
            then = "relu" if relu else "none"
            return torch.ops.mkldnn._convolution_pointwise(
                self._laid_out(x), weight, bias, padding, ones, ones, 1, then, [], ""
            )
        y = (functional.conv2d if len(ones) == 2 else functional.conv3d)(x, weight, bias, padding=padding)
        return y.relu_() if relu else y

    def _join(self, x: Tensor, skip: Tensor, level: int) -> Tensor:
        """Return ReLU(convolution of `x`, one level up, beside `skip`) without laying them side by side."""
        up, from_below, from_skip, _, composed = self._levels[level]
        step = self.steps[level]
        if composed is not None:
            middle = composed.edges[:, 1, 1]
            y = functional.conv_transpose2d(self._laid_out(x), composed.weight, middle, step, padding=1)
            correct_edges(y, composed.edges)
        else:
            grow = functional.conv_transpose2d if len(step) == 2 else functional.conv_transpose3d
            y = self._conv(grow(self._laid_out(x), *up, stride=step), from_below, relu=False)
        padding = [size // 2 for size in from_skip.weight.shape[2:]]
        ones = [1] * len(padding)
        if self._on_onednn:
            return torch.ops.mkldnn._convolution_pointwise_.binary(
                y, self._laid_out(skip), *from_skip, padding, ones, ones, 1, "add", 1.0, "relu", [], ""
            )
        return (self._conv(skip, from_skip, relu=False).add_(y)).relu_()

    def _pool(self, x: Tensor, step: Sequence[int]) -> Tensor:
        if x.device.type != "cpu" or self._dtype.itemsize != 2 or self._layout is torch.contiguous_format:
            return (functional.max_pool2d if len(step) == 2 else functional.max_pool3d)(x, tuple(step))
        # After ReLU nothing is negative, and then 16-bit floats are in the order of their bits: integers are
        # compared 16 at once, floats one by one.
        bits = x.movedim(1, -1).view(torch.int16)
        for axis, by in enumerate(step, start=1):
            if by > 1:
                pairs = bits.unflatten(axis, (-1, by))
                bits = torch.maximum(pairs.select(axis + 1, 0), pairs.select(axis + 1, 1))
        return bits.view(self._dtype).movedim(-1, 1)


def compose(up: Tensor, up_bias: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return a 2 × 2 transposed convolution by 2 and the 3 × 3 convolution after it as one of 4 × 4.

    Both are linear and nothing stands between them. 8 products per px and pair of feature maps instead of 11,
    and the enlarged image is never written.

    Parameters
    ----------
    up, up_bias : Tensor
        Of the transposed convolution, `(2C, C, 2, 2)` and `(C,)`.
    weight, bias : Tensor
        Of the convolution, `(K, C, 3, 3)` and `(K,)`.

    Returns
    -------
    weight : Tensor
        `(2C, K, 4, 4)`, for a stride of 2 and a padding of 1.
    edges : Tensor
        The bias `(K, 3, 3)` of corners, edges and the middle: the border of zeros around the enlarged image
        has no bias.
    """
    joined = functional.conv2d(up, weight, padding=2)
    constant = up_bias[None, :, None, None].expand(1, -1, 3, 3)
    return joined, functional.conv2d(constant, weight, bias, padding=1)[0]


def correct_edges(x: Tensor, edges: Tensor) -> None:
    """Make the bias at the edges of `x` `(B, K, Y, X)` that of `compose`; so far it is that of the middle."""
    middle = edges[:, 1, 1]
    for at, row in ((0, 0), (-1, 2)):
        x[:, :, at, :] += (edges[:, row, 1] - middle)[None, :, None]
        x[:, :, :, at] += (edges[:, 1, row] - middle)[None, :, None]
        for also, column in ((0, 0), (-1, 2)):
            corner = edges[:, row, column] - edges[:, row, 1] - edges[:, 1, column] + middle
            x[:, :, at, also] += corner[None]


def _part(x: Tensor, have: Sequence[tuple[int, int]], want: Sequence[tuple[int, int]]) -> Tensor:
    """Return the part of `x`, which covers `have`, that covers `want`."""
    return x[:, :, *(slice(low - at, high - at) for (at, _), (low, high) in zip(have, want, strict=True))]


def _fused(conv: Any, norm: Any) -> tuple[Tensor, Tensor]:
    return fuse_conv_bn_weights(
        conv.weight.float(),
        None,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
