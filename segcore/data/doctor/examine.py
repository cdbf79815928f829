"""The examination: survey, detectors one after the other, table of classes, histograms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from segcore.config import DataConfig
from segcore.data.collection import Collection
from segcore.data.doctor.annotation import judge_annotation
from segcore.data.doctor.drawing import with_pictures
from segcore.data.doctor.exposure import judge_exposure
from segcore.data.doctor.files import judge_files
from segcore.data.doctor.histograms import normalized_histograms
from segcore.data.doctor.placement import judge_placement
from segcore.data.doctor.polarity import judge_polarity
from segcore.data.doctor.proposal import ORDER, ClassRow, Diagnosis, Proposal
from segcore.data.doctor.repeats import judge_repeats
from segcore.data.doctor.survey import Survey, survey
from segcore.data.doctor.values import add_up, judge_values
from segcore.data.histograms import histogram_of
from segcore.data.items import list_items
from segcore.data.weights import class_weights, pixels_beside
from segcore.errors import DataError

SUGGESTED = ("inverse", "square-root", "median-frequency")


def examine(
    collection: Collection | None,
    data: DataConfig,
    progress: Callable[[int, int], None] | None = None,
) -> Diagnosis:
    """Look for what is wrong with a data set, in bounded time: of many slices evenly spread ones are read.

    Parameters
    ----------
    collection : Collection, optional
        The data set as training would read it. None if it cannot be opened as a whole: then its images are
        opened one by one, and the doctor may find out why.
    data : DataConfig
        Its options, with the repairs that were accepted already.
    progress : callable, optional
        Called with steps done and steps in all.

    Raises
    ------
    ConfigError
        No images are named, or a repair is none.
    """
    items = () if collection else list_items(data, labelled=bool(data.labels)).items
    return diagnose(survey(collection, data, items, progress or _silent))


def diagnose(known: Survey) -> Diagnosis:
    """Return what a survey says."""
    proposals = judge_files(known)
    if not any(proposal.kind == "swapped" for proposal in proposals):
        proposals += _judge_pixels(known)
    rows = class_table_rows(known)
    pixels: dict[int, int] = {}
    for row in rows:
        for value, count in row.pixels.items():
            pixels[value] = pixels.get(value, 0) + count
    pixels = dict(sorted(pixels.items()))
    beside = pixels_beside([seen.classes for seen in known.seen])
    images = [[seen.thin for seen in known.of(number)] for number in range(len(known.subjects))]
    try:
        normalized = normalized_histograms(images)
        raw = histogram_of([plane for image in images for plane in image])
    except DataError:  # images of different channels: there is no common histogram
        normalized, raw = (), ()
    return Diagnosis(
        proposals=with_pictures(known, sorted(proposals, key=lambda proposal: ORDER.index(proposal.kind))),
        rows=rows,
        weights={kind: class_weights(pixels, kind, beside=beside) for kind in SUGGESTED}
        if 2 <= len(pixels) <= 255
        else {},
        raw=raw,
        normalized=normalized,
        notes=(*known.notes, *_unreadable(known)),
    )


def class_table_rows(known: Survey) -> tuple[ClassRow, ...]:
    """Return the class pixels of every image, or of every slice of a single stack, as far as it was read."""
    if known.alone:
        return tuple(
            ClassRow(known.name(seen), seen.classes, 1, 1) for seen in known.seen if seen.labels is not None
        )
    rows = []
    for number, subject in enumerate(known.subjects):
        seen = [each for each in known.of(number) if each.labels is not None]
        pixels: dict[int, int] = {}
        for each in seen:
            for value, count in each.classes.items():
                pixels[value] = pixels.get(value, 0) + count
        if seen:
            rows.append(ClassRow(subject.name, dict(sorted(pixels.items())), len(seen), subject.planes))
    return tuple(rows)


def _judge_pixels(known: Survey) -> list[Proposal]:
    facts = [seen.labels for seen in known.seen if seen.labels is not None]
    proposals = judge_values(
        add_up(facts), known.data.labels_as, _labels_name(known), known.data.unlabelled_value
    )
    return [
        *proposals,
        *judge_annotation(known),
        *judge_placement(known),
        *judge_polarity(known),
        *judge_repeats(known),
        *judge_exposure(known),
    ]


def _labels_name(known: Survey) -> str:
    if known.alone and known.subjects:
        return Path(known.subjects[0].item.labels).name
    return Path(known.data.labels or "").name or "labels"


def _unreadable(known: Survey) -> list[str]:
    return [f"{item.name} was left aside: {error.message}" for item, error in known.problems[:5]]


def _silent(done: int, total: int) -> None:
    """Tell nobody."""
