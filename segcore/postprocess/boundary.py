"""The boundary head: background, inside or edge of an object, and how deep inside; objects by a watershed.

Three classes as in Caicedo et al. 2019 (Cytometry A, doi 10.1002/cyto.a.23863), the distance as in Naylor et
al. 2019 (IEEE TMI, doi 10.1109/TMI.2018.2865709), both together as in Lin et al. 2021 (NucMM, MICCAI).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from segcore.postprocess.objects import clean, depths, edges, numbered
from segcore.postprocess.ranges import check_range
from segcore.postprocess.terms import Total, alone, annotated, weighted_mean
from segcore.tiling import IGNORE

OUTSIDE, INSIDE, EDGE = range(3)
FULL_DEPTH = 0.5
"""Deeper than this all is equally deep for the seeds: the ridge of a rod goes up and down by a third."""


@dataclass(frozen=True)
class BoundaryDecoding:
    """How objects are made of classes and depths.

    Parameters
    ----------
    threshold : float
        Least probability, 0 to 1, that a pixel is of an object at all.
    prominence : float
        By how much of the full depth, 0.01 to 1, a seed must rise above the pass to a higher one (h-maxima).
        Less divides more.
    least : int
        Fewest px of an object, 1 to 1e9.
    fill_holes : bool
        Whether background inside an object becomes part of it.
    """

    threshold: float = 0.5
    prominence: float = 0.4
    least: int = 1
    fill_holes: bool = True

    def __post_init__(self) -> None:
        """Raise `ConfigError` where an option is out of its range."""
        check_range("threshold", self.threshold, 0, 1)
        check_range("prominence", self.prominence, 0.01, 1)
        check_range("least", self.least, 1, 1e9)


@dataclass(frozen=True)
class BoundaryHead:
    """Classes outside, inside, edge (maps 0 to 2) and the depth (map 3); satisfies `InstanceHead`.

    Parameters
    ----------
    dimensions : int
        2 or 3.
    anisotropy : float
        Distance of slices over that of pixels, 0.1 to 100; only depths in 3d know it.
    """

    dimensions: int = 2
    anisotropy: float = 1.0

    def __post_init__(self) -> None:
        """Raise `ConfigError` where a field is out of its range."""
        check_range("dimensions", self.dimensions, 2, 3)
        check_range("anisotropy", self.anisotropy, 0.1, 100)

    @property
    def channels(self) -> int:
        """Maps that the network must answer."""
        return 4

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Return the class (IGNORE where nobody annotated) and the depth, `(2, …)`; see `InstanceHead`."""
        numbers, _ = numbered(labels)
        spacing = (self.anisotropy, 1.0, 1.0)[-numbers.ndim :] if numbers.ndim == 3 else None
        kind = np.where(numbers > 0, INSIDE, numbers).astype(np.float32)  # 0 and IGNORE stay what they are
        kind[edges(numbers)] = EDGE
        return np.stack([kind, depths(numbers, spacing)])

    def loss(self, output: Tensor, target: Tensor, total: Total = alone) -> Tensor:
        """Return the cross-entropy of the classes plus the squared error of the depth, means over pixels."""
        output, known = output.float(), annotated(target)
        kind = target[:, 0].long().clamp(min=0)
        entropy = functional.cross_entropy(output[:, :3], kind, reduction="none")
        error = (output[:, 3] - target[:, 1]) ** 2
        return weighted_mean(entropy, known, total) + weighted_mean(error, known, total)

    def activate(self, output: Tensor) -> Tensor:
        """Return the probabilities of the three classes, and the depth between 0 and 1."""
        classes = functional.softmax(output[:, :3].float(), dim=1)
        return torch.cat([classes, output[:, 3:].float().clamp(0, 1)], dim=1)

    def inside(self, maps: Tensor) -> Tensor:
        """Return where background is the less likely; see `InstanceHead`."""
        return maps[:, OUTSIDE] < 0.5

    def ideal(self, target: np.ndarray) -> np.ndarray:
        """Return certain probabilities and the depth; what nobody annotated is background."""
        kind = np.where(target[0] == IGNORE, OUTSIDE, target[0])
        return np.stack([*(kind == each for each in (OUTSIDE, INSIDE, EDGE)), target[1]]).astype(np.float32)

    def flip(self, maps: np.ndarray, axis: int) -> np.ndarray:
        """Return the maps of the reversed image; see `InstanceHead`."""
        return np.flip(maps, axis + 1)

    def decode(self, maps: np.ndarray, options: BoundaryDecoding | None = None) -> np.ndarray:
        """Return objects: a watershed of the depth from its h-maxima; see `InstanceHead`.

        Depths count only where there is no edge, so that an edge parts what touches. What is of an object and
        reached by no seed, such as a line one px wide, is an object by itself.
        """
        options = options or BoundaryDecoding()
        inside = maps[OUTSIDE] < 1 - options.threshold
        if not inside.any():
            return np.zeros(inside.shape, np.int32)
        height = np.clip(maps[3] / FULL_DEPTH, 0, 1) * np.clip(1 - maps[EDGE], 0, 1) * inside
        return clean(_flooded(height, inside, options.prominence), options.least, options.fill_holes)


def _flooded(height: np.ndarray, inside: np.ndarray, prominence: float) -> np.ndarray:
    from scipy import ndimage
    from skimage.segmentation import watershed

    everywhere = np.ones((3,) * height.ndim, bool)
    seeds, count = h_maxima(height, prominence)
    apart, pieces = ndimage.label(inside, everywhere)
    seeded = np.zeros(pieces + 1, bool)
    seeded[apart[seeds > 0]] = True
    seeded[0] = True
    lone = ~seeded[apart]
    seeds = np.where(lone, apart + count, seeds)
    # First over faces only: the neighbours of what is inside an object are of the same object.
    found: np.ndarray = watershed(-height, seeds, mask=inside, connectivity=1)
    if (inside & (found == 0)).any():
        found = watershed(-height, found, mask=inside, connectivity=height.ndim)
    return found


def h_maxima(height: np.ndarray, prominence: float) -> tuple[np.ndarray, int]:
    """Return the tops that rise by `prominence` above the pass to a higher one, numbered, and how many.

    A top is all that lies less than `prominence` below its highest point; see Soille 2003, Morphological
    Image Analysis, section 6.3.
    """
    from scipy import ndimage
    from skimage.morphology import reconstruction

    everywhere = np.ones((3,) * height.ndim, bool)
    height = height.astype(np.float32)
    lowered = reconstruction(np.maximum(height - np.float32(prominence), 0), height, footprint=everywhere)
    rise = height - lowered.astype(np.float32)
    tops, count = ndimage.label(rise > 0, everywhere)
    if not count:
        return tops, 0
    highest = ndimage.maximum(rise, tops, np.arange(1, count + 1))
    return numbered(np.where(np.r_[False, highest >= 0.999 * prominence][tops], tops, 0))
