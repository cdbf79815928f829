"""Rays from a pixel to the edge of its object: their directions and lengths, and the shape that they span."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

_BEYOND = np.iinfo(np.int32).min
"""The number of what lies beyond the image."""
_TOGETHER = 2**20
"""Pixels times rays of a plane that are measured at once: more does not stay in the processor's cache."""
_BINS = (128, 256)
"""Directions of the table of faces: along the axis of planes, and around it."""


@dataclass(frozen=True, eq=False)
class Rays:
    """Directions and the faces between neighbouring ones: sectors of a polygon, triangles of a polyhedron.

    Parameters
    ----------
    vectors : np.ndarray
        Unit vectors in px, `(rays, axes)`, in the order of the image's axes.
    faces : np.ndarray
        The rays of every face, `(faces, axes)`.
    """

    vectors: np.ndarray
    faces: np.ndarray

    @property
    def axes(self) -> int:
        """Axes of an image: 2 or 3."""
        return self.vectors.shape[1]

    @cached_property
    def inverses(self) -> np.ndarray:
        """Of every face the matrix that writes a point as a sum of its rays, `(faces, axes, axes)`."""
        return np.linalg.inv(self.vectors[self.faces].transpose(0, 2, 1))

    @cached_property
    def _volumes(self) -> np.ndarray:
        axes = self.axes
        return np.abs(np.linalg.det(self.vectors[self.faces])) / (2 if axes == 2 else 6)

    @cached_property
    def _table(self) -> np.ndarray:
        """Faces by direction: bins of the cosine to the first axis, and of the angle around it."""
        cosine = (np.arange(_BINS[0]) + 0.5) / _BINS[0] * 2 - 1
        angle = (np.arange(_BINS[1]) + 0.5) / _BINS[1] * 2 * np.pi
        table = np.empty(_BINS, np.int32)
        for row, along in zip(table, cosine, strict=True):  # all at once would take 150 MB
            across = np.sqrt(1 - along**2)
            points = np.stack([np.full(len(angle), along), across * np.sin(angle), across * np.cos(angle)])
            row[:] = (self.inverses @ points).min(1).argmax(0)
        return table

    def faces_at(self, offsets: np.ndarray) -> np.ndarray:
        """Return in which face every offset `(…, axes)` from the centre points, `(…,)`.

        In 3d to the nearest of 32768 directions: 0.01 px in an object of 50 px.
        """
        around = np.arctan2(offsets[..., -2], offsets[..., -1]) / (2 * np.pi)
        if self.axes == 2:
            count = len(self.faces)
            return np.floor(around * count).astype(np.intp) % count
        length = np.sqrt((offsets**2).sum(-1))
        cosine = offsets[..., 0] / np.maximum(length, 1e-9)
        first = np.clip(((cosine + 1) / 2 * _BINS[0]).astype(np.intp), 0, _BINS[0] - 1)
        return self._table[first, np.floor(around * _BINS[1]).astype(np.intp) % _BINS[1]]

    def contains(self, lengths: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Say which offsets `(…, axes)` from its centre lie in the shape with rays so long, `(rays,)`."""
        planes = (self.inverses / lengths[self.faces][:, :, None]).sum(1).astype(np.float32)
        inside: np.ndarray = (planes[self.faces_at(offsets)] * offsets).sum(-1) <= 1
        return inside

    def sizes(self, lengths: np.ndarray) -> np.ndarray:
        """Return the area (volume) in px of the shapes with rays `(…, rays)`."""
        area: np.ndarray = (lengths[..., self.faces].prod(-1) * self._volumes).sum(-1)
        return area


@lru_cache(maxsize=8)
def build_rays(count: int, dimensions: int, anisotropy: float = 1.0) -> Rays:
    """Return evenly spread directions.

    In 2d equal angles from the direction of columns (Schmidt et al. 2018, MICCAI), in 3d a Fibonacci sphere
    squeezed along the planes by `anisotropy` (Weigert et al. 2020, WACV, section 3.1).
    """
    if dimensions == 2:
        angle = 2 * np.pi * np.arange(count) / count
        around = np.arange(count)
        return Rays(
            np.stack([np.sin(angle), np.cos(angle)], -1), np.stack([around, (around + 1) % count], -1)
        )
    from scipy.spatial import ConvexHull

    height = np.linspace(-1, 1, count)
    angle = (3 - np.sqrt(5)) * np.pi * np.arange(count)
    across = np.sqrt(1 - height**2)
    sphere = np.stack([height, across * np.sin(angle), across * np.cos(angle)], -1)
    squeezed = sphere / (anisotropy, 1, 1)
    vectors = squeezed / np.linalg.norm(squeezed, axis=1, keepdims=True)
    return Rays(vectors, ConvexHull(sphere).simplices)


def ray_lengths(numbers: np.ndarray, rays: Rays) -> np.ndarray:
    """Return from every pixel of an object how far it is to the edge along every ray, `(rays, …)`, in px.

    As StarDist measures it: half a step less than to the first pixel that is something else, and the border
    of the image is an edge. The image is divided into digital lines along the ray, on which a pixel is one
    step further from the edge than the next; so the time does not grow with the size of objects, and an edge
    is at most one px beside the ray.

    Parameters
    ----------
    numbers : np.ndarray
        From `numbered`.
    rays : Rays
        The directions.
    """
    lengths = np.zeros((len(rays.vectors), *numbers.shape), np.float32)
    if 0 in numbers.shape:
        return lengths
    axes = np.argmax(np.round(np.abs(rays.vectors), 12), axis=1)
    ahead = rays.vectors[np.arange(len(axes)), axes] > 0
    for axis in range(numbers.ndim):
        turned = np.ascontiguousarray(np.moveaxis(numbers, axis, 0))
        for sign in (1, -1):
            same = np.flatnonzero((axes == axis) & (ahead == (sign > 0)))
            together = max(1, _TOGETHER // turned.size) if numbers.ndim == 2 else 1
            for first in range(0, len(same), together):
                some = same[first : first + together]
                vectors = rays.vectors[some]
                steps = 1 / np.abs(vectors[:, axis])
                slopes = np.round(np.delete(vectors, axis, axis=1) * steps[:, None], 12)
                measure = _in_planes if numbers.ndim == 2 else _in_volumes
                measured = measure(turned[::sign], slopes, steps)
                lengths[some] = np.moveaxis(measured[:, ::sign], 1, axis + 1)
    lengths *= numbers > 0
    return lengths


def _in_planes(numbers: np.ndarray, slopes: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return the lengths of rays towards the last row, `(rays, rows, columns)`.

    Rows are moved sideways so far that the lines of a ray become columns, and moved back at the end. Several
    rays share the calls: for a patch these cost more than the arithmetic.

    Parameters
    ----------
    numbers : np.ndarray
        From `numbered`, with the axis along which all these rays go furthest in front.
    slopes : np.ndarray
        How many columns each ray goes per row, `(rays, 1)`, at most 1.
    steps : np.ndarray
        How far it is per row, `(rays,)`, in px.
    """
    rows, columns = numbers.shape
    moves = _moves(rows, slopes)[..., 0]
    high, room = moves.max(), np.ptp(moves)
    padded = np.pad(numbers, [(0, 0), (room, room)], constant_values=_BEYOND)
    row, ray = np.arange(rows)[:, None], np.arange(len(steps))
    windows = np.lib.stride_tricks.sliding_window_view
    straight = windows(padded, columns + room, 1)[row, room - high + moves]  # (rows, rays, columns)
    half = (steps / 2).astype(np.float32)[:, None]
    lengths = np.empty(straight.shape, np.float32)
    lengths[-1] = half
    for at in range(rows - 2, -1, -1):
        np.add(lengths[at + 1], half, out=lengths[at])
        lengths[at] *= straight[at] == straight[at + 1]
        lengths[at] += half
    return np.moveaxis(windows(lengths, columns, 2)[row, ray, high - moves], 0, 1)


def _in_volumes(numbers: np.ndarray, slopes: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return the lengths of one ray towards the last plane, `(1, planes, rows, columns)`."""
    count, sides = len(numbers), numbers.shape[1:]
    moves = np.diff(_moves(count, slopes)[:, 0], axis=0)
    half = np.float32(steps[0] / 2)
    lengths = np.full((1, *numbers.shape), half, np.float32)
    for at in range(count - 2, -1, -1):
        here = tuple(slice(max(0, -by), size - max(0, by)) for by, size in zip(moves[at], sides, strict=True))
        there = tuple(
            slice(max(0, by), size - max(0, -by)) for by, size in zip(moves[at], sides, strict=True)
        )
        same = numbers[at][here] == numbers[at + 1][there]
        lengths[0, at][here] += same * (lengths[0, at + 1][there] + half)
    return lengths


def _moves(count: int, slopes: np.ndarray) -> np.ndarray:
    """Return how far sideways the lines of rays are at each of `count` entries, `(count, rays, axes - 1)`."""
    middle = np.arange(count) - (count - 1) / 2  # so that a mirror image has mirrored lines
    return np.floor(middle[:, None, None] * slopes + 0.5).astype(np.intp)
