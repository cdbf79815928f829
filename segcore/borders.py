"""Border weights: pixels between close borders count more, so that touching objects stay apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor

HEIGHT, WIDTH = 10.0, 5.0
"""w0 and sigma (px) of the U-Net (Ronneberger et al. 2015, eq. 2)."""
DOUBLINGS = 4
"""Borders are looked for up to 2**4 px away; further ones would add less than 1 % of the height."""
DIRECTIONS = ((0, 1), (1, 0), (1, 1), (1, -1))


def border_weights(target: Tensor) -> Tensor:
    """Return `1 + 10 · exp(−d² / (2 · 5²))` for every pixel, `d` being the width of the strip it lies in.

    In the U-Net `d` is the sum of the distances to the nearest and the second nearest object, which needs
    numbered objects and a distance transform for each of them. Here it is the distance between the two pixels
    of other classes that enclose the pixel along a row, a column or a diagonal, the least of the four: the
    same in a straight gap, computed from class indices in a few passes on the device. It also weights thin
    objects, and sees no border between objects of one class that touch.

    Parameters
    ----------
    target : Tensor
        Class indices `(…, Y, X)`; planes of a volume are looked at one by one. A pixel without annotation
        ends a strip, but makes no border.
    """
    gap = torch.full(target.shape, torch.inf, device=target.device)
    for rows, columns in DIRECTIONS:
        across = _reach(target, rows, columns) + _reach(target, -rows, -columns)
        gap = torch.minimum(gap, across * math.hypot(rows, columns))
    return 1 + HEIGHT * torch.exp(-(gap**2) / (2 * WIDTH**2))


def _reach(target: Tensor, rows: int, columns: int) -> Tensor:
    """Return the steps in a direction to the first pixel of another class; inf where an end comes first."""
    following = _moved(target, rows, columns, -1)
    same = following == target
    reach = torch.where(~same & (following >= 0), 1.0, torch.inf)
    for step in (2**level for level in range(DOUBLINGS)):
        # `same`: the next `step` pixels are of one class; what lies behind them is known by then.
        beyond = _moved(reach, step * rows, step * columns, torch.inf) + step
        reach = torch.where(same, torch.minimum(reach, beyond), reach)
        same = same & _moved(same, step * rows, step * columns, False)
    return reach


def _moved(plane: Tensor, rows: int, columns: int, fill: float) -> Tensor:
    """Return what lies `rows` and `columns` further on, `fill` beyond the end."""
    moved = torch.full_like(plane, fill)
    height, width = plane.shape[-2:]
    if abs(rows) >= height or abs(columns) >= width:
        return moved
    to = (slice(max(0, -rows), height - max(0, rows)), slice(max(0, -columns), width - max(0, columns)))
    of = (slice(max(0, rows), height - max(0, -rows)), slice(max(0, columns), width - max(0, -columns)))
    moved[..., *to] = plane[..., *of]
    return moved
