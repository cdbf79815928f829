"""Of many star shapes those that stay (greedy non-maximum suppression), and their drawing as labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from segcore.postprocess.rays import Rays

_SHELLS = {2: 3, 3: 2}
"""How many points along every ray stand for the inside of a shape, by the number of axes."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Star shapes: centres `(N, axes)`, lengths of rays `(N, rays)` in px, and how certain each is `(N,)`."""

    centres: np.ndarray
    lengths: np.ndarray
    certainties: np.ndarray

    def pick(self, kept: np.ndarray) -> Candidates:
        """Return those of some positions, in that order."""
        return Candidates(self.centres[kept], self.lengths[kept], self.certainties[kept])


def find_candidates(probability: np.ndarray, lengths: np.ndarray, threshold: float, grid: int) -> Candidates:
    """Return the shapes of likely pixels, of every cell of `grid` px per axis only the likeliest one."""
    likely = np.where(probability > threshold, probability, -1)
    padded = np.pad(likely, [(0, -size % grid) for size in likely.shape], constant_values=-1)
    cells = padded.reshape([part for size in padded.shape for part in (size // grid, grid)])
    axes = probability.ndim
    cells = cells.transpose(*range(0, 2 * axes, 2), *range(1, 2 * axes, 2))
    flat = cells.reshape(*cells.shape[:axes], -1)
    within = np.unravel_index(flat.argmax(-1), (grid,) * axes)
    chosen = np.nonzero(flat.max(-1) > threshold)
    centres = tuple(cell * grid + inner[chosen] for cell, inner in zip(chosen, within, strict=True))
    radii = np.maximum(lengths[(slice(None), *centres)].T, 1e-3)
    return Candidates(np.stack(centres, -1), radii, probability[centres])


def suppress(candidates: Candidates, rays: Rays, overlap: float) -> Candidates:
    """Return the candidates, likeliest first, that no likelier one overlaps by more than `overlap`.

    Overlap is what is common to two shapes over the smaller of them, as in StarDist. It is counted on points
    spread over one of the shapes. Only what is near is compared (k-d tree), so that the time grows with the
    number of candidates and not with its square.
    """
    from scipy.spatial import cKDTree

    if not len(candidates.centres):
        return candidates
    sorted_ = candidates.pick(np.argsort(-candidates.certainties, kind="stable"))
    centres, lengths = sorted_.centres.astype(np.float32), sorted_.lengths.astype(np.float32)
    reach = lengths.max(1)
    sizes = rays.sizes(lengths)
    tree = cKDTree(centres)
    widest = float(reach.max())
    alive = np.ones(len(centres), bool)
    kept = []
    for at in range(len(centres)):
        if not alive[at]:
            continue
        kept.append(at)
        near = np.asarray(tree.query_ball_point(centres[at], float(reach[at]) + widest), dtype=np.intp)
        near = near[(near > at) & alive[near]]
        apart = np.sqrt(((centres[near] - centres[at]) ** 2).sum(1))
        near = near[apart < reach[at] + reach[near]]
        if len(near):
            common = _share(sorted_, near, at, rays) * sizes[near]
            alive[near[common > overlap * np.minimum(sizes[near], sizes[at])]] = False
    return sorted_.pick(np.asarray(kept))


def _share(candidates: Candidates, some: np.ndarray, other: int, rays: Rays) -> np.ndarray:
    """Return which share of some shapes lies in another one."""
    axes, shells = rays.axes, _SHELLS[rays.axes]
    # Shells of equal volume, each with a point per ray: a point stands for as much as its ray's sector holds.
    parts = (((np.arange(shells) + 0.5) / shells) ** (1 / axes)).astype(np.float32)
    lengths = candidates.lengths[some].astype(np.float32)
    apart = (candidates.centres[some] - candidates.centres[other]).astype(np.float32)
    vectors = rays.vectors.astype(np.float32)
    points = apart[:, None, None] + (lengths[:, None] * parts[:, None])[..., None] * vectors
    inside = rays.contains(candidates.lengths[other], points)
    weights = lengths**axes
    share: np.ndarray = (inside.mean(1) * weights).sum(1) / weights.sum(1)
    return share


def draw(candidates: Candidates, rays: Rays, shape: tuple[int, ...]) -> np.ndarray:
    """Return labels 1 … n, int32, of shapes; what several claim is the first one's."""
    labels = np.zeros(shape, np.int32)
    for number, (centre, lengths) in enumerate(
        zip(candidates.centres, candidates.lengths, strict=True), start=1
    ):
        ends = lengths[:, None] * rays.vectors
        low = np.maximum(np.floor(centre + ends.min(0)), 0).astype(int)
        high = np.minimum(np.ceil(centre + ends.max(0)) + 1, shape).astype(int)
        box = tuple(slice(start, stop) for start, stop in zip(low, high, strict=True))
        grid = np.stack(
            np.meshgrid(*(np.arange(*side) for side in zip(low, high, strict=True)), indexing="ij"), -1
        )
        inside = rays.contains(lengths, (grid - centre).astype(np.float32))
        part = labels[box]
        part[inside & (part == 0)] = number
    return labels
