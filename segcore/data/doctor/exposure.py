"""Grey values: constant and saturated slices, types and exposures that differ, channels that say nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segcore.data.doctor.proposal import Kind, Proposal, ranges
from segcore.data.doctor.survey import Seen, Survey
from segcore.data.report import Finding, Level

SATURATED = 0.25
"""Share of a slice at its highest value from which it is called overexposed …"""
USUAL = 0.05
"""… where in most other slices it is less than this: a white background is no mistake."""
FAR = 8.0
"""Times by which the brightness of two images must differ to call their exposures different."""
LISTED = 5


def judge_exposure(survey: Survey) -> list[Proposal]:
    """Return what is to say about the grey values of a data set."""
    return [
        *constant_slices(survey),
        *saturated_slices(survey),
        *mixed_depths(survey),
        *different_exposures(survey),
        *useless_channels(survey),
    ]


def constant_slices(survey: Survey) -> list[Proposal]:
    """Propose to leave out slices with one value throughout, unless all are like that."""
    found = [seen for seen in survey.seen if seen.image.low == seen.image.high]
    if not found or len(found) == len(survey.seen):
        return []
    what = f"{_count(found)} of {len(survey.seen)} hold one grey value throughout: there is nothing to see."
    return [drop_slices(survey, "constant", found, what, "warning")]


def saturated_slices(survey: Survey) -> list[Proposal]:
    """Propose to leave out slices that are largely at their highest value, where the others are not."""
    shares = np.array([seen.image.top for seen in survey.seen if seen.image.low < seen.image.high])
    if not shares.size:
        return []
    highest = max(seen.image.high for seen in survey.seen)
    found = [
        seen
        for seen in survey.seen
        # A slice whose highest value is far below that of the others holds few counts, but is not clipped.
        if seen.image.values > 2 and seen.image.top >= SATURATED and seen.image.high >= 0.9 * highest
    ]
    if not found or np.median(shares) >= USUAL or len(found) > 0.3 * len(shares):
        return []
    worst = max(seen.image.top for seen in found)
    what = (
        f"{_count(found)} of {len(survey.seen)} are overexposed: up to {worst:.0%} of the pixels have the "
        "highest value, and what was there cannot be seen."
    )
    return [drop_slices(survey, "saturated", found, what, "warning")]


def mixed_depths(survey: Survey) -> list[Proposal]:
    """Propose one common type where images differ in theirs."""
    kinds: dict[str, list[str]] = {}
    for subject in survey.subjects:
        kinds.setdefault(str(subject.dtype), []).append(subject.name)
    if len(kinds) < 2:
        return []
    listed = ", ".join(f"{len(names)} × {kind} ({names[0]})" for kind, names in kinds.items())
    types = [np.dtype(kind) for kind in kinds]
    common = "uint16" if all(kind in (np.uint8, np.uint16, np.bool_) for kind in types) else "float32"
    finding = Finding(
        level="error",
        what=f"The images differ in type: {listed}.",
        where=f"{len(survey.subjects)} images",
        remedy=f"Read all of them as {common}.",
    )
    return [Proposal("depths", finding, (f"images.depth {common}",))]


def different_exposures(survey: Survey) -> list[Proposal]:
    """Propose statistics per image where some are many times as bright as others, though of one type."""
    if survey.data.normalize_per == "image" or len({str(subject.dtype) for subject in survey.subjects}) > 1:
        return []
    spans = {}
    for number, subject in enumerate(survey.subjects):
        values = [seen.image.span for seen in survey.of(number) if seen.image.span > 0]
        if values:
            spans[subject.name] = float(np.median(values))
    if len(spans) < 2:
        return []
    low, high = min(spans, key=spans.__getitem__), max(spans, key=spans.__getitem__)
    if spans[high] < FAR * spans[low]:
        return []
    times = spans[high] / spans[low]
    finding = Finding(
        level="warning",
        what=f"Contrast differs {times:.0f}-fold between images: least in {low}, most in {high}.",
        where=f"{len(survey.subjects)} images",
        remedy="Take the statistics for normalisation from every image (data.normalize_per image).",
    )
    sure = min(1.0, times / (4 * FAR))
    return [
        Proposal("exposures", finding, options={"normalize_per": "image"}, optional=True, confidence=sure)
    ]


def useless_channels(survey: Survey) -> list[Proposal]:
    """Propose to leave out channels that are empty, or the same as another one, in every slice."""
    channels = min((subject.channels for subject in survey.subjects), default=1)
    if channels < 2 or not survey.seen or any(subject.channels != channels for subject in survey.subjects):
        return []
    flat = frozenset.intersection(*(seen.image.flat for seen in survey.seen))
    equal = frozenset.intersection(*(seen.image.equal | _all_flat(seen) for seen in survey.seen))
    copies = {two for one, two in equal if one not in flat and two not in flat}
    useless = flat | copies
    if not useless or len(useless) == channels:
        return []
    kept = _kept(survey, [channel for channel in range(channels) if channel not in useless])
    parts = [f"channel {channel} is empty" for channel in sorted(flat)]
    parts += [f"channel {two} is the same as channel {one}" for one, two in sorted(equal) if two in copies]
    text = ", ".join(dict.fromkeys(parts))
    finding = Finding(
        level="warning",
        what=f"{text[0].upper()}{text[1:]} in all slices: it tells the network nothing.",
        where=f"{len(survey.seen)} slices",
        remedy=f"Use channel {kept} only, here and in images to be segmented.",
    )
    options: dict[str, object] = {"channels": kept}
    if survey.data.channel_names:
        names = survey.data.channel_names
        options["channel_names"] = [name for at, name in enumerate(names) if at not in useless]
    return [Proposal("channels", finding, options=options)]


def drop_slices(survey: Survey, kind: Kind, found: Sequence[Seen], what: str, level: Level) -> Proposal:
    """Return the proposal to leave out some slices; images of one slice cannot be left out by a repair."""
    lines = []
    for number, subject in enumerate(survey.subjects):
        planes = [seen.plane for seen in found if seen.subject == number]
        if planes and len(planes) < subject.planes:
            lines.append(f"{survey.prefix(number)}slices.drop {ranges(planes)}")
    whole = any(survey.subjects[seen.subject].planes == 1 for seen in found)
    remedy = "Leave these slices out." if lines else ""
    if whole:
        remedy = f"{remedy} Take images of one slice out of the folder.".strip()
    finding = Finding(level=level, what=what, where=listed(survey, found), remedy=remedy)
    return Proposal(kind, finding, tuple(lines))


def listed(survey: Survey, found: Sequence[Seen]) -> str:
    """Return the names of some slices."""
    if survey.alone:
        return f"{survey.subjects[0].name}, slices {ranges(seen.plane for seen in found)}"
    names = [survey.name(seen) for seen in found[:LISTED]]
    more = f" and {len(found) - LISTED} more" if len(found) > LISTED else ""
    return ", ".join(names) + more


def _count(found: Sequence[Seen]) -> str:
    return f"{len(found)} slice{'s' if len(found) > 1 else ''}"


def _all_flat(seen: Seen) -> frozenset[tuple[int, int]]:
    """Return pairs of channels that may be equal as far as this slice can say: both are empty in it."""
    flat = sorted(seen.image.flat)
    return frozenset((one, two) for one in flat for two in flat if one < two)


def _kept(survey: Survey, channels: Sequence[int]) -> str:
    """Return channels as data.channels counts them: in the file, not among those that are used now."""
    from segcore.data.splits import parse_slices

    now = parse_slices(survey.data.channels) if survey.data.channels else None
    return ",".join(str(now[channel] if now else channel) for channel in channels)
