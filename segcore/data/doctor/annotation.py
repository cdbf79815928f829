"""Slices that nobody annotated, though their labels say that they are background throughout."""

from __future__ import annotations

import numpy as np

from segcore.data.doctor.exposure import listed
from segcore.data.doctor.proposal import Proposal, ranges
from segcore.data.doctor.survey import Seen, Survey
from segcore.data.report import Finding

EMPTY = 0.5
"""So many slices without a label are more than the ends of a stack, where there is nothing yet …"""
AS_RICH = 0.8
"""… if their images vary nearly as much as those of the slices with labels."""
FEWEST = 4


def judge_annotation(survey: Survey) -> list[Proposal]:
    """Propose to leave out slices whose labels are 0 throughout, if their images show as much as others."""
    data = survey.data
    if not survey.complete or data.annotated_slices or data.mask or data.unlabelled_value is not None:
        return []
    empty = [at for at, seen in enumerate(survey.seen) if _is_empty(seen)]
    drawn = [at for at in range(len(survey.seen)) if at not in set(empty)]
    if len(empty) < FEWEST or not drawn or len(empty) < EMPTY * len(survey.seen):
        return []
    richness = np.array([seen.image.deviation for seen in survey.seen])
    if np.median(richness[empty]) < AS_RICH * np.median(richness[drawn]):
        return []
    what = (
        f"{len(empty)} of {len(survey.seen)} slices hold no label, but look like those that do: if nobody "
        "annotated them, they teach the network that there is nothing."
    )
    finding = Finding(
        level="warning",
        what=what,
        where=listed(survey, [survey.seen[at] for at in empty]),
        remedy="Name the slices that somebody annotated; the others are then left out.",
    )
    share = len(empty) / len(survey.seen)
    options = {"annotated_slices": ranges(drawn)}
    return [Proposal("unannotated", finding, options=options, optional=True, confidence=share)]


def _is_empty(seen: Seen) -> bool:
    return seen.labels is not None and seen.labels.distinct == 1 and 0 in seen.labels.values
