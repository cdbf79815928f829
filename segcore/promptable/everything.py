"""All objects of a plane, by prompts on a grid: the automatic mask generator of SAM (arXiv 2304.02643).

What is good is judged on the small logits, so that full masks are made only of what stays. Torch-free.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from segcore.models.painting import Objects, Painter
from segcore.promptable.promptable import Embedding, Everything, Promptable

BATCH = 16
"""Points that are asked at once; more take longer each on a processor."""


def find_everything(
    network: Promptable,
    embedding: Embedding,
    options: Everything | None = None,
    told: Callable[[int, int], None] | None = None,
) -> Objects:
    """Return all objects: int32 labels that do not overlap, and the IoU that the network expects of each.

    Parameters
    ----------
    network : Promptable
        Whose embedding it is.
    options : Everything, optional
        How fine the grid is, and which masks are objects.
    told : callable, optional
        Told how many points were asked, and how many there are.
    """
    options = options or Everything()
    parts, asked = [], 0
    for points in _grid(embedding, options):
        parts.append(_good(*network.at_points(embedding, points), embedding, options))
        asked += len(points)
        if told is not None:
            told(asked, options.side**2)
    logits, scores, boxes = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(-scores, kind="stable")
    painter = Painter(embedding.size, least=options.least)
    for at in order[suppressed(boxes[order], options.overlap)]:
        mask = network.enlarged(embedding, logits[at].astype(np.float32)) > 0
        painter.add(mask, (0, 0), float(scores[at]))
    return painter.objects()


def _grid(embedding: Embedding, options: Everything) -> Iterator[np.ndarray]:
    """Yield the points of the grid, some at a time, `(p, 2)` row and column."""
    shares = (np.arange(options.side) + 0.5) / options.side
    rows, columns = (shares * size - 0.5 for size in embedding.size)
    points = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    for start in range(0, len(points), BATCH):
        yield points[start : start + BATCH]


def _good(
    logits: np.ndarray, scores: np.ndarray, embedding: Embedding, options: Everything
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logits `(n, y, x)`, half precision, scores and boxes of the masks that are good and stable."""
    height, width = logits.shape[2:]
    kept = scores >= options.iou
    logits, scores = logits[kept], scores[kept]
    # The padding is no part of the plane: what is answered there says nothing of a mask.
    seen = logits[:, : math.ceil(height * embedding.share[0]), : math.ceil(width * embedding.share[1])]
    inner, outer = ((seen > offset).sum((1, 2)) for offset in (options.offset, -options.offset))
    share = (seen > 0).mean((1, 2))
    stable = (share > 0) & (share <= options.largest) & (inner >= options.stability * outer)
    return logits[stable].astype(np.float16), scores[stable], boxes_of(seen[stable] > 0)


def boxes_of(masks: np.ndarray) -> np.ndarray:
    """Return the boxes `(n, 4)` of masks `(n, y, x)`: top, left, and bottom and right, not in it."""
    sides = []
    for axis in (2, 1):
        seen = np.any(masks, axis=axis)
        first = seen.argmax(1)
        sides.append((first, np.where(seen.any(1), seen.shape[1] - seen[:, ::-1].argmax(1), first)))
    (top, bottom), (left, right) = sides
    return np.stack([top, left, bottom, right], 1)


def suppressed(boxes: np.ndarray, overlap: float) -> np.ndarray:
    """Return the positions of boxes `(n, 4)`, the best first, that no better one overlaps too much.

    That is by an IoU of more than `overlap` (greedy non-maximum suppression).
    """
    top, left, bottom, right = boxes.T.astype(np.float64)
    areas = (bottom - top) * (right - left)
    alive = np.ones(len(boxes), bool)
    kept = []
    for at in range(len(boxes)):
        if not alive[at]:
            continue
        kept.append(at)
        rows = np.minimum(bottom, bottom[at]) - np.maximum(top, top[at])
        columns = np.minimum(right, right[at]) - np.maximum(left, left[at])
        common = np.maximum(rows, 0) * np.maximum(columns, 0)
        alive &= common <= overlap * (areas + areas[at] - common)
    return np.asarray(kept, dtype=np.intp)
