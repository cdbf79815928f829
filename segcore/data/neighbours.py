"""Which slices a network sees to decide on one: it and its neighbours, mirrored at the ends of a stack."""

from __future__ import annotations


def neighbours(index: int, count: int, slices: int, spacing: int = 1) -> tuple[int, ...]:
    """Return the slices seen together with slice `index` of `count`, ascending, `index` in the middle.

    Parameters
    ----------
    index : int
        The slice to decide on.
    count : int
        Slices of the stack.
    slices : int
        How many are seen, odd.
    spacing : int
        Distance between two of them.

    Examples
    --------
    >>> neighbours(0, 10, 3), neighbours(5, 10, 3, spacing=2)
    ((1, 0, 1), (3, 5, 7))
    """
    reach = slices // 2
    return tuple(mirrored(index + step * spacing, count) for step in range(-reach, reach + 1))


def mirrored(index: int, count: int) -> int:
    """Reflect an index outside 0 … count-1 at the outermost slices, which are not repeated."""
    if count == 1:
        return 0
    period = 2 * count - 2
    index %= period
    return min(index, period - index)
