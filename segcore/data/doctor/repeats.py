"""Slices that are there twice, and slices so alike that the split into training and validation leaks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from segcore.data.doctor.drawing import PairPainter
from segcore.data.doctor.exposure import drop_slices, listed
from segcore.data.doctor.proposal import Proposal
from segcore.data.doctor.survey import Seen, Survey
from segcore.data.extents import Extent
from segcore.data.report import Finding
from segcore.data.splits import split_images
from segcore.errors import ConfigError

SAME = 0.999
"""Correlation of the small copies from which two slices are one, saved again or scaled in grey."""
ALIKE = 0.9
"""Correlation from which the fine structure of a slice is largely that of the other."""
LEAKING = 0.3
"""Share of the validation slices that need such a twin in training to say that the split leaks."""
Sides = dict[tuple[int, int], str]
"""On which side of the split a slice of an image is."""


def judge_repeats(survey: Survey) -> list[Proposal]:
    """Return what is to say about slices that are alike."""
    seen = [each for each in survey.seen if each.image.thumb.any()]
    if len(seen) < 2:
        return []
    thumbs = np.stack([each.image.thumb.ravel() for each in seen])
    alike = thumbs @ thumbs.T
    sides = _sides(survey)
    proposals, copies = _duplicates(survey, seen, alike, sides)
    return proposals + _leakage(survey, seen, alike, sides, copies)


def _duplicates(
    survey: Survey, seen: Sequence[Seen], alike: np.ndarray, sides: Sides
) -> tuple[list[Proposal], set[int]]:
    pairs = []
    copies: set[int] = set()
    for later in range(1, len(seen)):
        first = int(alike[later, :later].argmax())
        exact = seen[first].image.digest == seen[later].image.digest
        resaved = alike[later, first] >= SAME and not _neighbours(seen[first], seen[later])
        if first not in copies and (exact or resaved):
            pairs.append((first, later, exact))
            copies.add(later)
    if not pairs:
        return [], copies
    across = sum(_owner(sides, seen[one]) != _owner(sides, seen[two]) for one, two, _ in pairs)
    first, later, exact = pairs[0]
    many = len(pairs) > 1
    what = (
        f"{len(pairs)} slice{'s are' if many else ' is'} there twice: {survey.name(seen[later])} is "
        f"{'' if exact else 'nearly '}the same as {survey.name(seen[first])}{', …' if many else ''}."
    )
    if across:
        what += f" {across} of them on both sides of the split: what is trained on also validates."
    proposal = drop_slices(survey, "duplicates", [seen[two] for _, two, _ in pairs], what, "warning")
    return [replace(proposal, picture=_pair(survey, seen[first], seen[later]))], copies


def _leakage(
    survey: Survey,
    seen: Sequence[Seen],
    alike: np.ndarray,
    sides: Sides,
    copies: set[int],
) -> list[Proposal]:
    side = np.array([_owner(sides, each) for each in seen])
    train = [at for at in np.flatnonzero(side == "train").tolist() if at not in copies]
    kept = [
        at for at in np.flatnonzero((side == "validation") | (side == "test")).tolist() if at not in copies
    ]
    if not train or len(kept) < 2:
        return []
    nearest = alike[np.ix_(kept, train)]
    twins = nearest.max(1) >= ALIKE
    if twins.mean() < LEAKING:
        return []
    example = int(np.argmax(nearest.max(1)))
    one, two = seen[kept[example]], seen[train[int(nearest[example].argmax())]]
    stack = any(subject.planes > 2 for subject in survey.subjects)
    what = (
        f"{int(twins.sum())} of {len(kept)} slices kept for validation look nearly like a slice that is "
        f"trained on: {survey.name(one)} like {survey.name(two)}. The scores will be better than on a new "
        "image."
    )
    remedy = (
        "Divide the stack into contiguous blocks (data.split_by blocks)."
        if stack
        else "Keep together what belongs together: data.split_by groups with a data.group_pattern."
    )
    finding = Finding(level="warning", what=what, where=listed(survey, [one, two]), remedy=remedy)
    options = {"split_by": "blocks"} if stack and survey.data.split_by != "blocks" else {}
    if stack and not options:
        return []
    sure, picture = float(twins.mean()), _pair(survey, one, two)
    return [Proposal("leakage", finding, (), options, optional=True, confidence=sure, picture=picture)]


def _pair(survey: Survey, one: Seen, two: Seen) -> PairPainter:
    return PairPainter(
        survey.data,
        (survey.subjects[one.subject].item, survey.subjects[two.subject].item),
        (one.plane, two.plane),
        (survey.name(one), survey.name(two)),
    )


def _neighbours(one: Seen, two: Seen) -> bool:
    """Say whether slices lie side by side in a stack: these may be alike without being copies."""
    return one.subject == two.subject and abs(one.plane - two.plane) <= 2


def _owner(sides: Sides, seen: Seen) -> str:
    return sides.get((seen.subject, seen.plane), "")


def _sides(survey: Survey) -> Sides:
    """Return on which side of the split every slice is, as far as it can be divided."""
    extents = [
        Extent(subject.name, subject.planes, subject.height, subject.item.use, depth=subject.depth)
        for subject in survey.subjects
    ]
    try:
        split = split_images(extents, survey.data)
    except ConfigError:
        return {}
    parts = {"train": split.train, "validation": split.validation, "test": split.test}
    return {
        (region.item, plane): name
        for name, regions in parts.items()
        for region in regions
        for plane in range(*region.planes)
    }
