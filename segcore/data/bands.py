"""Bands: which rows of a single slice validate where its annotation is sparse."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MOST_STEPS = 64
"""Borders that are tried."""


def choose_rows(
    row_counts: Sequence[Sequence[int]], usual: tuple[int, int], fraction: float, step: int
) -> tuple[int, int]:
    """Return first and last row (exclusive) of the part that validates.

    The usual rows, if both sides then show every class. Otherwise the band that comes closest to showing the
    wanted share of the pixels of every class, and every class on both sides if there is such a band.

    Parameters
    ----------
    row_counts : sequence
        Annotated pixels of every class in each row; empty if nobody looked.
    usual : tuple of int
        The last rows that may be used.
    fraction : float
        Wanted share.
    step : int
        Bands begin and end at a multiple of so many rows.

    Examples
    --------
    >>> rows = [(0, 0)] * 32 + [(5, 5)] * 32 + [(0, 0)] * 64
    >>> choose_rows(rows, (112, 128), 0.25, 16)
    (32, 48)
    """
    if not len(row_counts):
        return usual
    below = np.concatenate([np.zeros((1, len(row_counts[0])), np.int64), np.cumsum(row_counts, axis=0)])
    total_K = below[usual[1]]
    below, total_K = below[:, total_K > 0], total_K[total_K > 0]

    def sides(band: tuple[int, int]) -> tuple[int, float]:
        """Return on how many sides classes are missing, and how far the shares are from what is wanted."""
        share_K = (below[band[1]] - below[band[0]]) / total_K
        missing = np.count_nonzero(share_K == 0) + np.count_nonzero(share_K == 1)
        return int(missing), float(np.abs(share_K - fraction).mean())

    if not total_K.size or sides(usual)[0] == 0:
        return usual
    wide = step * max(1, -(-usual[1] // (step * MOST_STEPS)))
    borders = [*range(0, usual[1], wide), usual[1]]
    bands = [
        (start, stop)
        for number, start in enumerate(borders)
        for stop in borders[number + 1 :]
        if stop - start < usual[1]
    ]
    return min(bands, key=lambda band: (*sides(band), band[1] - band[0]))
