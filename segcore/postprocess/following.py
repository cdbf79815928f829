"""Objects from flows: every pixel follows them, and those that end at one place are one object.

Stringer et al. 2021 (Nature Methods, doi 10.1038/s41592-020-01018-x), Methods, "Gradient tracking".
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_SINGLE = 10
"""So many steps are taken one by one; then a pixel is off the edge, where flows of different objects mix."""
_GROWTH = 5
"""Px around a sink from which pixels belong to it, as far as other pixels ended there too."""
_CROWDED, _VISITED = 10, 2
"""How many pixels end at a sink, and around it, at least: more than these."""


def follow(flow: np.ndarray, inside: np.ndarray, steps: int) -> np.ndarray:
    """Return where the pixels of objects end, `(pixels, axes)`, in px: Euler steps along the flow.

    The flow between pixels is interpolated. After ten single steps the way of ten steps is known from every
    pixel, and it is interpolated as the flow was; so the number of steps doubles with each further reading,
    where the authors read the flow at every step.

    Parameters
    ----------
    flow : np.ndarray
        `(axes, …)`, px per step.
    inside : np.ndarray
        Which pixels move, bool, in the order of `np.nonzero`; outside of them nothing flows.
    steps : int
        How often they move, at least; less than twice as often.
    """
    way = torch.from_numpy(np.ascontiguousarray(flow * inside, dtype=np.float32))[None]
    starts = torch.from_numpy(np.stack(np.nonzero(inside), -1).astype(np.float32))
    flat = torch.from_numpy(np.flatnonzero(inside))
    last = torch.tensor([size - 1 for size in inside.shape], dtype=torch.float32)
    now, taken = starts, min(steps, _SINGLE)
    for _ in range(taken):
        now = torch.minimum((now + _read(way, now, last)).clamp(min=0), last)
    while taken < steps:
        way.view(len(last), -1)[:, flat] = (now - starts).T
        now = torch.minimum((now + _read(way, now, last)).clamp(min=0), last)
        taken *= 2
    ends: np.ndarray = now.numpy()
    return ends


def _read(flow: Tensor, places: Tensor, last: Tensor) -> Tensor:
    """Return the flow at places `(N, axes)`, linearly interpolated; `last` are the indices of the last px."""
    grid = (places / last.clamp(min=1) * 2 - 1).flip(1)  # grid_sample begins with the last axis
    shape = (1, *[1] * (len(last) - 1), -1, len(last))
    read = functional.grid_sample(flow, grid.view(shape), "bilinear", "border", align_corners=True)
    return read.view(len(last), -1).T


def gather(ends: np.ndarray, inside: np.ndarray, crowded: int = _CROWDED) -> np.ndarray:
    """Return objects 1 … n, int32: pixels that end around the same sink.

    A sink is a pixel at which most end within two px, more than `crowded` of them. It grows over those around
    it at which pixels ended, too; where two meet the fuller one takes all.
    """
    from scipy import ndimage

    shape = inside.shape
    labels = np.zeros(shape, np.int32)
    if not len(ends):
        return labels
    places = tuple(np.clip(np.rint(ends).astype(np.intp), 0, np.array(shape) - 1).T)
    counts = np.bincount(np.ravel_multi_index(places, shape), minlength=inside.size).reshape(shape)
    # Of equally full ones beside each other the first is the sink.
    order = counts * np.int64(inside.size) - np.arange(inside.size).reshape(shape)
    peaks = np.flatnonzero(((order == ndimage.maximum_filter(order, 5)) & (counts > crowded)).ravel())
    peaks = peaks[np.argsort(order.ravel()[peaks])]
    sinks = np.zeros(shape, np.int32)
    sinks.ravel()[peaks] = np.arange(1, len(peaks) + 1)
    visited = counts > min(_VISITED, crowded)
    for _ in range(_GROWTH):
        grown = ndimage.maximum_filter(sinks, 3)
        sinks = np.where((sinks == 0) & visited, grown, sinks)
    labels[inside] = sinks[places]
    return labels


def flow_errors(labels: np.ndarray, flow: np.ndarray, true_flow: np.ndarray) -> np.ndarray:
    """Return of every label, 0 too, the mean squared distance between two flows `(axes, …)`."""
    wrong = ((flow - true_flow) ** 2).sum(0).ravel()
    counts = np.bincount(labels.ravel())
    errors: np.ndarray = np.bincount(labels.ravel(), wrong) / np.maximum(counts, 1)
    return errors
