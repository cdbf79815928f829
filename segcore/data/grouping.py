"""Groups of images: what a pattern catches in their paths, and which of them a name with stars means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

from segcore.errors import ConfigError

SHOWN = 8
"""So many names an error lists."""


def group_names(names: Sequence[str], pattern: str | None) -> list[str]:
    r"""Return the group of every image; without a pattern every image is its own.

    Where the pattern has brackets, what they catch is the group, joined by dashes; otherwise all of it. An
    image whose path it does not match is a group of its own.

    Raises
    ------
    ConfigError
        The pattern is no regular expression, or matches no path at all.

    Examples
    --------
    >>> group_names(["a/Pos109/x.tif", "a/Pos110/x.tif"], r"(Pos\d+)")
    ['Pos109', 'Pos110']
    """
    if not pattern:
        return list(names)
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"data.group_pattern {pattern!r} is no regular expression: {error}.",
            r"Write it like (Pos\d+), or put a backslash before signs that are meant as they are.",
        ) from None
    found = [expression.search(name) for name in names]
    if names and not any(found):
        raise ConfigError(
            f"data.group_pattern {pattern!r} matches no image.",
            f"Fit it to the paths, which are: {listed(names)}.",
        )
    return [_caught(match) if match else name for match, name in zip(found, names, strict=True)]


def unmatched_notes(names: Sequence[str], pattern: str | None) -> list[str]:
    """Return what is to be said of images that a pattern, which is a regular expression, does not match."""
    alone = [name for name in names if not re.search(pattern, name)] if pattern else []
    if not alone:
        return []
    return [
        f"data.group_pattern {pattern!r} does not match {len(alone)} of {len(names)} images, each of which "
        f"is a group of its own: {listed(alone)}."
    ]


def named_images(
    names: Sequence[str], groups: Sequence[str], patterns: Sequence[str], option: str
) -> set[int]:
    """Return the numbers of the images whose group, path, file name, stem or folder one of `patterns` means.

    Raises
    ------
    ConfigError
        A pattern means none of them; `option` is named, and what there is.
    """
    chosen: set[int] = set()
    known_as = [_names_of(name, group) for name, group in zip(names, groups, strict=True)] if patterns else []
    for pattern in (part.strip() for text in patterns for part in text.split(",")):
        if not pattern:
            continue
        hits = {
            number
            for number, texts in enumerate(known_as)
            if any(fnmatchcase(text, pattern) for text in texts)
        }
        if not hits:
            known = f"Groups are {listed(sorted(set(groups)))}" if set(groups) != set(names) else ""
            raise ConfigError(
                f"{option} {pattern!r} means no group and no image.",
                f"{known}{'; images' if known else 'Images'} are {listed(names)}.",
            )
        chosen |= hits
    return chosen


def listed(names: Sequence[str]) -> str:
    """Return some names for a sentence, and how many more there are."""
    unique = list(dict.fromkeys(names))
    more = len(unique) - SHOWN
    return ", ".join(unique[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _names_of(name: str, group: str) -> tuple[str, ...]:
    path = PurePosixPath(name)
    return group, name, path.name, path.stem, *map(str, path.parents)


def _caught(match: re.Match[str]) -> str:
    caught = [part for part in match.groups() if part]
    return "-".join(caught) if caught else match.group()
