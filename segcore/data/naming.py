"""Naming: which label value an outline gets from its name, the same in all files of a data set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from segcore.errors import DataError

UNNAMED = "unclassified"
"""The class of outlines without one, where others have one."""
MOST_CLASSES = 32
_MADE_UP = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
"""A UUID, as roifile gives to ROIs without a name."""


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

    def values(self, path: Path, names: Sequence[str]) -> list[int]:
        """Return the values of the outlines in a file by their names.

        Raises
        ------
        DataError
            A name is not in the table: the file has changed since it was made.
        """
        known = {name: at + 1 for at, name in enumerate(self.names)}
        strange = next((name for name in names if name not in known), None)
        if strange is not None:
            raise DataError(
                f"{path} has the class {strange!r}, which is not among {', '.join(self.names)}.",
                "Check the data again; the file has changed.",
            )
        return [known[name] for name in names]

    def legend(self) -> dict[int, str]:
        """Return the name of every value."""
        return {at + 1: name for at, name in enumerate(self.names)}


def classes_of(names: Sequence[str]) -> tuple[str, ...]:
    """Return the class of every outline by its name, or () where names tell no classes.

    A number at the end of a name counts the objects of a class. Names that programs make up, and more than
    anybody's classes, are numbers of objects.

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
    if len(set(classes)) > MOST_CLASSES or any(_MADE_UP.fullmatch(name.strip()) for name in names):
        return ()
    return classes
