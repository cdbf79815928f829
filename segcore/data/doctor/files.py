"""What cannot be read as it is: images and labels swapped, transposed, masks in colours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segcore.data.colours import ColourTable, is_coloured, is_grey, pack
from segcore.data.doctor.facts import interior
from segcore.data.doctor.proposal import Proposal
from segcore.data.doctor.survey import Survey, evenly
from segcore.data.doctor.values import Values, drawn_values
from segcore.data.items import Item
from segcore.data.labels import open_labels
from segcore.data.open import open_source
from segcore.data.opening import open_images
from segcore.data.planes import Planes
from segcore.data.report import Finding
from segcore.data.scan import FEW_VALUES
from segcore.data.source import ImageSource
from segcore.errors import SegcoreError

AREAS = 0.5
"""Share of inner pixels from which a picture consists of areas, as labels do."""
GREY = 64
"""More values than this with hardly an inner pixel among them are grey values."""
SHADES = 8
"""Difference of red, green or blue that nobody paints on purpose."""
MASKS = 24
"""Masks in colours that are read as a whole to find their colours."""


def judge_files(survey: Survey) -> list[Proposal]:
    """Return what is to say about files that do not fit together, or not as they are."""
    swapped = swapped_pair(survey)
    if swapped:
        return swapped
    return [*transposed_labels(survey), *coloured_masks(survey)]


def swapped_pair(survey: Survey) -> list[Proposal]:
    """Propose to exchange images and labels where the images consist of areas, the labels of grey values."""
    pairs = [(seen.image, seen.labels) for seen in survey.seen if seen.labels is not None]
    votes = [
        image.values <= FEW_VALUES and image.uniform >= AREAS
        and (labels.distinct > GREY or labels.fractional) and labels.uniform < AREAS
        for image, labels in pairs
    ]  # fmt: skip
    if not votes or np.mean(votes) <= 0.5:
        return []
    finding = Finding(
        level="error",
        what="Images and labels look swapped: the images consist of areas of few values, the labels of grey "
        "values.",
        where=_where(survey),
        remedy="Exchange them.",
    )
    return [Proposal("swapped", finding, ("pair.swap",), confidence=float(np.mean(votes)))]


def transposed_labels(survey: Survey) -> list[Proposal]:
    """Propose to exchange rows and columns of labels that do not fit their image otherwise."""
    found = [item for item, _ in survey.problems if item.labels and _is_transposed(item, survey)]
    if not found:
        return []
    everything = len(found) == len(survey.subjects) + len(survey.problems)
    lines = (
        ("labels.transpose",) if everything else tuple(f"[{item.name}] labels.transpose" for item in found)
    )
    finding = Finding(
        level="error",
        what="The labels have as many rows as the image has columns, and the reverse: they are transposed.",
        where=", ".join(item.name for item in found[:5]) + (", …" if len(found) > 5 else ""),
        remedy="Exchange their rows and columns.",
    )
    return [Proposal("transposed", finding, lines)]


def coloured_masks(survey: Survey) -> list[Proposal]:
    """Propose a fixed table for masks in colours; of smoothed ones only the colours of areas are in it."""
    if any(".colours " in line for line in survey.data.recipe):
        return []
    items = [subject.item for subject in survey.subjects] + [item for item, _ in survey.problems]
    items = [item for item in items if item.labels]
    counted = [(item, counts) for item in _some(items) if (counts := _colours(item, survey)) is not None]
    if not counted:
        return []
    drawn: Counter[int] = Counter()
    others = 0
    for _, (known, rest) in counted:
        drawn.update(known)
        others += rest
    if not drawn or all(is_grey(colour) for colour in drawn):
        return []
    table = ColourTable.over(frozenset(drawn))
    used = {colour: value for colour, value in table.values.items() if colour in drawn}
    soft = others > 0
    what = f"The labels are painted in {len(drawn)} colours"
    if soft:
        share = others / (others + drawn.total())
        what += f", with others in between along the borders ({share:.1%} of the pixels): they were resampled"
        what += " or saved as JPEG"
    else:
        what += f"; they are read as values: {table.text}"
    finding = Finding(
        level="error" if soft else "info",
        what=f"{what}.",
        where=", ".join(Path(item.labels).name for item, _ in counted[:3])
        + (", …" if len(counted) > 3 else ""),
        remedy="Give every pixel the value of the nearest of these colours."
        if soft
        else "Write the table into the run, so that it does not depend on which files are there.",
    )
    line = "labels.colours " + " ".join(f"{colour:06x}={value}" for colour, value in used.items())
    every = len(counted) == len(_some(items))
    lines = (line,) if every else tuple(f"[{item.name}] {line}" for item, _ in counted)
    return [Proposal("colours", finding, lines, optional=not soft)]


def _some(items: Sequence[Item]) -> list[Item]:
    return [items[at] for at in evenly(len(items), MASKS, pairs=False)]


def _colours(item: Item, survey: Survey) -> tuple[dict[int, int], int] | None:
    """Return the colours of areas with their pixels, and the pixels of other colours; None: no colours."""
    try:
        source = open_source(item.labels)
        if not is_coloured(source, _image(item, survey)):
            return None
        pixels: Counter[float] = Counter()
        inner: Counter[float] = Counter()
        planes = Planes(source)
        for index in evenly(planes.count, MASKS, pairs=False):
            colours_YX = pack(np.moveaxis(planes.read(index), 0, -1))
            pixels.update(_counted(colours_YX))
            inner.update(_counted(colours_YX[interior(colours_YX)]))
    except SegcoreError:
        return None
    inside = {colour: inner[colour] for colour in pixels}
    values = Values(pixels, inside, 0, False, len(pixels), float("nan"), "")
    drawn = _apart(drawn_values(values, ordered=False), values)
    if len(drawn) < 2:
        return ({int(colour): count for colour, count in pixels.items()}, 0) if len(pixels) <= GREY else None
    return {int(colour): pixels[colour] for colour in drawn}, values.total - sum(
        pixels[colour] for colour in drawn
    )


def _apart(colours: Sequence[float], values: Values) -> list[float]:
    """Return the colours without those that are a shade of one with more inner pixels."""
    kept: list[float] = []
    for colour in sorted(colours, key=lambda each: -values.inner[each]):
        if all(_shades(int(colour), int(other)) > SHADES for other in kept):
            kept.append(colour)
    return sorted(kept)


def _shades(one: int, other: int) -> int:
    return max(abs((one >> shift & 0xFF) - (other >> shift & 0xFF)) for shift in (0, 8, 16))


def _counted(colours: np.ndarray) -> dict[float, int]:
    found, counts = np.unique(colours, return_counts=True)
    return dict(zip(found.astype(float).tolist(), counts.tolist(), strict=True))


def _image(item: Item, survey: Survey) -> ImageSource:
    return open_images(item.images, survey.data)


def _is_transposed(item: Item, survey: Survey) -> bool:
    try:
        source = _image(item, survey)
        images, labels = Planes(source), Planes(open_labels(item.labels, source))
    except SegcoreError:
        return False
    sizes = images.count, images.width, images.height
    return images.height != images.width and sizes == (labels.count, labels.height, labels.width)


def _where(survey: Survey) -> str:
    if survey.alone and survey.subjects:
        return survey.subjects[0].name
    return f"{len(survey.subjects)} images"
