"""Grey values after every normalisation, so that a person sees what each does before choosing one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segcore.data.doctor.proposal import Normalized
from segcore.data.histograms import histogram_of
from segcore.data.normalize import KINDS, apply_normalization, fit_normalization

VALUES = 2**13
"""Values kept of a plane and channel: enough for a curve."""


def thinned(plane_CYX: np.ndarray) -> np.ndarray:
    """Return evenly spread values of a plane as a small plane `(C, 1, n)`, to keep many planes in memory."""
    flat = plane_CYX.reshape(len(plane_CYX), 1, -1)
    # An odd step: a power of two would meet only a few columns of an image 512 or 1024 wide.
    return np.ascontiguousarray(flat[:, :, :: -(-flat.shape[2] // VALUES) | 1])


def normalized_histograms(
    images: Sequence[Sequence[np.ndarray]], kinds: Sequence[str] = KINDS
) -> tuple[Normalized, ...]:
    """Return how grey values are distributed after normalisations, with statistics of the set and per image.

    Parameters
    ----------
    images : sequence of sequences of ndarray
        Planes `(C, Y, X)` of every image, or parts of them; all with the same channels.
    kinds : sequence of str
        The normalisations.

    Raises
    ------
    DataError
        The number of channels differs.
    """
    planes = [plane for image in images for plane in image]
    if not planes:
        return ()
    common = np.result_type(*(plane.dtype for plane in planes))  # one histogram needs one type
    images = [[plane.astype(common) for plane in image] for image in images]
    planes = [plane for image in images for plane in image]
    result = []
    for kind in kinds:
        of_set = fit_normalization(planes, kind)
        found = {"set": [apply_normalization(plane, of_set) for plane in planes]}
        if kind != "none" and len(images) > 1:
            found["image"] = [
                apply_normalization(plane, own)
                for image in images
                if image
                for own in [fit_normalization(image, kind)]
                for plane in image
            ]
        for per, mapped in found.items():
            counted = histogram_of(mapped)
            result += [Normalized(kind, per, at, histogram) for at, histogram in enumerate(counted)]
    return tuple(result)
