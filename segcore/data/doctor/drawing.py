"""Pictures of a slice with its labels, before and after a repair."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from segcore.config import DataConfig
from segcore.data.doctor.alignment import border_map
from segcore.data.doctor.facts import finite
from segcore.data.doctor.proposal import Picture, Proposal, accept
from segcore.data.doctor.survey import Seen, Survey, middle
from segcore.data.items import Item
from segcore.data.opening import Opened, open_item
from segcore.data.recipe import parse_recipe
from segcore.errors import SegcoreError

LONGEST = 512
"""Side of a picture; larger slices are thinned out."""
GOLDEN = 0.618034
"""Of a turn of the colour wheel between two label values: neighbours never look alike."""
_LABELS = ("swapped", "transposed", "colours", "soft-edges", "fractions", "values", "instances", "classes")
_UNSEEN = ("values", "unannotated", "depths", "exposures", "channels")
"""Repairs that change nothing one sees, because every slice is shown from its darkest to its brightest."""


@dataclass(frozen=True)
class Painter:
    """Draws what a proposal does to a slice; reads the files again, because pixels are not kept.

    Parameters
    ----------
    data : DataConfig
        Options as they are.
    proposal : Proposal
        What would change.
    item : Item
        The image.
    plane : int
        The slice.
    """

    data: DataConfig
    proposal: Proposal
    item: Item
    plane: int

    def __call__(self) -> Picture:
        """Return the slice before and after.

        Raises
        ------
        DataError
            The files cannot be read.
        """
        before = self._draw(self.data, self.plane)
        if any("slices.drop" in line for line in self.proposal.recipe) or not self.proposal.repairs:
            return Picture(before, np.full_like(before, 235), ("this slice", "left out"))
        after = self._draw(accept(self.data, [self.proposal]), self.plane)
        return Picture(before, after)

    def _draw(self, data: DataConfig, plane: int) -> np.ndarray:
        try:
            opened = open_item(self.item, data, parse_recipe(data.recipe))
            return draw(opened, plane, data, filled=self.proposal.kind in _LABELS)
        except SegcoreError:
            if data is not self.data:
                raise
            # As it is, it cannot be read: that is what the repair is for. The image alone, then.
            opened = open_item(replace(self.item, labels="", mask=""), data)
            return draw(opened, min(plane, opened.images.count - 1), data)


@dataclass(frozen=True)
class PairPainter:
    """Draws two slices that are alike.

    Parameters
    ----------
    data : DataConfig
        Options as they are.
    items : pair of Item
        Their images.
    planes : pair of int
        Their numbers there.
    names : pair of str
        What they are called.
    """

    data: DataConfig
    items: tuple[Item, Item]
    planes: tuple[int, int]
    names: tuple[str, str]

    def __call__(self) -> Picture:
        """Return both slices.

        Raises
        ------
        DataError
            The files cannot be read.
        """
        steps = parse_recipe(self.data.recipe)
        one, two = (
            draw(open_item(item, self.data, steps), plane, self.data)
            for item, plane in zip(self.items, self.planes, strict=True)
        )
        return Picture(one, two, self.names)


def draw(opened: Opened, plane: int, data: DataConfig, filled: bool = False) -> np.ndarray:
    """Return a slice as `(Y, X, 3)` uint8 with its labels: as outlines, or filled with a colour per value."""
    images = opened.images
    rows, columns = middle(images.height, 4 * LONGEST), middle(images.width, 4 * LONGEST)
    picture = as_colours(images.window(plane, rows, columns))
    step = max(1, -(-max(picture.shape[:2]) // LONGEST))
    if opened.labels is None:
        return picture[::step, ::step]
    labels_YX = opened.labels.window(plane, rows, columns)[0]
    if data.labels_as == "foreground":
        labels_YX = labels_YX > 0
    labels_YX = labels_YX[::step, ::step]
    return painted(picture[::step, ::step], labels_YX, filled)


def as_colours(image_CYX: np.ndarray) -> np.ndarray:
    """Return an image for the screen: 8-bit colours as they are, everything else grey from 0.5 to 99.5 %."""
    image = finite(image_CYX)
    if len(image) == 3 and image.dtype == np.uint8:
        return np.ascontiguousarray(image.transpose(1, 2, 0))
    grey_YX = image.mean(0, dtype=np.float32)
    low, high = np.percentile(grey_YX, (0.5, 99.5))
    scaled = np.clip((grey_YX - low) / max(float(high - low), 1e-9), 0, 1) * 255
    return np.repeat(scaled.astype(np.uint8)[..., None], 3, 2)


def painted(picture: np.ndarray, labels_YX: np.ndarray, filled: bool) -> np.ndarray:
    """Return a picture with labels: every value but the lowest filled with its colour, or outlined."""
    result = picture.copy()
    if not filled:
        result[border_map(labels_YX) > 0] = (255, 176, 0)
        return result
    found, indices = np.unique(labels_YX, return_inverse=True)
    colours = np.array([colour_of(at) for at in range(len(found))], np.float32)
    shown = indices.reshape(labels_YX.shape)
    mixed = 0.45 * result + 0.55 * colours[shown]
    above = shown > 0
    result[above] = mixed[above].astype(np.uint8)
    return result


def colour_of(index: int) -> tuple[int, int, int]:
    """Return a colour for the label value at `index`; the first ones are far apart."""
    red, green, blue = colorsys.hsv_to_rgb(0.08 + index * GOLDEN, 0.85, 1.0)
    return round(red * 255), round(green * 255), round(blue * 255)


def with_pictures(survey: Survey, proposals: Sequence[Proposal]) -> tuple[Proposal, ...]:
    """Return the proposals that change something with what draws them, unless they have it already."""
    return tuple(
        replace(proposal, picture=_painter(survey, proposal))
        if proposal.repairs and proposal.picture is None and proposal.kind not in _UNSEEN
        else proposal
        for proposal in proposals
    )


def _painter(survey: Survey, proposal: Proposal) -> Painter | None:
    """Choose the slice to draw: one that the proposal is about, with as much to see as possible."""
    items = [subject.item for subject in survey.subjects] + [item for item, _ in survey.problems]
    named = [item for item in items if any(line.startswith(f"[{item.name}] ") for line in proposal.recipe)]
    if not items:
        return None
    item = (named or items)[0]
    seen = [each for each in survey.seen if survey.subjects[each.subject].item is item]
    dropped = [line.rpartition(" ")[2] for line in proposal.recipe if "slices.drop" in line]
    if dropped:
        return Painter(survey.data, proposal, item, int(dropped[0].replace("-", ",").split(",")[0]))
    busiest = max(seen, key=_interest, default=None)
    return Painter(survey.data, proposal, item, busiest.plane if busiest else 0)


def _interest(seen: Seen) -> float:
    return 1 - seen.labels.uniform if seen.labels and seen.labels.distinct > 1 else 0.0
