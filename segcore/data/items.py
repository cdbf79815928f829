"""Items: which images a configuration means, and which labels and mask belong to each of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from segcore.config import DataConfig
from segcore.data.found import about
from segcore.data.report import Finding

Use = Literal["train", "validation", "test", "split"]
CHANNELS = ";"
"""Stands between files that hold one channel each of the same image."""


@dataclass(frozen=True)
class Item:
    """One image of a data set and what belongs to it, as addresses: nothing is opened yet.

    Parameters
    ----------
    name : str
        For people and for groups: its path below what was chosen; unique in the data set.
    images : tuple of str
        The file, or one file per channel.
    labels, mask : str
        Its labels and its annotated part, "" where there is none.
    use : str
        What its set is for; "split" is divided like the others.
    """

    name: str
    images: tuple[str, ...]
    labels: str = ""
    mask: str = ""
    use: Use = "split"

    @property
    def addresses(self) -> tuple[str, ...]:
        """Everything that belongs to it."""
        return tuple(address for address in (*self.images, self.labels, self.mask) if address)


@dataclass(frozen=True)
class Listing:
    """The items of a configuration, and what was noticed on the way: unpaired files and the like."""

    items: tuple[Item, ...]
    findings: tuple[Finding, ...] = ()


def list_items(
    data: DataConfig, labelled: bool = True, progress: Callable[[int], None] | None = None
) -> Listing:
    """Return the images of a configuration, in the natural order of their names.

    An image without labels, labels without an image and files that could belong to several others are no
    items; findings name them. There is always an item, or a finding of level "error".

    Parameters
    ----------
    data : DataConfig
        `images` must be set; with `labelled` the sets count too. Where `labels` is missing, or the same
        folder as `images`, the names of the files tell images and labels apart.
    labelled : bool
        Whether labels are looked for.
    progress : callable, optional
        Called now and then with the number of files found in a folder.
    """
    from segcore.data.listing import Places, list_set

    places = [Places(data.images or "", data.labels or "", data.mask or "", "split")]
    if labelled:
        # Sets that are taught are in no part of the data: see segcore.training.teaching.
        places += [
            Places(one.images, one.labels, one.mask or "", one.use) for one in data.sets if one.use != "teach"
        ]
    listings = [list_set(place, data, labelled, progress) for place in places]
    findings = [finding for listing in listings for finding in listing.findings]
    items = [item for listing in listings for item in listing.items]
    if len(places) > 1:
        prefixes = _distinct([place.images for place in places])
        items = [
            replace(item, name=prefix if prefix.endswith(item.name) else f"{prefix}/{item.name}")
            for prefix, listing in zip(prefixes, listings, strict=True)
            for item in listing.items
        ]
        findings += _in_several_sets(items)
    return Listing(tuple(_unique(items)), tuple(findings))


def _distinct(texts: Sequence[str]) -> list[str]:
    """Return the ends of some paths, all as short as tells them apart."""
    parts = [Path(text.split(CHANNELS)[0].strip()).parts for text in texts]
    for length in range(1, max(map(len, parts)) + 1):
        ends = ["/".join(part[-length:]) for part in parts]
        if len(set(ends)) == len(ends):
            return ends
    return [f"{end} ({number})" for number, end in enumerate(ends, 1)]


def _unique(items: Sequence[Item]) -> list[Item]:
    """Return the items with a number behind names that occur more than once."""
    counts = Counter(item.name for item in items)
    seen: Counter[str] = Counter()
    unique = []
    for item in items:
        name = item.name
        while counts[name] > 1 or (name != item.name and name in counts):
            seen[item.name] += 1
            name = f"{item.name} ({seen[item.name]})"
        unique.append(item if name == item.name else replace(item, name=name))
    return unique


def _in_several_sets(items: Sequence[Item]) -> list[Finding]:
    uses: dict[tuple[str, ...], set[Use]] = {}
    counts = Counter(item.images for item in items)
    for item in items:
        uses.setdefault(item.images, set()).add(item.use)
    twice = [", ".join(images) for images, count in counts.items() if count > 1 and len(uses[images]) == 1]
    apart = [", ".join(images) for images in counts if len(uses[images]) > 1]
    return [
        *about(
            "warning", twice, "Images that are in several sets count twice", "data.sets", "Name them once."
        ),
        *about(
            "error",
            apart,
            "Images are in sets of different use, so that the network would be tested on what it learned",
            "data.sets",
            "Name every image in one set only.",
        ),
    ]
