"""Sides of a pairing: the files that one address means, as images, labels or masks."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from segcore.addresses import is_url, join_address, split_address
from segcore.data.found import Found, about, caught_by, is_one_image, search_folder, search_pattern
from segcore.data.items import CHANNELS
from segcore.data.pairing import Candidate
from segcore.data.report import Finding

_NNUNET = re.compile(r"(.+)(_\d{4})")
_ENDING = re.compile(r"(.+)([_\-. ](?=.*[A-Za-z])[A-Za-z0-9]+)")
_CHANNEL = re.compile(
    r"dapi|hoechst|[cegrybm]fp|mcherry|tdtomato|cy[2-7]|[ft]ritc|fitc|texas ?red|alexa\d*|draq5|sir|"
    r"bf|brightfield|dic|phase|ph|tl|trans|c\d+|ch\d+|chan\d+|channel\d+|w\d+|\d{3}nm|em\d+",
    re.IGNORECASE,
)
_MOST_CHANNELS = 8
"""More numbered files of one name are a series."""


@dataclass
class Side:
    """What one address means.

    Parameters
    ----------
    candidates : list of Candidate
        The files.
    findings : list of Finding
        What was noticed on the way.
    single : bool
        Whether the address means one image, not a folder of them.
    where : str
        The address in short.
    """

    candidates: list[Candidate] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    single: bool = False
    where: str = ""


def find_side(address: str, progress: Callable[[int], None] | None) -> Side:
    """Return the files that an address means.

    A folder and a pattern with stars mean many; everything else is one image, and nobody looks whether it is
    there.

    Parameters
    ----------
    address : str
        See `DataConfig.images`.
    progress : callable, optional
        Called now and then with the number of files found.
    """
    path = Path(address).expanduser()
    several = CHANNELS not in address and not is_url(address)
    if several and path.is_dir() and not is_one_image(path):
        search = search_folder(path, progress)
        candidates = [Candidate((file,), file.stem) for file in search.files]
        return Side(candidates, search.findings, where=path.name)
    if several and any(sign in address for sign in "*?[") and not path.exists():
        search = search_pattern(str(path), progress)
        candidates = [Candidate((file,), file.stem, caught_by(str(path), file.name)) for file in search.files]
        return Side(candidates, search.findings, where=address)
    parts = [part.strip() for part in address.split(CHANNELS) if part.strip()] or [address]
    files = tuple(Found(_name_of(part), part) for part in parts)
    return Side([Candidate(files, files[0].stem)], single=True, where=files[0].name)


def _name_of(address: str) -> str:
    file, inside = split_address(address.rstrip("/"))
    return join_address(PurePath(file).name, inside)


def guess_channels(images: Side, labels: Side) -> list[str]:
    """Return the endings of channel files as nnU-Net writes them, `x_0000` and `x_0001` beside labels `x`.

    Without such labels, or where an image lacks a channel, nothing is guessed.
    """
    stems = {candidate.stem for candidate in images.candidates}
    matches = [_NNUNET.fullmatch(stem) for stem in stems]
    if images.single or not matches or not all(matches):
        return []
    parts = {(match[1], match[2]) for match in matches if match}
    bases, endings = {base for base, _ in parts}, sorted({ending for _, ending in parts})
    drawn = {candidate.stem for candidate in labels.candidates}
    whole = len(parts) == len(bases) * len(endings) and len(endings) <= _MOST_CHANNELS
    return endings if whole and bases & drawn and not stems & drawn else []


def likely_channels(images: Side, certain: bool = False) -> list[str]:
    """Return the endings by which files of a folder look like channels of the same images, [] if they do not.

    Every image must have every ending, as `s0_DAPI`, `s0_GFP`, `s1_DAPI`, `s1_GFP` have.

    Parameters
    ----------
    images : Side
        Files that are read as an image each.
    certain : bool
        Only take endings that name a channel; others need at least two images.
    """
    matches = [_ENDING.fullmatch(candidate.stem) for candidate in images.candidates]
    if images.single or not matches or not all(matches):
        return []
    bases: dict[tuple[str, ...], set[str]] = {}
    for candidate, match in zip(images.candidates, matches, strict=True):
        if match:
            bases.setdefault((*candidate.files[0].folder, match[1]), set()).add(match[2])
    endings = set().union(*bases.values())
    whole = all(found == endings for found in bases.values()) and len(matches) == len(bases) * len(endings)
    known = all(_CHANNEL.fullmatch(ending[1:]) for ending in endings)
    if not (whole and 2 <= len(endings) <= _MOST_CHANNELS and (known or (len(bases) > 1 and not certain))):
        return []
    return sorted(endings)


def channel_remedy(endings: Sequence[str]) -> str:
    """Return what to do if these endings tell channels apart."""
    return f"If these are channels of the same images, set data.channel_suffixes to {','.join(endings)}."


def join_channels(images: Side, suffixes: Sequence[str]) -> list[Finding]:
    """Make one image of the files of its channels; return findings about files that are left out.

    Parameters
    ----------
    images : Side
        Files of one channel each; changed.
    suffixes : sequence of str
        What tells the channels apart, in their order; without any, every file is an image.
    """
    if not suffixes or images.single:
        return []
    groups: dict[tuple[str, ...], dict[str, Found]] = {}
    marks: dict[tuple[str, ...], tuple[str, ...] | None] = {}
    without: list[str] = []
    twice: list[str] = []
    longest = sorted(suffixes, key=len, reverse=True)
    for candidate in images.candidates:
        file = candidate.files[0]
        suffix = next((suffix for suffix in longest if file.stem.endswith(suffix)), None)
        if suffix is None:
            without.append(file.name)
        else:
            key = (*file.folder, file.stem[: -len(suffix)])
            files = groups.setdefault(key, {})
            twice += [file.name] if suffix in files else []
            files.setdefault(suffix, file)
            marks.setdefault(key, candidate.mark)
    whole = {key: files for key, files in groups.items() if len(files) == len(set(suffixes))}
    partly = [file.name for key, files in groups.items() if key not in whole for file in files.values()]
    names = ", ".join(suffixes)
    findings = [
        *about("warning", partly, f"Images without a file for each of {names} are left out", images.where,
               "Add the files of the other channels, or change data.channel_suffixes."),
        *about("warning", twice, "Second files of the same channel of an image are left out", images.where,
               "Rename or move them."),
        *about("warning", without, f"Files that end in none of {names} are left out", images.where,
               "Change data.channel_suffixes."),
    ]  # fmt: skip
    images.candidates = [
        Candidate(tuple(files[suffix] for suffix in suffixes), key[-1], marks[key])
        for key, files in whole.items()
    ]
    return findings
