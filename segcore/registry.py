"""Names and what they build; an unknown name lists the known ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from segcore.errors import ConfigError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """A fixed mapping from name to builder that explains itself.

    Parameters
    ----------
    noun : str
        What the names stand for, in the user's words ("loss", "model family").
    entries : Mapping
        Name → builder.
    """

    def __init__(self, noun: str, entries: Mapping[str, T]) -> None:
        self.noun = noun
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> T:
        """Return the builder called `name`.

        Raises
        ------
        ConfigError
            There is no builder of this name; the message lists those there are.
        """
        if name not in self._entries:
            raise ConfigError(
                f"{name!r} is not a {self.noun}.", f"Known: {', '.join(sorted(self._entries))}."
            )
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
