"""Strides: which axes a network shrinks at which level, and how far it looks along each. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

Strides = tuple[tuple[int, int, int], ...]
"""How much every level of a 3d network shrinks planes, rows and columns; empty for a 2d network."""
LEAST = 4
"""Voxels that every axis keeps at the deepest level, as in nnU-Net."""
COARSE = 2.0
"""An axis this many times coarser than the finest waits until the others have been shrunk to its spacing."""


def pooling_plan(voxel: Sequence[float | None] | None, patch: Sequence[int], layers: int) -> Strides:
    """Return which axes every level of a 3d network halves.

    The rule is that of nnU-Net (Isensee et al. 2021, `get_pool_and_conv_props`): an axis is halved only while
    its spacing is less than 2 times that of the finest axis that can still be halved, and while it keeps at
    least 4 voxels of the patch. So slices far apart are left alone until rows and columns are as coarse.

    Parameters
    ----------
    voxel : sequence of float, optional
        Spacing of planes, rows and columns; where one is unknown, all count as equal.
    patch : sequence of int
        Planes, rows and columns of a patch.
    layers : int
        Levels.

    Examples
    --------
    >>> pooling_plan((1.0, 0.25, 0.25), (16, 64, 64), 3)
    ((1, 2, 2), (1, 2, 2), (2, 2, 2))
    """
    known = voxel is not None and all(size and size > 0 for size in voxel)
    spacing = [float(size or 1) for size in voxel or ()] if known else [1.0, 1.0, 1.0]
    sizes = list(patch)
    plan: list[tuple[int, int, int]] = []
    for _ in range(layers):
        able = [axis for axis in range(3) if sizes[axis] % 2 == 0 and sizes[axis] >= 2 * LEAST]
        finest = min((spacing[axis] for axis in able), default=0.0)
        z, y, x = (2 if axis in able and spacing[axis] < COARSE * finest else 1 for axis in range(3))
        plan.append((z, y, x))
        sizes = [size // step for size, step in zip(sizes, plan[-1], strict=True)]
        spacing = [size * step for size, step in zip(spacing, plan[-1], strict=True)]
    return tuple(plan)


def kernels(strides: Strides) -> tuple[tuple[int, int, int], ...]:
    """Return the size of the convolutions of every level, the bottom last.

    Along an axis a level looks at its neighbours (3) from the level on that halves the axis first, at single
    voxels (1) above, where neighbours are much farther than along the other axes. An axis that is never
    halved is looked along at every level.

    Examples
    --------
    >>> kernels(((1, 2, 2), (2, 2, 2)))
    ((1, 3, 3), (3, 3, 3), (3, 3, 3))
    """
    first = [next((level for level, step in enumerate(strides) if step[axis] > 1), 0) for axis in range(3)]
    return tuple(
        (_kernel(level, first[0]), _kernel(level, first[1]), _kernel(level, first[2]))
        for level in range(len(strides) + 1)
    )


def divisors(strides: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return per axis the number of voxels of which images are padded to a multiple."""
    return tuple(math.prod(axis) for axis in zip(*strides, strict=True))


def radii(strides: Sequence[Sequence[int]], sizes: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Return per axis the distance in voxels beyond which the input cannot influence an output voxel.

    Per level above the bottom: the two convolutions going down, the two going up, and the block of voxels
    that share one when the axis is shrunk; two convolutions at the bottom. A voxel of a level is as many
    voxels of the image as the levels above have shrunk it.

    Parameters
    ----------
    strides : sequence
        Per level.
    sizes : sequence
        Sizes of the convolutions per level, the bottom's last.
    """
    found = []
    for steps, reach in zip(zip(*strides, strict=True), zip(*sizes, strict=True), strict=True):
        scales = list(accumulate(steps, int.__mul__, initial=1))
        above = sum(
            scale * (4 * (kernel // 2) + step - 1)
            for scale, step, kernel in zip(scales[:-1], steps, reach[:-1], strict=True)
        )
        found.append(above + 2 * (reach[-1] // 2) * scales[-1])
    return tuple(found)


def _kernel(level: int, first: int) -> int:
    return 3 if level >= first else 1
