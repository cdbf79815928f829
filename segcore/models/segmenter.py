"""What every network of the program is: from an image to one logit per class and pixel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn import functional


class Segmenter(nn.Module):
    """Base of all networks; a family fills in `aligned`, and the attributes that say how it sees.

    Parameters
    ----------
    channels : int
        Channels of the input; in 2.5d those of all slices that are seen together.
    classes : int
        Maps of the output: classes, background included.
    """

    divisors: tuple[int, ...] = (1, 1)
    """Per axis the px that images are padded to a multiple of, and that tiles must be aligned to."""
    receptive_radii: tuple[int, ...] = (64, 64)
    """Per axis the distance in px that a tile reads around the part it keeps."""
    is_local: bool = False
    """Whether nothing beyond `receptive_radii` reaches an output pixel: tiles then equal the whole image."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.channels, self.classes = channels, classes

    @property
    def dimensions(self) -> int:
        """Axes of an image beside its channels: 2 or 3."""
        return len(self.divisors)

    @property
    def divisor(self) -> int:
        """The largest of `divisors` in plane: rows and columns aligned to it suit both."""
        return max(self.divisors[-2:])

    @property
    def receptive_radius(self) -> int:
        """The largest of `receptive_radii` in plane."""
        return max(self.receptive_radii[-2:])

    def bytes_per_pixel(self, itemsize: int) -> int:
        """Return the memory prediction needs per pixel (voxel) of the input, numbers of `itemsize` bytes."""
        raise NotImplementedError

    def most_pixels(self) -> int:
        """Return the px (voxels) of an image up to which `bytes_per_pixel` holds."""
        return 2**31

    def stages(self) -> list[tuple[str, nn.Module]]:
        """Return the parts from the input to the output, by name: for freezing and rates layer by layer."""
        raise NotImplementedError

    def forward(self, image: Tensor) -> Tensor:
        """Return logits `B K Y X` for images `B C Y X`, or `B K Z Y X` for `B C Z Y X`, of any size.

        What is missing to a multiple of `divisors` behind the last plane, row and column is filled by
        repeating the edge, and cut off the result.
        """
        sizes = image.shape[2:]
        return self.aligned(pad_behind(image, self.divisors))[:, :, *(slice(size) for size in sizes)]

    def aligned(self, image: Tensor) -> Tensor:
        """Return the logits of images whose sizes are multiples of `divisors`."""
        raise NotImplementedError


def pad_behind(image: Tensor, steps: Sequence[int]) -> Tensor:
    """Repeat the last plane, row and column until the axes are multiples of `steps`."""
    missing = [-size % step for size, step in zip(image.shape[2:], steps, strict=True)]
    if not any(missing):
        return image
    both = [(0, amount) for amount in reversed(missing)]  # functional.pad begins with the last axis
    return functional.pad(image, [side for pair in both for side in pair], mode="replicate")


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Let a network predict; afterwards each of its parts is in the mode it was in."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
