"""Objects as a few values, so that a picture shows each in a colour that those around it do not have."""

from __future__ import annotations

import numpy as np

COLOURS = 8
"""Values that objects get, from 1; 0 is background."""
_CELL = 24
"""An object that moves by less than this, px, mostly keeps its value."""


def coloured(labels_YX: np.ndarray) -> np.ndarray:
    """Return numbers of objects as values 1 … COLOURS; 0 and negative values stay as they are.

    Objects that touch get different values, unless one touches more than `COLOURS` others. The value follows
    from where an object lies, not from its number: the same object looks alike in pictures of several epochs.

    Parameters
    ----------
    labels_YX : np.ndarray
        Whole numbers.

    Returns
    -------
    np.ndarray
        int16.

    Examples
    --------
    >>> coloured(np.array([[-1, 0, 70000, 70000, 5, 0, 5]])).tolist()
    [[-1, 0, 2, 2, 1, 0, 1]]
    """
    above_YX = labels_YX > 0
    values_YX = np.where(above_YX, 0, labels_YX).astype(np.int16)
    _, number_N = np.unique(labels_YX[above_YX], return_inverse=True)
    if not len(number_N):
        return values_YX
    size_K = np.bincount(number_N)
    cells = [np.bincount(number_N, at) / size_K // _CELL for at in np.nonzero(above_YX)]
    wished_K = (3 * cells[0] + cells[1]).astype(int) % COLOURS + 1
    numbers_YX = np.zeros(labels_YX.shape, np.int64)
    numbers_YX[above_YX] = number_N + 1
    beside = _touching(numbers_YX)
    value_K = [0] * len(size_K)
    for number, wished in enumerate(wished_K.tolist()):
        taken = {value_K[other] for other in beside.get(number, ())}
        order = ((wished + step - 1) % COLOURS + 1 for step in range(COLOURS))
        value_K[number] = next((value for value in order if value not in taken), wished)
    values_YX[above_YX] = np.array(value_K)[number_N]
    return values_YX


def _touching(numbers_YX: np.ndarray) -> dict[int, list[int]]:
    """Return which objects touch which, also at corners; of numbers from 1 those from 0."""
    found = []
    for ahead, behind in (
        (numbers_YX[:, 1:], numbers_YX[:, :-1]),
        (numbers_YX[1:], numbers_YX[:-1]),
        (numbers_YX[1:, 1:], numbers_YX[:-1, :-1]),
        (numbers_YX[1:, :-1], numbers_YX[:-1, 1:]),
    ):
        both = (ahead != behind) & (ahead > 0) & (behind > 0)
        found += [np.stack([ahead[both], behind[both]], 1), np.stack([behind[both], ahead[both]], 1)]
    beside: dict[int, list[int]] = {}
    for one, other in (np.unique(np.concatenate(found), axis=0) - 1).tolist():
        beside.setdefault(one, []).append(other)
    return beside
