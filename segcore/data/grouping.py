"""Groups of images: what a pattern catches in their paths, and which of them a name with stars means."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import PurePosixPath

from segcore.errors import ConfigError

SHOWN = 8
"""So many names an error lists."""
LONGEST = 5.0
"""Seconds after which a pattern is given up; 100,000 names take a tenth of that."""


def group_names(names: Sequence[str], pattern: str | None) -> list[str]:
    r"""Return the group of every image; without a pattern every image is its own.

    Where the pattern has brackets, what they catch is the group, joined by dashes; otherwise all of it. An
    image whose path it does not match is a group of its own.

    Raises
    ------
    ConfigError
        The pattern is no regular expression, takes too long, or matches no path at all.

    Examples
    --------
    >>> group_names(["a/Pos109/x.tif", "a/Pos110/x.tif"], r"(Pos\d+)")
    ['Pos109', 'Pos110']
    """
    if not pattern:
        return list(names)
    found = _caught_of_all(tuple(names), pattern)
    if names and all(caught is None for caught in found):
        raise ConfigError(
            f"data.group_pattern {pattern!r} matches no image.",
            f"Fit it to the paths, which are: {listed(names)}.",
        )
    return [name if caught is None else caught for caught, name in zip(found, names, strict=True)]


def unmatched_notes(names: Sequence[str], pattern: str | None) -> list[str]:
    """Return what is to be said of images that a pattern does not match.

    Raises
    ------
    ConfigError
        See `group_names`.
    """
    found = _caught_of_all(tuple(names), pattern) if pattern else ()
    alone = [name for name, caught in zip(names, found, strict=bool(pattern)) if caught is None]
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


@lru_cache(maxsize=8)
def _caught_of_all(names: tuple[str, ...], pattern: str) -> tuple[str | None, ...]:
    """Return what a pattern catches in every name, None where it does not match.

    A backtracking pattern can take longer than anybody waits, and a thread cannot stop it: what might is
    tried in a process that can be ended, which costs its start of 50 ms.
    """
    try:
        expression = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise ConfigError(
            f"data.group_pattern {pattern!r} is no regular expression: {error}.",
            r"Write it like (Pos\d+), or put a backslash before signs that are meant as they are.",
        ) from None
    if not _may_hang(pattern):
        return tuple(_caught(match) if match else None for match in map(expression.search, names))
    command = [sys.executable, "-I", "-S", "-c", _APART]
    try:
        ended = subprocess.run(
            command,
            input=json.dumps([pattern, names]),
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=True,
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        raise ConfigError(
            f"data.group_pattern {pattern!r} was still being tried after {LONGEST:g} s, or needed too much "
            "memory: it has parts that can match the same letters in very many ways.",
            r"Repeat nothing that is repeated already, as in (a+)+, and prefer \d+ or [^/]+ to .*",
        ) from None
    return tuple(None if groups is None else _joined(*groups) for groups in json.loads(ended.stdout))


def _may_hang(pattern: str) -> bool:
    """Return whether a pattern repeats a bracket or several things: others are quick on any name."""
    plain = re.sub(r"\\.|\(\?", "", pattern)
    return bool(re.search(r"\)[*+?{]", plain)) or len(re.findall(r"[*+?{]", plain)) > 1


_APART = """
import json, re, sys
pattern, names = json.load(sys.stdin)
found = map(re.compile(pattern).search, names)
json.dump([match and [match.group(), match.groups()] for match in found], sys.stdout)
"""


def _caught(match: re.Match[str]) -> str:
    return _joined(match.group(), match.groups())


def _joined(whole: str, groups: Sequence[str | None]) -> str:
    caught = [part for part in groups if part]
    return "-".join(caught) if caught else whole
