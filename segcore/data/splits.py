"""Splits: which slices train, which validate and which are kept for the test; no group on two sides, ever.

What decides, from strong to weak: what a set is for, slices that are named, groups and files that are named,
folds, fractions. Where data.group_pattern is set, a group is never divided, whatever else is asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from segcore.config import DataConfig
from segcore.data.bands import choose_rows
from segcore.data.choosing import Slice
from segcore.data.dividing import SIDES, Divider
from segcore.data.extents import Extent, parse_slices
from segcore.errors import ConfigError

__all__ = ["Extent", "Region", "Split", "parse_slices", "split_images"]
ROW_STEP = 16
"""A single slice is split at a multiple of this many rows."""


@dataclass(frozen=True)
class Region:
    """Slices of one image, and their rows; both `(start, stop)`."""

    item: int
    planes: tuple[int, int]
    rows: tuple[int, int]


@dataclass(frozen=True)
class Split:
    """Regions that train, validate and test; no two share a pixel.

    In 2d and 2.5d a region is one slice; in 3d slices that lie together, with those between them in which
    nothing is annotated.
    """

    train: tuple[Region, ...]
    validation: tuple[Region, ...]
    test: tuple[Region, ...] = ()
    notes: tuple[str, ...] = ()


def split_images(extents: Sequence[Extent], data: DataConfig) -> Split:
    """Divide the slices of a data set into training, validation and test.

    Slices in which nothing is annotated are in no part. Slices named in data.validation_slices and
    data.test_slices are counted from 0 through all images. A single slice is divided by rows.

    Parameters
    ----------
    extents : sequence of Extent
        The images in the order of the data set.
    data : DataConfig
        Options.

    Raises
    ------
    ConfigError
        A named slice, group or file does not exist, a group would be divided, two parts want the same slice,
        or a part would be empty.
    """
    divider = Divider(extents, data)
    alone = divider.only_slice()
    if alone is not None and not (data.validation_slices or data.validation_groups):
        return _split_rows(alone, extents[alone[0]], data)
    sides = divider.divide()
    parts = {side: _regions(sides, side, extents, data.mode) for side in SIDES}
    notes = list(divider.notes)
    if data.mode == "2.5d" and data.split_by != "blocks" and any(extent.planes > 1 for extent in extents):
        notes.append(
            "Training slices may be seen together with neighbours that validate (their pixels, never their "
            "labels); data.split_by blocks keeps them apart."
        )
    thin = [part for part in parts["train"] if part.planes[1] - part.planes[0] < data.patch_depth]
    if data.mode == "3d" and thin:
        notes.append(
            f"{len(thin)} of {len(parts['train'])} training blocks have fewer slices than "
            f"data.patch_depth {data.patch_depth}."
        )
    return Split(parts["train"], parts["validation"], parts["test"], tuple(notes))


def _regions(sides: dict[Slice, str], side: str, extents: Sequence[Extent], mode: str) -> tuple[Region, ...]:
    regions: list[Region] = []
    before: tuple[int, int, str] | None = None
    for (item, plane), owner in sorted(sides.items()):
        here = (item, extents[item].volume(plane), owner)
        if owner == side and mode == "3d" and here == before:
            regions[-1] = replace(regions[-1], planes=(regions[-1].planes[0], plane + 1))
        elif owner == side:
            regions.append(Region(item, (plane, plane + 1), (0, extents[item].height)))
        before = here
    return tuple(regions)


def _split_rows(place: Slice, extent: Extent, data: DataConfig) -> Split:
    item, plane = place
    height = extent.height
    amount = max(1, round(height * data.validation_fraction / ROW_STEP))
    tested = max(1, round(height * data.test_fraction / ROW_STEP)) if data.test_fraction else 0
    room = (height - data.patch_size) // ROW_STEP
    if room < 1 + bool(tested):
        least = data.patch_size + ROW_STEP * (1 + bool(tested))
        raise ConfigError(
            f"A single slice of {height} rows cannot be divided into training and validation"
            f"{' and test' if tested else ''}: data.patch_size {data.patch_size} needs {least} rows.",
            "Use a smaller patch size, or a stack of at least two slices.",
        )
    tested = min(tested, room - 1)
    border = height - ROW_STEP * tested
    middle = border - ROW_STEP * min(amount, room - tested)
    start, stop = choose_rows(extent.row_counts, (middle, border), data.validation_fraction, ROW_STEP)
    train = [f"{low}–{high - 1}" for low, high in ((0, start), (stop, border)) if low < high]
    said = f"The image is a single slice: rows {' and '.join(train)} train, rows {start}–{stop - 1} validate"
    said += f", rows {border}–{height - 1} are kept for the test." if tested else "."

    def rows(start: int, stop: int) -> tuple[Region, ...]:
        return (Region(item, (plane, plane + 1), (start, stop)),) if stop > start else ()

    return Split(rows(0, start) + rows(stop, border), rows(start, stop), rows(border, height), (said,))
