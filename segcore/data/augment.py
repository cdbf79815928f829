"""Augmentation of whole batches: what to do is drawn first; doing it is a second step that can be replayed.

Probabilities and ranges follow those nnU-Net settled on (Isensee et al. 2021, doi 10.1038/s41592-020-01008-z,
supplement 4), with the elastic deformation of Ronneberger et al. 2015 (arXiv 1505.04597).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class AugmentOptions:
    """Chance of every variation for a patch, and how far it goes; grey values in normalised units."""

    flip: float = 0.5
    quarter_turn: float = 0.75
    rotation: float = 0.2
    scale: float = 0.2
    elastic: float = 0.1
    brightness: float = 0.15
    contrast: float = 0.15
    gamma: float = 0.15
    blur: float = 0.1
    noise: float = 0.1
    rotation_range: float = math.pi / 4
    scale_range: tuple[float, float] = (0.75, 1.35)
    elastic_shift: float = 4.0
    """Standard deviation of the displacement at the control points, in pixels."""
    elastic_spacing: int = 32
    """Distance of the control points, in pixels."""
    brightness_range: float = 0.2
    contrast_range: tuple[float, float] = (0.75, 1.3)
    gamma_range: tuple[float, float] = (0.7, 1.5)
    blur_range: tuple[float, float] = (0.5, 1.25)
    """Standard deviation of the Gaussian, in pixels."""
    noise_range: float = 0.15

    @classmethod
    def off(cls) -> AugmentOptions:
        """Return options that change nothing."""
        never: dict[str, Any] = dict.fromkeys(CHANCES, 0.0)
        return cls(**never)


GEOMETRY = ("flip", "quarter_turn", "rotation", "scale", "elastic")
GREY = ("brightness", "contrast", "gamma", "blur", "noise")
CHANCES = (*GEOMETRY, *GREY)


@dataclass(frozen=True)
class AugmentDraw:
    """What will be done to each patch of a batch; neutral values where nothing is done."""

    matrix_B22: Tensor
    """Maps (row, column) in the patch to (row, column) in the image, relative to the patch centre."""
    elastic: dict[int, Tensor]
    """Patch number → displacement at the control points, `(2, n, n)` in pixels."""
    brightness_B: Tensor
    contrast_B: Tensor
    gamma_B: Tensor
    blur: dict[int, float]
    """Patch number → standard deviation in pixels."""
    noise: dict[int, Tensor]
    """Patch number → noise field of the shape of a patch."""
    reversed_B: Tensor
    """Whether the slices of the patch are read in reverse order; nothing else is done to depth."""


def draw(
    options: AugmentOptions, shape: tuple[int, ...], generator: torch.Generator, stacked: bool = False
) -> AugmentDraw:
    """Draw the variations of a batch.

    Parameters
    ----------
    options : AugmentOptions
        Chances and ranges.
    shape : tuple of int
        Of a batch of patches: `(B, C, Y, X)` or `(B, C, Z, Y, X)`.
    generator : torch.Generator
        The only source of randomness; on the CPU.
    stacked : bool
        Whether a patch has several slices, whose order may be reversed.
    """
    count, *inner = shape
    size = shape[-1]

    def chosen(chance: float) -> Tensor:
        return torch.rand(count, generator=generator) < chance

    def between(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    def maybe(chance: float, value: Tensor, neutral: float) -> Tensor:
        return torch.where(chosen(chance), value, torch.full_like(value, neutral))

    flip_B2 = 1.0 - 2.0 * torch.stack([chosen(options.flip), chosen(options.flip)], 1).float()
    # A chosen patch is turned by 90, 180 or 270 degrees, never by 0: chance 1 always does something.
    turns_B = maybe(options.quarter_turn, torch.randint(1, 4, (count,), generator=generator).float(), 0.0)
    angle_B = maybe(options.rotation, between(-options.rotation_range, options.rotation_range), 0.0)
    log_low, log_high = (math.log(value) for value in options.scale_range)
    scale_B = maybe(options.scale, between(log_low, log_high).exp(), 1.0)
    nodes = max(2, size // options.elastic_spacing + 1) + 2
    elastic = {
        index: options.elastic_shift * torch.randn(2, nodes, nodes, generator=generator)
        for index in chosen(options.elastic).nonzero().flatten().tolist()
    }
    brightness_B = maybe(
        options.brightness, between(-options.brightness_range, options.brightness_range), 0.0
    )
    contrast_B = maybe(options.contrast, between(*options.contrast_range), 1.0)
    gamma_B = maybe(options.gamma, between(*options.gamma_range), 1.0)
    sigma_B = between(*options.blur_range)
    blur = {index: float(sigma_B[index]) for index in chosen(options.blur).nonzero().flatten().tolist()}
    strength_B = between(0.0, options.noise_range)
    noise = {
        index: strength_B[index] * torch.randn(inner, generator=generator)
        for index in chosen(options.noise).nonzero().flatten().tolist()
    }
    # Drawn last, and only where it matters: patches of single slices are those they always were.
    reversed_B = chosen(options.flip) if stacked else torch.zeros(count, dtype=torch.bool)
    matrix_B22 = _matrices(flip_B2, turns_B, angle_B, scale_B)
    return AugmentDraw(matrix_B22, elastic, brightness_B, contrast_B, gamma_B, blur, noise, reversed_B)


def _matrices(flip_B2: Tensor, turns_B: Tensor, angle_B: Tensor, scale_B: Tensor) -> Tensor:
    """Combine flips, quarter turns, rotation and scale into one matrix per patch.

    Quarter turns use whole numbers, so that without rotation and scale every point falls exactly on a pixel.
    """
    quarter = torch.tensor(
        [[[1, 0], [0, 1]], [[0, -1], [1, 0]], [[-1, 0], [0, -1]], [[0, 1], [-1, 0]]]
    ).float()
    cos, sin = angle_B.cos(), angle_B.sin()
    rotation_B22 = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    matrix_B22 = rotation_B22 @ quarter[turns_B.long()] / scale_B.view(-1, 1, 1)
    return matrix_B22 * flip_B2[:, None, :]


def sampling_offsets(done: AugmentDraw, size: int, device: torch.device) -> Tensor:
    """Return where each patch pixel is read, relative to the patch centre: `(B, Y, X, 2)` in pixels."""
    line = torch.arange(size, device=device) - (size - 1) / 2
    matrix_B22 = done.matrix_B22.to(device)
    # Written out: a batched matrix product may use reduced precision and would leave the pixel grid.
    rows, columns = line[:, None], line[None, :]
    offset_BYX2 = torch.stack(
        [
            matrix_B22[:, axis, 0, None, None] * rows + matrix_B22[:, axis, 1, None, None] * columns
            for axis in (0, 1)
        ],
        -1,
    )
    for index, field_2NN in done.elastic.items():
        smooth_12YX = F.interpolate(
            field_2NN[None].to(device), (size, size), mode="bicubic", align_corners=True
        )
        offset_BYX2[index] += smooth_12YX[0].permute(1, 2, 0)
    return offset_BYX2


def change_grey(done: AugmentDraw, image: Tensor) -> Tensor:
    """Apply gamma, contrast, brightness, blur (in the plane) and noise; the neutral draw changes nothing.

    Images are `(B, C, Y, X)` or `(B, C, Z, Y, X)`. Their memory is reused: pass a clone to keep the original.
    """
    device = image.device
    each = (-1, *[1] * (image.ndim - 1))
    for index in (done.gamma_B != 1).nonzero().flatten().tolist():
        # Gamma bends the range -1 … 1 of the normalised image; what lies outside keeps its sign and bends on.
        unit = (image[index] + 1) / 2
        image[index] = unit.abs().pow(float(done.gamma_B[index])) * unit.sign() * 2 - 1
    if bool((done.contrast_B != 1).any()):
        image = image * done.contrast_B.to(device).view(each)
    if bool((done.brightness_B != 0).any()):
        image = image + done.brightness_B.to(device).view(each)
    for index, sigma in done.blur.items():
        image[index] = _blur(image[index], sigma)
    for index, field in done.noise.items():
        image[index] += field.to(device)
    return image


def _blur(image: Tensor, sigma: float) -> Tensor:
    radius = max(1, math.ceil(3 * sigma))
    line = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-0.5 * (line / sigma) ** 2)
    kernel = kernel / kernel.sum()
    planes_NYX = image.reshape(-1, *image.shape[-2:])
    padded = F.pad(planes_NYX[:, None], (radius,) * 4, mode="replicate")[:, 0]
    # Shifted sums: on a CPU the library's convolution of a single channel is many times slower.
    return _smoothed(_smoothed(padded, kernel, 1), kernel, 2).reshape(image.shape)


def _smoothed(image_NYX: Tensor, kernel: Tensor, axis: int) -> Tensor:
    size = image_NYX.shape[axis] - len(kernel) + 1
    total = image_NYX.narrow(axis, 0, size) * kernel[0]
    for shift in range(1, len(kernel)):
        total.addcmul_(image_NYX.narrow(axis, shift, size), kernel[shift])
    return total
