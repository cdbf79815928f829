"""Naming: which label value an outline gets from its name, the same in all files of a data set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

UNNAMED = "unclassified"
"""The class of outlines without one, where others have one."""


@dataclass(frozen=True)
class NameTable:
    """Values of names: 1, 2, … in the order of the alphabet.

    Parameters
    ----------
    names : tuple of str
        Sorted, each once.
    """

    names: tuple[str, ...] = ()

    @classmethod
    def over(cls, names: Iterable[str]) -> NameTable:
        """Return the table of all these names."""
        return cls(tuple(sorted(set(names), key=lambda name: (name.casefold(), name))))

    def values(self) -> Mapping[str, int]:
        """Return the value of every name."""
        return {name: at + 1 for at, name in enumerate(self.names)}

    def legend(self) -> dict[int, str]:
        """Return the name of every value."""
        return {at + 1: name for at, name in enumerate(self.names)}


def classes_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return the class of every outline by its name, or () where names tell no classes.

    A number at the end of a name counts the objects of a class.

    Examples
    --------
    >>> classes_of(["nucleus-1", "nucleus-2", "Membrane"])
    ('nucleus', 'nucleus', 'Membrane')
    >>> classes_of(["0012-0034", "0013-0101"])
    ()
    """
    classes = tuple(name.strip().rstrip("0123456789").rstrip(" -_.#(") for name in names)
    if not all(any(letter.isalpha() for letter in name) for name in classes):
        return ()
    return classes
