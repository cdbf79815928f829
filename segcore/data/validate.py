"""Checking data before training: every problem becomes a finding with its remedy, never an exception."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from segcore.axes import sizes_text
from segcore.config import DataConfig
from segcore.data.open import match_labels, open_labels, open_source
from segcore.data.planes import Planes
from segcore.data.report import ClassCount, Finding, Report, SourceSummary
from segcore.data.scan import ImageFacts, LabelFacts, scan_images, scan_labels
from segcore.data.source import ImageSource
from segcore.data.verdicts import (
    count_classes,
    judge_images,
    judge_labels,
    judge_pair,
    judge_split,
    judge_swap,
)
from segcore.errors import DataError

__all__ = ["ClassCount", "Finding", "Report", "SourceSummary", "check_data"]

_ORDER = ("error", "warning", "info")


def check_data(
    images: Path,
    labels: Path | None,
    data: DataConfig,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Check an image stack, and its labels if given; reads one plane at a time.

    Parameters
    ----------
    images, labels : Path
        Files. Without labels only what segmenting needs is checked.
    data : DataConfig
        Options; its own `images` and `labels` are not looked at.
    progress : callable, optional
        Called with planes read and planes in all.

    Returns
    -------
    Report
        Errors first, then warnings, then what is good to know. Bad data never raises.
    """
    findings: list[Finding] = []
    image_source = _open(lambda: open_source(images, data.axes), images, findings)
    label_source = _open(lambda: open_labels(labels), labels, findings) if labels else None
    if image_source and label_source:
        image_source = match_labels(image_source, label_source)
    for source in filter(None, (image_source, label_source)):
        findings += [Finding(level="info", what=note, where=source.path.name) for note in source.notes]
    image_planes = Planes(image_source) if image_source else None
    label_planes = Planes(label_source) if label_source else None
    step = _counter(progress, sum(planes.count for planes in (image_planes, label_planes) if planes))
    if image_planes and label_planes:
        findings += judge_pair(image_planes, label_planes, data)
    image_facts = _images(image_planes, step, findings) if image_planes else None
    label_facts = _labels(label_planes, data, step, findings) if label_planes else None
    if image_planes and image_facts and label_facts:
        findings += judge_swap(image_planes, image_facts, label_facts)
    if image_planes and label_planes:
        findings += judge_split(image_planes, label_facts, data)
    return Report(
        findings=tuple(sorted(findings, key=lambda finding: _ORDER.index(finding.level))),
        images=_summary(image_planes),
        labels=_summary(label_planes),
        classes=count_classes(label_facts, data) if label_facts else (),
    )


def _open(opening: Callable[[], ImageSource], path: Path, findings: list[Finding]) -> ImageSource | None:
    try:
        return opening()
    except DataError as error:
        findings.append(_from_error(error, path))
        return None


def _images(planes: Planes, step: Callable[[], None], findings: list[Finding]) -> ImageFacts | None:
    try:
        facts = scan_images(planes, step)
    except DataError as error:
        findings.append(_from_error(error, planes.source.path))
        return None
    findings += judge_images(planes, facts)
    return facts


def _labels(
    planes: Planes, data: DataConfig, step: Callable[[], None], findings: list[Finding]
) -> LabelFacts | None:
    try:
        facts = scan_labels(planes, data.labels_as, step)
    except DataError as error:
        findings.append(_from_error(error, planes.source.path))
        return None
    findings += judge_labels(planes, facts, data)
    return facts


def _from_error(error: DataError, path: Path) -> Finding:
    return Finding(level="error", what=error.message, where=path.name, remedy=error.remedy)


def _counter(progress: Callable[[int, int], None] | None, total: int) -> Callable[[], None]:
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress:
            progress(done, total)

    return step


def _summary(planes: Planes | None) -> SourceSummary | None:
    if planes is None:
        return None
    source = planes.source
    return SourceSummary(
        path=str(source.path),
        axes=source.axes,
        shape=source.shape,
        dtype=str(source.dtype),
        pixel_size=source.pixel_size,
        text=f"{sizes_text(source.shape, source.axes)}, {source.dtype}",
    )
