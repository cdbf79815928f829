"""Recipe: the repairs of a data set as lines of text, and how they are made on reading.

    labels.values 0=0 255=1       a value becomes another; values that are not named stay
    labels.round                  fractions become whole numbers
    labels.nearest 0 128 255      every value becomes the nearest of these
    labels.colours ff0000=1 …     a colour becomes a value; other colours that of the nearest
    labels.objects                connected pixels of one value become numbered objects
    labels.surround WIDTH VALUE   around objects a rim of background; other zeros become VALUE: not annotated
    labels.borders WIDTH          numbered objects become 1, their borders 2
    labels.shift ROWS COLUMNS     everything moves down and right
    labels.flip Y | X             upside down, or left for right
    labels.transpose              rows and columns are exchanged
    images.invert                 dark becomes bright
    images.depth TYPE             one type for all: uint8, uint16 or float32
    pair.swap                     images and labels are exchanged
    pair.crop ROWS COLUMNS        only the middle of every image and its labels is read; two more numbers:
                                  from this row and column on
    slices.drop 3,7-9             slices are left out, counted from 0 among those the lines above left

In front of a line `[NAME]` says of which image alone it speaks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from segcore.data.colours import ColourLabels, ColourTable
from segcore.data.extents import parse_slices
from segcore.data.regrade import DEPTHS, inverted, mapped, nearest, rounded, with_depth
from segcore.data.repairs import Cropped, Flipped, Kept, Moved, Numbered, Transposed
from segcore.data.rims import Borders, Surrounded
from segcore.data.source import ImageSource
from segcore.errors import ConfigError, DataError

_LINE = re.compile(r"(?:\[(?P<item>.*)\]\s+)?(?P<verb>[a-z]+\.[a-z]+)(?:\s+(?P<rest>.*))?")
_NUMBER = r"-?\d+(\.\d+)?"


@dataclass(frozen=True)
class Step:
    """One repair.

    Parameters
    ----------
    verb : str
        What is done, as in `labels.flip`.
    arguments : tuple of str
        With what.
    item : str
        Name of the only image it is for; "" for all.
    """

    verb: str
    arguments: tuple[str, ...] = ()
    item: str = ""

    @property
    def text(self) -> str:
        """The line of the recipe."""
        front = (f"[{self.item}]",) if self.item else ()
        return " ".join((*front, self.verb, *self.arguments))

    @property
    def swaps(self) -> bool:
        """Whether images and labels are exchanged, which is done when files are opened."""
        return self.verb == "pair.swap"

    def concerns(self, item: str) -> bool:
        """Return whether the step is for this image."""
        return self.item in ("", item)

    def describe(self) -> str:
        """Return what is done as a sentence."""
        sentence = _VERBS[self.verb].sentence.format(*self.arguments, all=", ".join(self.arguments))
        return f"{self.item}: {sentence}" if self.item else sentence

    def inverse(self) -> Step | None:
        """Return the step that undoes this one, None where something is lost.

        `labels.values` can be undone as long as no value that is not named equals a new one.
        """
        if self.verb == "labels.values":
            pairs = [argument.split("=") for argument in self.arguments]
            if len({new for _, new in pairs}) < len(pairs):
                return None
            return replace(self, arguments=tuple(f"{new}={old}" for old, new in pairs))
        if self.verb in ("labels.flip", "labels.transpose", "images.invert", "pair.swap"):
            return self
        return None


@dataclass(frozen=True)
class _Verb:
    """What may stand behind a verb, and what it means."""

    arguments: str
    """Pattern of the arguments, separated by one space."""
    rule: str
    sentence: str


_VERBS = {
    "labels.values": _Verb(
        rf"({_NUMBER}=-?\d+)( {_NUMBER}=-?\d+)*", "OLD=NEW …", "Label values are changed: {all}."
    ),
    "labels.round": _Verb("", "nothing", "Label values are rounded to whole numbers; NaN counts as 0."),
    "labels.nearest": _Verb(
        r"-?\d+( -?\d+)*", "whole numbers", "Every label value becomes the nearest of {all}."
    ),
    "labels.colours": _Verb(
        r"[0-9a-f]{6}=\d+( [0-9a-f]{6}=\d+)*",
        "RRGGBB=VALUE …",
        "Colours become label values: {all}; other colours count as the nearest of these.",
    ),
    "labels.objects": _Verb("", "nothing", "Connected pixels of one label value become numbered objects."),
    "labels.surround": _Verb(
        r"[1-9]\d{0,2} -?\d+",
        "WIDTH VALUE",
        "A rim of {0} px around every object is background; all other pixels that are 0 become {1}.",
    ),
    "labels.borders": _Verb(
        r"[1-9]\d{0,2}", "WIDTH", "Objects become 1, their borders, {0} px wide, become 2."
    ),
    "labels.shift": _Verb(
        r"-?\d{1,6} -?\d{1,6}", "ROWS COLUMNS", "Labels are moved by {0} rows (down) and {1} columns (right)."
    ),
    "labels.flip": _Verb("[YX]", "Y or X", "Labels are mirrored along {0}."),
    "labels.transpose": _Verb("", "nothing", "Rows and columns of the labels are exchanged."),
    "images.invert": _Verb("", "nothing", "Grey values are inverted: dark becomes bright."),
    "images.depth": _Verb(
        "|".join(DEPTHS), " or ".join(DEPTHS), "Grey values become {0}, each type over its whole range."
    ),
    "pair.swap": _Verb("", "nothing", "Images and labels are exchanged."),
    "pair.crop": _Verb(
        r"[1-9]\d{0,6} [1-9]\d{0,6}( \d{1,7} \d{1,7})?",
        "ROWS COLUMNS, and if need be ROW COLUMN",
        "Only a part of {0} × {1} px of every image is read.",
    ),
    "slices.drop": _Verb(
        r"\d+(-\d+)?(,\d+(-\d+)?)*", "slices like 3,7-9", "Slices {0} are left out (counted from 0)."
    ),
}


def parse_recipe(lines: Sequence[str]) -> tuple[Step, ...]:
    """Return the steps of a recipe; empty lines are left out.

    Raises
    ------
    ConfigError
        Lines are no repairs: all of them at once.
    """
    steps, problems = [], []
    for number, line in enumerate(lines, 1):
        try:
            steps += [_parse_line(line)] if line.strip() else []
        except ValueError as error:
            problems.append(f"line {number}, {line.strip()!r}: {error}")
    if problems:
        raise ConfigError(f"data.recipe: {'; '.join(problems)}.", "Correct these lines or leave them out.")
    return tuple(steps)


def _parse_line(line: str) -> Step:
    found = _LINE.fullmatch(line.strip())
    if not found or found["verb"] not in _VERBS:
        raise ValueError(f"no such repair; there are {', '.join(_VERBS)}")
    verb = _VERBS[found["verb"]]
    rest = found["rest"] or ""
    if found["verb"] == "slices.drop":
        rest = re.sub(r"\s", "", rest)
    rest = " ".join(rest.lower().split() if found["verb"] == "labels.colours" else rest.split())
    if not re.fullmatch(verb.arguments, rest):
        raise ValueError(f"behind {found['verb']} stands {verb.rule}")
    step = Step(found["verb"], tuple(rest.split()), found["item"] or "")
    names = [argument.split("=")[0] for argument in step.arguments]
    if "=" in rest and len(set(names)) < len(names):
        raise ValueError("a value is named twice")
    if step.verb == "slices.drop":
        try:
            parse_slices(rest)
        except ConfigError as error:
            raise ValueError(error.message.rstrip(".")) from error
    return step


def swapped(steps: Sequence[Step], item: str = "") -> bool:
    """Return whether a recipe exchanges an image and its labels: an odd number of times, that is."""
    return sum(step.swaps and step.concerns(item) for step in steps) % 2 == 1


def repair_images(source: ImageSource, steps: Sequence[Step], item: str = "") -> ImageSource:
    """Return an image as the recipe says.

    Parameters
    ----------
    source : ImageSource
        The image.
    steps : sequence of Step
        The recipe; repairs of labels are passed over.
    item : str
        Name of the image.

    Raises
    ------
    DataError
        A slice that is to be left out is not there.
    """
    return _repair(source, steps, item, ("images", "slices", "pair"), 0)


def repair_labels(
    source: ImageSource, steps: Sequence[Step], item: str = "", unlabelled: int = 0
) -> ImageSource:
    """Return labels as the recipe says.

    Parameters
    ----------
    source : ImageSource
        The labels.
    steps : sequence of Step
        The recipe; repairs of images are passed over.
    item : str
        Name of the image they belong to.
    unlabelled : int
        What comes in at the border where labels are moved.

    Raises
    ------
    DataError
        Colours are to be changed where there are none, or a slice that is to be left out is not there.
    """
    return _repair(source, steps, item, ("labels", "slices", "pair"), unlabelled)


def repair_mask(
    source: ImageSource, steps: Sequence[Step], item: str = "", with_labels: bool = False
) -> ImageSource:
    """Return a mask as the recipe says: without the slices and the rows and columns that are left out.

    Parameters
    ----------
    source : ImageSource
        Above 0 where annotated.
    steps : sequence of Step
        The recipe.
    item : str
        Name of the image it belongs to.
    with_labels : bool
        The mask comes from the label file (`labels.annotated_part`) and lies where its labels lie: it is
        moved, flipped and transposed with them.

    Raises
    ------
    DataError
        A slice that is to be left out is not there.
    """
    geometry = ("labels.shift", "labels.flip", "labels.transpose")
    cuts = ("slices.drop", "pair.crop", *(geometry if with_labels else ()))
    chosen = [step for step in steps if step.verb in cuts]
    return _repair(source, chosen, item, ("labels", "slices", "pair"), 0)


def _repair(
    source: ImageSource, steps: Sequence[Step], item: str, kinds: tuple[str, ...], unlabelled: int
) -> ImageSource:
    for step in steps:
        if step.concerns(item) and step.verb.split(".")[0] in kinds and not step.swaps:
            source = _repaired(source, step, unlabelled)
    return source


def _repaired(source: ImageSource, step: Step, unlabelled: int) -> ImageSource:
    if step.verb == "labels.shift":
        rows, columns = (int(argument) for argument in step.arguments)
        return Moved(source, step.describe(), rows, columns, unlabelled)
    return _MAKERS[step.verb](source, step)


def _recoloured(source: ImageSource, step: Step) -> ImageSource:
    if not isinstance(source, ColourLabels):
        raise DataError(
            f"{source.path.name} is no mask in colours: {step.text} has nothing to change.",
            f"Say for which file it is meant, as in [NAME] {step.verb} …, and let it be the first repair.",
        )
    pairs = (argument.split("=") for argument in step.arguments)
    return ColourLabels(
        source.source, ColourTable({int(colour, 16): int(value) for colour, value in pairs}, nearest=True)
    )


def _cropped(source: ImageSource, step: Step) -> ImageSource:
    numbers = [int(argument) for argument in step.arguments]
    return Cropped(source, step.describe(), numbers[:2], numbers[2:])


def _pairs(step: Step) -> dict[float, int]:
    return {float(old): int(new) for old, new in (argument.split("=") for argument in step.arguments)}


_MAKERS: dict[str, Callable[[ImageSource, Step], ImageSource]] = {
    "labels.values": lambda source, step: mapped(source, step.describe(), _pairs(step)),
    "labels.round": lambda source, step: rounded(source, step.describe()),
    "labels.nearest": lambda source, step: nearest(
        source, step.describe(), [int(argument) for argument in step.arguments]
    ),
    "labels.colours": _recoloured,
    "labels.objects": lambda source, step: Numbered(source, step.describe()),
    "labels.surround": lambda source, step: Surrounded(
        source, step.describe(), *(int(argument) for argument in step.arguments)
    ),
    "labels.borders": lambda source, step: Borders(source, step.describe(), int(step.arguments[0])),
    "labels.flip": lambda source, step: Flipped(source, step.describe(), step.arguments[0]),
    "labels.transpose": lambda source, step: Transposed(source, step.describe()),
    "images.invert": lambda source, step: inverted(source, step.describe()),
    "images.depth": lambda source, step: with_depth(source, step.describe(), step.arguments[0]),
    "pair.crop": _cropped,
    "slices.drop": lambda source, step: Kept(source, step.describe(), parse_slices(step.arguments[0])),
}
