"""What label values mean: colours in between, fractions, gaps, numbered objects, classes read as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from segcore.data.doctor.facts import LabelFacts
from segcore.data.doctor.proposal import Kind, Proposal
from segcore.data.manifest import ONE_CLASS
from segcore.data.report import Finding, Level

INNER = 0.1
"""A value of this share of inner pixels fills areas: somebody drew it. Of a smoothed edge hardly one is."""
SHARE = 0.003
"""A class drawn in areas that has less than this share of the pixels may as well be noise."""
MOST_CLASSES = 32
BETWEEN = 0.6
"""Smoothed edges cover less than this share of all pixels; JPEG changes whole blocks of 8 × 8 …"""
BETWEEN_COLOURS = 0.9
"""JPEG mixes colours in blocks of 16 × 16."""
OUTER = 0.03
"""… but hardly a pixel of such a value has eight neighbours of the same."""
ALONG = 0.2
"""They take this share of the pixels along borders at least; a speck with a value of its own does not."""
SEVERAL = 6
"""So many values, each in one piece, are objects with numbers; fewer may be classes with one object each."""
BINARIES = ([0, 1, 255], [0, 1, 65535])
"""Values of two kinds of binary masks in one set."""
UNANNOTATED = (255, 65535, 2**31 - 1)
"""Values that can stand for "nobody annotated", the first that is free."""
RIM = 4
"""Width of what is taken for background around an outlined object, px."""
IN_ONE_PIECE = 0.9
IN_PIECES = 0.6
FILLED = 0.02
"""Objects are areas: so many of their pixels are inner. Of grey values or noise none are."""


@dataclass(frozen=True)
class Values:
    """Label values of all slices that were looked at, added up.

    Parameters
    ----------
    pixels, inner : mapping
        Pixels of every value, and those whose eight neighbours have it, too.
    other : int
        Pixels of values that were not counted one by one, because there are too many.
    fractional : bool
        Some values are not whole numbers, or NaN.
    distinct : int
        Most values in one slice.
    pieces : float
        Of all values above 0 in all slices, the share that is in one piece; NaN where nobody looked.
    dtype : str
        Type of the labels.
    """

    pixels: Mapping[float, int]
    inner: Mapping[float, int]
    other: int
    fractional: bool
    distinct: int
    pieces: float
    dtype: str

    @property
    def total(self) -> int:
        """All pixels."""
        return sum(self.pixels.values()) + self.other

    @property
    def above(self) -> list[float]:
        """The values above 0."""
        return [value for value in self.pixels if value > 0]


def add_up(facts: Iterable[LabelFacts]) -> Values:
    """Add up the facts of slices."""
    pixels: dict[float, int] = {}
    inner: dict[float, int] = {}
    singles: list[bool] = []
    fractional, distinct, dtype, other = False, 0, "", 0
    for fact in facts:
        other += fact.other
        fractional |= fact.fractional
        distinct, dtype = max(distinct, fact.distinct), fact.dtype
        for value, known in fact.values.items():
            pixels[value] = pixels.get(value, 0) + known.pixels
            inner[value] = inner.get(value, 0) + known.inner
            if known.single is not None:
                singles.append(known.single)
    order = sorted(pixels)
    return Values(
        {value: pixels[value] for value in order},
        {value: inner[value] for value in order},
        other,
        fractional,
        distinct,
        float(np.mean(singles)) if singles else float("nan"),
        dtype,
    )


def drawn_values(values: Values, ordered: bool = True) -> list[float]:
    """Return the values somebody drew where the others lie along borders; none where that is not so.

    Smoothing and JPEG leave the areas as they were drawn and put other values along their borders. So there
    are few values with inner pixels, nearly all pixels have them, and of the other values hardly any pixel is
    inner. Of values with an order (grey values, not colours), the others lie between them.
    """
    least = SHARE * values.total
    drawn = [
        value
        for value, count in values.pixels.items()
        if count >= least and values.inner[value] >= INNER * count
    ]
    others = [value for value in values.pixels if value not in drawn]
    rest = sum(values.pixels[value] for value in others) + values.other
    if not 2 <= len(drawn) <= MOST_CLASSES or not rest:
        return []
    inner = sum(values.inner[value] for value in others)
    outside = [value for value in others if not drawn[0] <= value <= drawn[-1]]
    # Rare numbered objects are inner, too; resampling invents nothing beyond the values there are.
    beyond = sum(values.pixels[value] for value in outside)
    along = values.total - sum(values.inner.values())
    most = BETWEEN if ordered else BETWEEN_COLOURS
    if (
        not ALONG * along < rest < most * values.total
        or inner > OUTER * rest
        or (ordered and beyond > 0.5 * rest)
    ):
        return []
    return drawn


def judge_values(values: Values, labels_as: str, where: str, background: int | None = None) -> list[Proposal]:
    """Return what is to say about the values of labels.

    Parameters
    ----------
    values : Values
        Of all slices that were looked at.
    labels_as : str
        How they are read now.
    where : str
        Name of the file or folder.
    background : int, optional
        The value that says that nobody annotated.
    """
    if not values.total:
        return []
    drawn = drawn_values(values)
    if drawn:
        return [_soft(values, drawn, where)]
    if values.fractional:
        return _fractions(values, where)
    proposals = []
    if values.dtype.startswith("float"):
        what = f"The labels are stored as {values.dtype}; their values are whole and are read as integers."
        proposals.append(_say("fractions", "info", what, where, optional=True))
    classes = [value for value in values.pixels if value != background]
    if labels_as in ONE_CLASS:
        alone = [_surrounded(values, where)] if background == 0 and values.above else _classes(values, where)
        return proposals + alone
    instances = _instances(values, where, background)
    return proposals + (instances or _gaps(classes, where))


def _soft(values: Values, drawn: Sequence[float], where: str) -> Proposal:
    other = 1 - sum(values.pixels[value] for value in drawn) / values.total
    what = (
        f"{values.distinct - len(drawn)} label values lie only along borders ({other:.1%} of the pixels): "
        f"the labels were resampled, smoothed or saved as JPEG. {_listed(drawn)} seem to be the classes."
    )
    level: Level = "error" if values.fractional else "warning"
    if not all(float(value).is_integer() for value in drawn):
        remedy = "Export the labels again as whole numbers, without smoothing."
        return _say("soft-edges", level, what, where, remedy)
    recipe = (f"labels.nearest {' '.join(map(_text, drawn))}",)
    return _say("soft-edges", level, what, where, "Give every pixel the nearest of these values.", recipe)


def _fractions(values: Values, where: str) -> list[Proposal]:
    known = [value for value in values.pixels if np.isfinite(value)]
    near = {value: round(value) for value in known}
    infinite = any(np.isinf(value) for value in values.pixels)
    if values.distinct <= MOST_CLASSES and 0 < len(known) <= MOST_CLASSES and not infinite:
        if max(near.values()) > 0 and all(abs(value - whole) <= 0.05 for value, whole in near.items()):
            what = f"The label values are close to whole numbers, but not whole: {_listed(known)}."
            remedy = "Round them."
            return [_say("fractions", "error", what, where, remedy, ("labels.round",))]
        what = f"The label values have fractions: {_listed(known)}."
        remedy = "Number them from 0."
        return [_say("fractions", "error", what, where, remedy, (_numbering(known),))]
    what = f"The labels are {values.dtype} with fractions: they look like grey values or probabilities."
    remedy = "Choose the labels, or round probabilities to 0 and 1."
    inside = len(known) == len(values.pixels) and known[0] >= 0 and known[-1] <= 1
    recipe = ("labels.round",) if inside and values.distinct else ()
    return [_say("fractions", "error", what, where, remedy, recipe)]


def _instances(values: Values, where: str, background: int | None) -> list[Proposal]:
    above = values.above
    if len(above) < SEVERAL or not values.pieces >= IN_ONE_PIECE:
        return []
    inner = sum(values.inner[value] for value in above)
    if inner < FILLED * sum(values.pixels[value] for value in above):
        return []
    many = len(above) > 20
    what = (
        f"The labels hold {len(above)} values above 0, each in one piece: they look like objects with a "
        "number each, not like classes."
    )
    if background == 0:  # then one class would be all there is
        return [_surrounded(values, where)]
    remedy = (
        "Read all values above 0 as one class, unless every number is a class of its own; or read them as "
        "objects, to learn each by itself."
    )
    change = {"labels_as": "foreground"}
    level: Level = "warning" if many else "info"
    return [
        Proposal(
            "instances", Finding(level=level, what=what, where=where, remedy=remedy), options=change,
            optional=not many, confidence=min(1.0, len(above) / 20) * values.pieces,
        )
    ]  # fmt: skip


def _surrounded(values: Values, where: str) -> Proposal:
    """Propose background where it is certain: close around the objects that somebody outlined."""
    free = next(value for value in UNANNOTATED if value not in values.pixels)
    what = (
        f"{len(values.above)} objects are annotated and no background: 0 means that nobody annotated. A "
        "network needs two classes at least."
    )
    remedy = (
        f"Take a rim of {RIM} px around every object for background, as its outline says that it ends there, "
        "and read all objects as one class. Rims that reach into objects nobody outlined are wrong: choose a "
        "smaller one where they lie close."
    )
    change = {"labels_as": "foreground", "unlabelled_value": free}
    finding = Finding(level="warning", what=what, where=where, remedy=remedy)
    return Proposal("instances", finding, (f"labels.surround {RIM} {free}",), options=change)


def _classes(values: Values, where: str) -> list[Proposal]:
    """Say that classes are read as one; that touching objects of one class melt together cannot be seen."""
    above = values.above
    if not 2 <= len(above) < SEVERAL or not values.pieces <= 1 - IN_PIECES:
        return []
    what = (
        f"The labels are read as one class, but hold the values {_listed(above)}, each in many pieces: they "
        "look like classes, not like objects with a number each."
    )
    remedy = "Read every value as a class, if they mean different things."
    finding = Finding(level="info", what=what, where=where, remedy=remedy)
    change = {"labels_as": "classes"}
    return [Proposal("classes", finding, options=change, optional=True, confidence=1 - values.pieces)]


def _gaps(classes: Sequence[float], where: str) -> list[Proposal]:
    if not 2 <= len(classes) <= MOST_CLASSES or classes[-1] - classes[0] == len(classes) - 1:
        return []
    if classes in BINARIES:
        last = int(classes[-1])
        recipe = (f"labels.values {last}=1",)
        what = f"Some labels are 0 and 1, others 0 and {last}: read as they are, these are three classes."
        return [_say("values", "warning", what, where, "Make them the same.", recipe)]
    if classes == [0, 255]:
        what = "The labels are 0 and 255, as binary images are saved; they are read as two classes."
    else:
        number = len(classes) - 1
        what = f"The label values {_listed(classes)} have gaps; they are read as classes 0 to {number}."
    remedy = "Nothing needs to be done. Numbered anew, segmentations are written with the new values, too."
    return [_say("values", "info", what, where, remedy, (_numbering(classes),), optional=True)]


def _numbering(values: Sequence[float]) -> str:
    exact = [np.format_float_positional(value, trim="-") for value in values]
    return "labels.values " + " ".join(f"{value}={number}" for number, value in enumerate(exact))


def _say(
    kind: Kind,
    level: Level,
    what: str,
    where: str,
    remedy: str = "",
    recipe: tuple[str, ...] = (),
    optional: bool = False,
) -> Proposal:
    finding = Finding(level=level, what=what, where=where, remedy=remedy)
    return Proposal(kind, finding, recipe, optional=optional)


def _listed(values: Sequence[float]) -> str:
    return ", ".join(map(_text, values[:10])) + (", …" if len(values) > 10 else "")


def _text(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.6g}"
