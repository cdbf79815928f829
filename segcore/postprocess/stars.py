"""The StarDist head: how deep a pixel lies in an object, and how far it is to the edge along rays.

Schmidt et al. 2018 (MICCAI, arXiv 1806.03535), in 3d Weigert et al. 2020 (WACV, arXiv 1908.03636).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from segcore.errors import ConfigError
from segcore.postprocess.objects import clean, depths, numbered
from segcore.postprocess.ranges import check_range
from segcore.postprocess.rays import Rays, build_rays, ray_lengths
from segcore.postprocess.suppression import draw, find_candidates, suppress
from segcore.postprocess.terms import Total, alone, annotated, weighted_mean
from segcore.tiling import IGNORE

RAYS = {2: 32, 3: 96}
"""How many rays the authors use, by the number of axes."""
DISTANCE_SHARE = 0.2
"""By how much the distances count beside the probability, as in the authors' package."""
OUTSIDE_SHARE = 1e-4
"""By how much distances outside of objects are held small, as in the authors' package."""
SHALLOW = 0.1
"""Depth from which a pixel seems to be of an object: that of the edge, where ten px are the deepest."""


@dataclass(frozen=True)
class StarDecoding:
    """How objects are made of probabilities and rays.

    Parameters
    ----------
    threshold : float
        Least probability, 0 to 1, of a pixel whose shape is considered.
    overlap : float
        How much of the smaller of two shapes, 0 to 1, may be common before the less likely one is dropped.
    grid : int
        Of so many px per axis, 1 to 16, only the likeliest pixel is considered: more is quicker.
    least : int
        Fewest px of an object, 1 to 1e9.
    """

    threshold: float = 0.5
    overlap: float = 0.4
    grid: int = 2
    least: int = 1

    def __post_init__(self) -> None:
        """Raise `ConfigError` where an option is out of its range."""
        check_range("threshold", self.threshold, 0, 1)
        check_range("overlap", self.overlap, 0, 1)
        check_range("grid", self.grid, 1, 16)
        check_range("least", self.least, 1, 1e9)


@dataclass(frozen=True)
class StarHead:
    """The object probability (map 0) and the lengths of the rays in px; satisfies `InstanceHead`.

    Parameters
    ----------
    dimensions : int
        2 or 3.
    rays : int
        How many, 0 for as many as the authors use: 32 in 2d, 96 in 3d. At most 512.
    anisotropy : float
        Distance of slices over that of pixels, 0.1 to 100; 3d only.
    """

    dimensions: int = 2
    rays: int = 0
    anisotropy: float = 1.0
    directions: Rays = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raise `ConfigError` where a field is out of its range."""
        check_range("dimensions", self.dimensions, 2, 3)
        check_range("anisotropy", self.anisotropy, 0.1, 100)
        count = self.rays or RAYS[self.dimensions]
        check_range("rays", count, 4 if self.dimensions == 2 else 12, 512)
        object.__setattr__(self, "directions", build_rays(count, self.dimensions, self.anisotropy))

    @property
    def channels(self) -> int:
        """Maps that the network must answer."""
        return 1 + len(self.directions.vectors)

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Return the depth (IGNORE where nobody annotated) and the rays; see `InstanceHead`."""
        numbers, _ = numbered(labels)
        spacing = (self.anisotropy, 1.0, 1.0) if numbers.ndim == 3 else None
        depth = depths(numbers, spacing)
        depth[numbers < 0] = IGNORE
        return np.concatenate([depth[None], ray_lengths(numbers, self.directions)])

    def loss(self, output: Tensor, target: Tensor, total: Total = alone) -> Tensor:
        """Return the cross-entropy of the depth plus 0.2 of the absolute error of the rays.

        Rays count by the depth of their pixel: where the object is far from certain they matter little.
        Outside of objects they are held near 0.
        """
        output, known = output.float(), annotated(target)
        depth = target[:, 0].clamp(min=0)
        entropy = functional.binary_cross_entropy_with_logits(output[:, 0], depth, reduction="none")
        error = (output[:, 1:] - target[:, 1:]).abs().mean(1)
        outside = weighted_mean(output[:, 1:].abs().mean(1), known & (depth == 0), total)
        distance = weighted_mean(error, depth, total) + OUTSIDE_SHARE * outside
        return weighted_mean(entropy, known, total) + DISTANCE_SHARE * distance

    def activate(self, output: Tensor) -> Tensor:
        """Return the probability and lengths, which are never negative."""
        return torch.cat([output[:, :1].float().sigmoid(), output[:, 1:].float().clamp(min=0)], dim=1)

    def inside(self, maps: Tensor) -> Tensor:
        """Return where it is not certain that there is none; see `InstanceHead`."""
        return maps[:, 0] > SHALLOW

    def ideal(self, target: np.ndarray) -> np.ndarray:
        """Return the target itself; what nobody annotated is background."""
        return np.maximum(target, 0)

    def flip(self, maps: np.ndarray, axis: int) -> np.ndarray:
        """Return the maps of the reversed image; see `InstanceHead`.

        Raises
        ------
        ConfigError
            In 3d, or with a number of rays not divisible by 4: the mirror image of a ray is no ray.
        """
        count = len(self.directions.vectors)
        if self.dimensions == 3 or count % 4:
            raise ConfigError(
                f"{count} rays in {self.dimensions}d have no mirror images.",
                "Leave flips out, or take a number of rays in 2d that can be divided by 4.",
            )
        ray = np.arange(count)
        mirrored = (-ray if axis == 0 else count // 2 - ray) % count
        return np.flip(np.concatenate([maps[:1], maps[1:][mirrored]]), axis + 1)

    def decode(self, maps: np.ndarray, options: StarDecoding | None = None) -> np.ndarray:
        """Return objects: the shapes of likely pixels, without those that a likelier one overlaps."""
        options = options or StarDecoding()
        candidates = find_candidates(maps[0], maps[1:], options.threshold, options.grid)
        kept = suppress(candidates, self.directions, options.overlap)
        return clean(draw(kept, self.directions, maps.shape[1:]), options.least, fill=False)
