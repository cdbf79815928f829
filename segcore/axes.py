"""Axis names: the letters T C Z Y X, how they are read from files, and how a shape is told to people."""

from __future__ import annotations

from collections.abc import Sequence

from segcore.errors import DataError

AXES = "TCZYX"
"""Time, channel, depth, row, column."""

COLOUR_NOTE = "colour samples are read as channels."
"""How the note about colours ends: no news where a model was trained on such."""
_REMEDY = "Give one letter per axis, for example ZYX, CYX or TZYX."


def parse_axes(axes: str, shape: Sequence[int]) -> str:
    """Return `axes` in capitals if it can name the axes of `shape`.

    Parameters
    ----------
    axes : str
        One letter of TCZYX per axis, any case, slowest axis first.
    shape : sequence of int
        Sizes of the axes.

    Raises
    ------
    DataError
        A letter is unknown or repeated, Y or X is missing, or the number of letters is not the number of
        axes.

    Examples
    --------
    >>> parse_axes("zyx", (30, 512, 512))
    'ZYX'
    """
    name = axes.strip().upper()
    unknown = sorted(set(name) - set(AXES))
    if unknown:
        raise DataError(f"Axes {name!r}: {', '.join(unknown)} is not one of {', '.join(AXES)}.", _REMEDY)
    if len(set(name)) != len(name):
        raise DataError(f"Axes {name!r}: every letter may stand only once.", _REMEDY)
    if not {"Y", "X"} <= set(name):
        raise DataError(f"Axes {name!r}: Y (rows) and X (columns) must be among them.", _REMEDY)
    if len(name) != len(shape):
        raise DataError(
            f"Axes {name!r} name {len(name)} axes, but the image has {len(shape)}: {sizes_text(shape)}.",
            _REMEDY,
        )
    return name


def canonical_axes(letters: str, shape: Sequence[int]) -> tuple[str, tuple[str, ...]]:
    """Return `letters`, as image formats use them, in the letters TCZYX, with a note for everything assumed.

    S (samples of a colour image) becomes C. Letters that say nothing to us (I and Q: "some axis") become Z,
    then T, from the innermost outwards, as far as these are free.

    Raises
    ------
    DataError
        The axes cannot be told apart, or Y or X is missing.

    Examples
    --------
    >>> canonical_axes("QYX", (30, 512, 512))[0]
    'ZYX'
    >>> canonical_axes("YXS", (512, 512, 3))[0]
    'YXC'
    """
    names = list(letters.upper())
    notes: list[str] = []
    if "S" in names and "C" not in names:
        names[names.index("S")] = "C"
        notes.append(f"The {shape[names.index('C')]} {COLOUR_NOTE}")
    for position in reversed(range(len(names))):
        if names[position] in AXES:
            continue
        free = [letter for letter in "ZT" if letter not in names]
        if not free:
            raise DataError(
                f"The axes of an image of {sizes_text(shape)} are not named in the file ({letters}).", _REMEDY
            )
        names[position] = free[0]
        meaning = {"Z": "Z (a stack of slices)", "T": "T (frames in time)"}[free[0]]
        notes.append(
            f"The file does not say what its axis of {shape[position]} is: read as {meaning}. "
            "If that is wrong, give the axes, for example CYX for channels."
        )
    return parse_axes("".join(names), shape), tuple(notes)


def sizes_text(shape: Sequence[int], axes: str = "") -> str:
    """Return a shape as people write it.

    Examples
    --------
    >>> sizes_text((30, 512, 512), "ZYX")
    '30 × 512 × 512, ZYX'
    """
    sizes = " × ".join(str(size) for size in shape)
    return f"{sizes}, {axes}" if axes else sizes
