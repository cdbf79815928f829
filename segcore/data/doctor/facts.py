"""Facts about one slice and its labels: small numbers that are kept while the pixels are let go."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

THUMB = 64
"""Side of the small copy by which slices are compared."""
MAX_VALUES = 4096
"""Different values that are told apart; of more in one slice only the most frequent are kept."""
FREQUENT = 256
LARGE = 1e15
"""No grey value is larger, and squares of larger ones do not fit into a float."""
MAX_OBJECTS = 64
"""Values of a slice whose connected parts are counted."""


@dataclass(frozen=True)
class ImageFacts:
    """What is kept of the image of one slice."""

    digest: bytes
    """Equal for equal pixels."""
    thumb: np.ndarray
    """`(THUMB, THUMB)` float32 of mean 0 and length 1: fine structure, without slow changes of brightness."""
    low: float
    high: float
    span: float
    """From the 1st to the 99th percentile."""
    deviation: float
    """Standard deviation of the mean over the channels."""
    top: float
    """Share of the pixels at the highest value of the slice."""
    uniform: float
    """Share of the pixels whose eight neighbours have the same value."""
    values: int
    """Different values, at most `MAX_VALUES` + 1."""
    flat: frozenset[int]
    """Channels with one value throughout."""
    equal: frozenset[tuple[int, int]]
    """Pairs of channels with the same pixels."""


@dataclass(frozen=True)
class ValueFacts:
    """What is known of one label value in one slice."""

    pixels: int
    inner: int
    """Pixels whose eight neighbours have the value, too."""
    single: bool | None
    """Whether nearly all of it is one connected part; None where nobody looked."""
    grey: float
    """Mean of the image there."""


@dataclass(frozen=True)
class LabelFacts:
    """What is kept of the labels of one slice."""

    values: Mapping[float, ValueFacts] = field(default_factory=dict)
    """Ascending by value; where there are too many, the most frequent ones."""
    other: int = 0
    """Pixels of the others."""
    distinct: int = 0
    fractional: bool = False
    uniform: float = 0.0
    dtype: str = ""


def image_facts(image_CYX: np.ndarray) -> ImageFacts:
    """Return the facts about the image of a slice; NaN and infinite values count as the lowest value."""
    image = finite(image_CYX)
    low, high = float(image.min()), float(image.max())
    grey_YX = image.mean(0, dtype=np.float32) if len(image) > 1 else image[0]
    flat = frozenset(at for at, channel in enumerate(image) if channel.min() == channel.max())
    values = min(len(np.unique(image[0])), MAX_VALUES + 1)
    pairs = [(one, two) for two in range(len(image)) for one in range(two)]
    return ImageFacts(
        digest=hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest(),
        thumb=thumbnail(grey_YX),
        low=low,
        high=high,
        span=float(np.subtract(*np.percentile(grey_YX[::4, ::4], (99, 1)))),
        deviation=float(grey_YX.std(dtype=np.float64)),
        top=float((image == high).mean()),
        uniform=float(interior(image[0]).mean()),
        values=values,
        flat=flat,
        equal=frozenset(
            pair for pair in pairs if not flat & set(pair) and np.array_equal(image[pair[0]], image[pair[1]])
        ),
    )


def label_facts(labels_YX: np.ndarray, grey_YX: np.ndarray, objects: bool = True) -> LabelFacts:
    """Return the facts about the labels of a slice.

    Parameters
    ----------
    labels_YX : ndarray
        As read: integers, bool or floats.
    grey_YX : ndarray
        The image there.
    objects : bool
        Also look whether every value is one connected part, which takes a few milliseconds per value.
    """
    labels = labels_YX.astype(np.uint8) if labels_YX.dtype.kind == "b" else labels_YX
    inner_YX = interior(labels)
    found, indices = np.unique(labels, return_inverse=True)
    fractional = labels.dtype.kind == "f" and not bool((np.isfinite(found) & (found == np.rint(found))).all())
    indices = indices.reshape(labels.shape)
    flat = indices.ravel()
    pixels = np.bincount(flat, minlength=len(found))
    inner = np.bincount(flat, inner_YX.ravel(), minlength=len(found)).astype(np.int64)
    grey = np.bincount(flat, finite(grey_YX).ravel().astype(np.float64), minlength=len(found)) / pixels
    many = len(found) > MAX_VALUES
    kept = np.sort(np.argsort(-pixels, kind="stable")[:FREQUENT]) if many else np.arange(len(found))
    single = _singles(indices, found) if objects and not fractional and not many else {}
    return LabelFacts(
        values={
            float(found[at]): ValueFacts(int(pixels[at]), int(inner[at]), single.get(at), float(grey[at]))
            for at in kept.tolist()
        },
        other=int(pixels.sum() - pixels[kept].sum()),
        distinct=len(found),
        fractional=fractional,
        uniform=float(inner_YX.mean()),
        dtype=str(labels_YX.dtype),
    )


def interior(plane_YX: np.ndarray) -> np.ndarray:
    """Return where a pixel equals its eight neighbours; the outermost pixels never do."""
    result = np.zeros(plane_YX.shape, bool)
    if min(plane_YX.shape) < 3:
        return result
    across = (plane_YX[:, 1:-1] == plane_YX[:, :-2]) & (plane_YX[:, 1:-1] == plane_YX[:, 2:])
    down = (plane_YX[1:-1] == plane_YX[:-2]) & (plane_YX[1:-1] == plane_YX[2:])
    result[1:-1, 1:-1] = across[:-2] & across[1:-1] & across[2:] & down[:, 1:-1]
    return result


def thumbnail(grey_YX: np.ndarray) -> np.ndarray:
    """Return a small copy without slow changes, of mean 0 and length 1; all 0 where nothing is seen."""
    from scipy import ndimage

    height, width = grey_YX.shape
    rows = np.arange(THUMB) * height // THUMB
    columns = np.arange(THUMB) * width // THUMB
    plane = grey_YX.astype(np.float32)
    if height >= THUMB and width >= THUMB:
        sums = np.add.reduceat(np.add.reduceat(plane, rows, 0), columns, 1)
        counts = np.diff(np.append(rows, height))[:, None] * np.diff(np.append(columns, width))[None]
        small = sums / counts
    else:
        small = plane[rows][:, columns]
    small = small - ndimage.gaussian_filter(small, 4.0)
    small -= small.mean()
    length = float(np.linalg.norm(small))
    # Below this, what is left are rounding errors of an even slice.
    even = length <= 1e-5 * THUMB * max(1.0, float(np.abs(plane).max()))
    return np.zeros_like(small) if even else small / length


def finite(image: np.ndarray) -> np.ndarray:
    """Return `image` as numbers to calculate with: none too large, the lowest one for NaN and infinities."""
    if image.dtype.kind == "b":
        return image.astype(np.uint8)
    if image.dtype.kind in "iu":
        return image if image.dtype.itemsize < 8 else image.astype(np.float64).clip(-LARGE, LARGE)
    good = np.isfinite(image)
    if not good.all():
        image = np.where(good, image, image[good].min() if good.any() else 0)
    return image.clip(-LARGE, LARGE) if image.dtype.itemsize > 2 else image.astype(np.float32)


def _singles(indices_YX: np.ndarray, found: np.ndarray) -> dict[int, bool]:
    """Say of up to `MAX_OBJECTS` values above 0, evenly chosen, whether each is one connected part."""
    from scipy import ndimage

    positive = np.flatnonzero(found > 0)
    chosen = positive[np.linspace(0, len(positive) - 1, min(len(positive), MAX_OBJECTS)).astype(int)]
    boxes = ndimage.find_objects(indices_YX + 1)
    result = {}
    for at in chosen.tolist():
        part = indices_YX[boxes[at]] == at
        numbered, count = ndimage.label(part, np.ones((3, 3), bool))
        largest = int(np.bincount(numbered.ravel())[1:].max()) if count else 0
        result[at] = largest >= 0.95 * int(part.sum())
    return result
