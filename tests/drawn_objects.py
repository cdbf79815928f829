"""Label images for the tests of instance heads, and how well one fits another."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st


def ellipse(shape: tuple[int, ...], centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    grid = np.meshgrid(*(np.arange(size) for size in shape), indexing="ij")
    far = sum(((at - c) / r) ** 2 for at, c, r in zip(grid, centre, radii, strict=True))
    return np.asarray(far <= 1)


@st.composite
def ellipses(draw: st.DrawFn, dimensions: int = 2, most: int = 6, whole: bool = False) -> np.ndarray:
    """Ellipses with any numbers that may touch and, unless they have to be `whole`, reach over the border."""
    low, high = (40, 72) if dimensions == 2 else (20, 30)
    shape = tuple(draw(st.integers(low, high)) for _ in range(dimensions))
    labels = np.zeros(shape, np.int32)
    numbers = draw(st.lists(st.integers(1, 2000), min_size=0, max_size=most, unique=True))
    for number in numbers:
        radius = draw(st.floats(4, 12 if dimensions == 2 else 8))
        margin = radius if whole else 0
        centre = tuple(draw(st.floats(margin, size - 1 - margin)) for size in shape)
        radii = tuple(radius * draw(st.floats(0.7, 1)) for _ in range(dimensions))
        inside = ellipse(shape, centre, radii)
        if inside.sum() > 40 and not labels[inside].any():
            labels[inside] = number
    return labels


def blobs(size: int, count: int, seed: int, radius: tuple[float, float] = (5, 9)) -> np.ndarray:
    """Many ellipses, of which some touch."""
    random = np.random.default_rng(seed)
    labels = np.zeros((size, size), np.int32)
    number = 0
    for _ in range(20 * count):
        inside = ellipse(labels.shape, tuple(random.uniform(0, size, 2)), tuple(random.uniform(*radius, 2)))
        if number < count and inside.sum() > 40 and not labels[inside].any():
            number += 1
            labels[inside] = number
    return labels


def best_ious(labels: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Return of every object of `labels` its largest IoU with an object that was found."""
    ious = []
    for value in np.unique(labels[labels > 0]):
        own = labels == value
        others = np.unique(found[own & (found > 0)])
        ious.append(max(((own & (found == o)).sum() / (own | (found == o)).sum() for o in others), default=0))
    return np.array(ious)


def same_objects(first: np.ndarray, second: np.ndarray) -> bool:
    """Say whether two label images differ in nothing but the numbers of their objects."""
    pairs = np.unique(np.stack([first.ravel(), second.ravel()]), axis=1).T
    zeros_agree = bool(((pairs[:, 0] == 0) == (pairs[:, 1] == 0)).all())
    return zeros_agree and len(np.unique(pairs[:, 0])) == len(pairs) == len(np.unique(pairs[:, 1]))
