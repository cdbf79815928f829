"""Labels that are turned or shifted against their images, in the whole set or in some images."""

from __future__ import annotations

from collections.abc import Mapping

from segcore.data.doctor.alignment import STRONG, Match, Position, find_position, strength
from segcore.data.doctor.proposal import Kind, Proposal
from segcore.data.doctor.survey import Survey
from segcore.data.report import Finding

_TURNED = {
    "Y": ("mirrored top to bottom", ("labels.flip Y",)),
    "X": ("mirrored left to right", ("labels.flip X",)),
    "YX": ("turned by half a turn", ("labels.flip Y", "labels.flip X")),
    "transpose": ("transposed: rows and columns are exchanged", ("labels.transpose",)),
    "transpose Y": ("turned by a quarter to the right", ("labels.transpose", "labels.flip Y")),
    "transpose X": ("turned by a quarter to the left", ("labels.transpose", "labels.flip X")),
    "transpose YX": (
        "mirrored along the other diagonal",
        ("labels.transpose", "labels.flip Y", "labels.flip X"),
    ),
}
LISTED = 5


def judge_placement(survey: Survey) -> list[Proposal]:
    """Return what is to say about where labels lie on their images."""
    per_image: dict[int, list[Match]] = {}
    for seen in survey.seen:
        if seen.match is not None:
            per_image.setdefault(seen.subject, []).append(seen.match)
    if not per_image:
        return []
    found = {number: find_position(matches) for number, matches in per_image.items()}
    off = {number: position for number, position in found.items() if position is not None}
    fine = [
        number
        for number, matches in per_image.items()
        if found[number] is None and strength(matches) >= STRONG
    ]
    if not fine:  # weak images are judged together: each for itself could not tell
        together = find_position([match for matches in per_image.values() for match in matches])
        if together is not None:
            return [_propose(survey, together, None)]
    if survey.alone:
        return []
    groups: dict[tuple[str, int, int], list[int]] = {}
    for number, position in off.items():
        groups.setdefault((position.turn, position.rows, position.columns), []).append(number)
    return [
        _propose(survey, off[numbers[0]], {number: off[number] for number in numbers})
        for numbers in groups.values()
    ]


def _propose(survey: Survey, position: Position, images: Mapping[int, Position] | None) -> Proposal:
    parts: list[str] = []
    lines: list[str] = []
    if position.turn != "none":
        said, turning = _TURNED[position.turn]
        parts.append(said)
        lines += turning
    if position.rows or position.columns:
        parts.append(f"shifted against it by {-position.rows} rows and {-position.columns} columns")
        lines.append(f"labels.shift {position.rows} {position.columns}")
    what = f"The labels fit their image clearly better when they are moved: they are {' and '.join(parts)}."
    if images is None:
        where, recipe, sure = f"{len(survey.subjects)} images", tuple(lines), position.confidence
        where = survey.subjects[0].name if survey.alone else where
    else:
        names = [survey.subjects[number].name for number in images]
        where = ", ".join(names[:LISTED]) + (
            f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        )
        recipe = tuple(f"[{name}] {line}" for name in names for line in lines)
        sure = min(each.confidence for each in images.values())
        asked = len({seen.subject for seen in survey.seen if seen.match is not None})
        if asked < len(survey.subjects):
            what += f" {asked} of {len(survey.subjects)} images were looked at."
    kind: Kind = (
        "shifted" if position.turn == "none" else "transposed" if "transpose" in position.turn else "flipped"
    )
    remedy = "Move the labels back on reading; look at the picture before."
    if position.rows or position.columns:
        rim = survey.data.unlabelled_value or 0
        remedy += (
            f" Labels that come in at the rim are {rim}; data.unlabelled_value names what nobody annotated."
        )
    return Proposal(
        kind, Finding(level="warning", what=what, where=where, remedy=remedy), recipe, confidence=sure
    )
