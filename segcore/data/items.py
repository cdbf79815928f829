"""Items: which images a configuration means, and which labels and mask belong to each of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from segcore.config import DataConfig
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


@dataclass(frozen=True)
class Listing:
    """The items of a configuration, and what was noticed while they were listed: unpaired files and the like."""

    items: tuple[Item, ...]
    findings: tuple[Finding, ...] = ()


def list_items(data: DataConfig, labelled: bool = True) -> Listing:
    """Return the images of a configuration, in the natural order of their names.

    Parameters
    ----------
    data : DataConfig
        `images` must be set; with `labelled` also `labels`, and the sets count too.
    labelled : bool
        Whether labels are looked for.
    """
    images = tuple(part.strip() for part in (data.images or "").split(CHANNELS))
    item = Item(
        Path(images[0]).name, images, (data.labels or "") if labelled else "", (data.mask or "") if labelled else ""
    )
    return Listing((item,))
