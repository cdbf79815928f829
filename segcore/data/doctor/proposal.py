"""What the data doctor says: proposals with their repair, the table of class pixels, the histograms."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from segcore.card import Histogram
from segcore.config import DataConfig
from segcore.data.report import Finding
from segcore.data.splits import parse_slices

Kind = Literal[
    "swapped",
    "transposed",
    "colours",
    "soft-edges",
    "fractions",
    "values",
    "instances",
    "classes",
    "unannotated",
    "flipped",
    "shifted",
    "inverted",
    "duplicates",
    "leakage",
    "constant",
    "saturated",
    "depths",
    "exposures",
    "channels",
]
ORDER: tuple[Kind, ...] = Kind.__args__  # type: ignore[attr-defined]
"""In which repairs are made: what decides on the meaning of the files comes before what looks into them."""
_DROP = re.compile(r"(?P<item>\[.*\] )?slices\.drop (?P<slices>[\d,\s-]+)")


@dataclass(frozen=True)
class Picture:
    """A slice before and after a repair, as `(Y, X, 3)` uint8, with a caption each."""

    before: np.ndarray
    after: np.ndarray
    captions: tuple[str, str] = ("before", "after")


@dataclass(frozen=True)
class Proposal:
    """Something the doctor recognised, and what can be done about it.

    Parameters
    ----------
    kind : str
        What was recognised; a proposal is known by kind and recipe.
    finding : Finding
        In words: what, where, remedy.
    recipe : tuple of str
        Lines to add to `data.recipe`; may be empty.
    options : mapping
        Options of the data to change: `{"labels_as": "foreground"}`.
    optional : bool
        Training works without it as well: it is only made when somebody asks for it by name.
    confidence : float
        0 to 1: how far the evidence lies beyond the threshold.
    picture : callable, optional
        Draws a slice before and after; reads files, so it may raise DataError.
    """

    kind: Kind
    finding: Finding
    recipe: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    optional: bool = False
    confidence: float = 1.0
    picture: Callable[[], Picture] | None = None

    @property
    def repairs(self) -> bool:
        """Whether there is something to apply: other proposals only say what was seen."""
        return bool(self.recipe or self.options)

    @property
    def key(self) -> str:
        """Name of the proposal, the same whenever the same data is examined again."""
        changes = [*self.recipe, *(f"{name}={value}" for name, value in self.options.items())]
        return f"{self.kind}: {'; '.join(changes)}"


@dataclass(frozen=True)
class ClassRow:
    """Pixels of every class in one image."""

    name: str
    pixels: Mapping[int, int]
    """By label value."""
    slices: int
    """Slices that were counted, of all that the image has."""
    of: int

    @property
    def total(self) -> int:
        """Pixels counted."""
        return sum(self.pixels.values())


@dataclass(frozen=True)
class Normalized:
    """Grey values of one channel after a normalisation, over the sampled slices."""

    kind: str
    per: str
    """set or image: where the statistics come from."""
    channel: int
    histogram: Histogram


@dataclass(frozen=True)
class Diagnosis:
    """Everything the doctor has to say about a data set.

    Parameters
    ----------
    proposals : tuple of Proposal
        In the order in which repairs are made.
    rows : tuple of ClassRow
        Class pixels per image, by the labels as they are read now.
    weights : mapping
        Suggested class weights by kind, then by label value.
    raw : tuple of Histogram
        Grey values as they are, one per channel.
    normalized : tuple of Normalized
        Grey values after every normalisation.
    notes : tuple of str
        What was looked at, if not everything; whole sentences.
    """

    proposals: tuple[Proposal, ...] = ()
    rows: tuple[ClassRow, ...] = ()
    weights: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    raw: tuple[Histogram, ...] = ()
    normalized: tuple[Normalized, ...] = ()
    notes: tuple[str, ...] = ()

    def accepted_by_default(self) -> tuple[Proposal, ...]:
        """Return the proposals that training needs, as `--yes` applies them."""
        return tuple(item for item in self.proposals if item.repairs and not item.optional)


def accept(data: DataConfig, proposals: Sequence[Proposal]) -> DataConfig:
    """Return the options with the repairs of `proposals` added, in the order in which they must be made.

    Parameters
    ----------
    data : DataConfig
        It is not changed, and no file is.
    proposals : sequence of Proposal
        In any order; a line that is there already is not added again. Where slices of a single stack are left
        out, the options that name slices are counted anew.

    Raises
    ------
    ConfigError
        The options together are outside their rules.
    """
    chosen = sorted(proposals, key=lambda proposal: ORDER.index(proposal.kind))
    lines = list(data.recipe)
    dropped: dict[str, set[int]] = {}
    values: dict[str, Any] = {}
    for proposal in chosen:
        values.update(proposal.options)
        for line in proposal.recipe:
            drop = _DROP.fullmatch(line)
            if drop:  # together in one line, because every line counts the slices that the one before left
                dropped.setdefault(drop["item"] or "", set()).update(parse_slices(drop["slices"]))
            elif line not in lines:
                lines.append(line)
    lines += [f"{item}slices.drop {ranges(slices)}" for item, slices in dropped.items()]
    if dropped:
        values |= _renumbered(data, dropped.get("", set()))
    return DataConfig.model_validate({**data.model_dump(), **values, "recipe": lines})


def _renumbered(data: DataConfig, dropped: set[int]) -> dict[str, Any]:
    """Return the options that name slices as they must be when slices of a single stack are left out."""
    result: dict[str, Any] = {}
    for name in ("annotated_slices", "validation_slices", "test_slices"):
        text = getattr(data, name)
        kept = [slice_ for slice_ in parse_slices(text) if slice_ not in dropped] if text else []
        # What is proposed in the same breath counts the slices that are there before: it is proposed again.
        result[name] = ranges(at - sum(gone < at for gone in dropped) for at in kept) or None
    return result


def ranges(numbers: Iterable[int]) -> str:
    """Return slice numbers as options take them.

    Examples
    --------
    >>> ranges([3, 7, 8, 9, 12])
    '3,7-9,12'
    """
    parts: list[list[int]] = []
    for number in sorted(set(numbers)):
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)
