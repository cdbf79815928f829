"""Loading: from the regions of a split to volumes, in memory or read from disk where they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from segcore.config import DataConfig
from segcore.data.collection import Collection
from segcore.data.planes import strips_of
from segcore.data.source import full_region
from segcore.data.splits import Region, Split
from segcore.data.targets import LabelRule, encode_plane, number_plane
from segcore.data.volumes import CLASSES, OBJECTS, SPARSE, Volume, class_indices, find_anchors
from segcore.errors import DataError
from segcore.memory import main_memory
from segcore.tiling import IGNORE

WHOLE_VOLUME = 2**31
"""More slices than there are around any."""
LEAST_ANCHORS, MOST_ANCHORS = 32, 512
"""Pixels of a class that are kept of a slice."""
ALL_ANCHORS = 2**20
"""Pixels of a class that are kept of all slices together, as far as the least allow."""
MEMORY_SHARE = 0.8
"""Share of the free memory the images may take; the network needs the rest."""


@dataclass(frozen=True)
class Loading:
    """Where patches are cut from."""

    on_disk: bool
    notes: tuple[str, ...] = ()


def choose_loading(collection: Collection, split: Split, data: DataConfig, objects: bool = False) -> Loading:
    """Decide whether the images are read into memory, with numbers of `objects` or with class indices.

    Raises
    ------
    DataError
        They were asked to be in memory and do not fit.
    """
    if data.loading == "disk":
        return Loading(on_disk=True)
    kept = collection.dtype.itemsize
    pooled = kept if collection.dtype in (np.uint8, np.uint16) else 4
    need, label = 0, (OBJECTS if objects else CLASSES).itemsize
    for part, width, copies in ((split.train, kept + pooled, 2), (split.validation, kept, 1)):
        for region in part:  # what trains is there twice: as it was read, and as patches are cut from it
            pixels = collection.entries[region.item].width * (region.rows[1] - region.rows[0])
            need += (
                pixels
                * (region.planes[1] - region.planes[0])
                * (collection.channels * width + label * copies)
            )
    have = main_memory().available
    if need <= MEMORY_SHARE * have:
        return Loading(on_disk=False)
    told = f"The images need {need / 1e9:.1f} GB of memory for training; {have / 1e9:.1f} GB are free"
    if data.loading == "memory":
        raise DataError(
            f"{told}.",
            "Leave out data.loading, so that patches are read from disk, or train on a part of the images.",
        )
    return Loading(True, (f"{told}: every patch is read from disk when it is needed.",))


class Loader:
    """Makes volumes of regions.

    Parameters
    ----------
    collection : Collection
        The images.
    class_values : tuple of int
        Label value of every class index.
    rule : LabelRule
        How label values are read.
    on_disk : bool
        Whether pixels stay on disk.
    objects : bool
        Whether labels are numbers of objects, int32, instead of class indices, int16.
    """

    def __init__(
        self,
        collection: Collection,
        class_values: tuple[int, ...],
        rule: LabelRule,
        on_disk: bool,
        objects: bool = False,
    ) -> None:
        self.collection = collection
        self.class_values = class_values
        self.rule = rule
        self.on_disk = on_disk
        self.label_dtype = OBJECTS if objects else CLASSES
        self.progress: Callable[[int], None] | None = None
        self._done = 0
        self._data = collection.data

    def planes(self, regions: Sequence[Region]) -> int:
        """Return how many planes will be read for these regions."""
        return sum(region.planes[1] - region.planes[0] for region in regions)

    def volumes(
        self, regions: Sequence[Region], validates: bool = False, others: Sequence[Region] = ()
    ) -> list[Volume]:
        """Return the volumes of regions: in 2d one per slice, else one per run of slices of an image.

        A network in three dimensions is validated with the whole volume at hand, so that it sees as much
        around the annotated slices as it will when it is applied. It is trained with the slices around and
        between annotated ones that are in no part, as many as a patch is deep, but without those of `others`.
        """
        if self._data.mode == "2d" and not self.on_disk:
            return [self._volume(region, region.planes, [region]) for region in regions]
        context = {"2d": 0, "2.5d": self._reach(), "3d": self._data.patch_depth}[self._data.mode]
        taken: set[tuple[int, int]] = set()
        if validates and self._data.mode == "3d":
            context = WHOLE_VOLUME
        elif self._data.mode == "3d":
            taken = {(other.item, plane) for other in others for plane in range(*other.planes)}
        return [
            self._volume(run[0], self._around(run, context, taken), run)
            for run in self._runs(regions, context, taken)
        ]

    def _reach(self) -> int:
        return self._data.context_slices // 2 * self._data.context_spacing

    def _runs(
        self, regions: Sequence[Region], context: int, taken: Set[tuple[int, int]]
    ) -> list[list[Region]]:
        """Join regions of the same image, rows and volume whose contexts touch and that nothing divides."""
        runs: list[list[Region]] = []
        for region in sorted(regions, key=lambda each: (each.item, each.rows, each.planes)):
            last = runs[-1][-1] if runs else None
            depth = self.collection.entries[region.item].depth
            joins = (
                last is not None
                and (last.item, last.rows) == (region.item, region.rows)
                and last.planes[0] // depth == region.planes[0] // depth
                and (self._data.mode == "2d" or region.planes[0] - last.planes[1] <= 2 * context)
                and not any(
                    (region.item, plane) in taken for plane in range(last.planes[1], region.planes[0])
                )
            )
            if joins:
                runs[-1].append(region)
            else:
                runs.append([region])
        return runs

    def _around(self, run: list[Region], context: int, taken: Set[tuple[int, int]]) -> tuple[int, int]:
        """Return the planes of a run and up to `context` planes around it that are free, in their volume."""
        item, start, stop = run[0].item, run[0].planes[0], run[-1].planes[1]
        depth = self.collection.entries[item].depth
        first = start // depth * depth
        low, high = max(start - context, first), min(stop + context, first + depth)
        below = [plane for plane in range(low, start) if (item, plane) in taken]
        above = [plane for plane in range(stop, high) if (item, plane) in taken]
        return max(below, default=low - 1) + 1, min(above, default=high)

    def _volume(self, place: Region, planes: tuple[int, int], run: list[Region]) -> Volume:
        wanted = {plane for region in run for plane in range(*region.planes)}
        start, stop = planes
        rows = slice(*place.rows)
        counts_ZK = np.zeros((stop - start, len(self.class_values)), np.int64)
        anchors: dict[tuple[int, int], np.ndarray] = {}
        images, labels = [], []
        reader = self.collection.open(place.item).images
        lazy = self.on_disk
        for number, plane in enumerate(range(start, stop)):
            strips = [slice(None)]
            if lazy:  # of a plane of any size no more than a strip is in memory
                width = self.collection.entries[place.item].width
                strips = strips_of(rows.stop - rows.start, width, 1)
            else:
                images.append(reader.window(plane, rows, slice(None)))
                labels.append(self.labels(place.item, plane, rows, wanted=plane in wanted))
            if plane in wanted:
                read = partial(self._strip, place, plane) if lazy else labels[-1].__getitem__
                counts_ZK[number], found = self._examine(read, strips)
                anchors |= {(number, index): pixels for index, pixels in found.items()}
                self._tell()
        return Volume(
            image_ZCYX=LazyImage(self.collection, place, planes) if lazy else np.stack(images),
            label_ZYX=LazyLabels(self, place, planes, frozenset(wanted)) if lazy else np.stack(labels),
            counts_ZK=counts_ZK,
            item=place.item,
            first=start,
            row=place.rows[0],
            name=self.collection.entries[place.item].item.name,
            anchors=anchors,
        )

    def labels(
        self, item: int, plane: int, rows: slice, columns: slice = slice(None), wanted: bool = True
    ) -> np.ndarray:
        """Return labels of part of a plane, of `label_dtype`; IGNORE throughout if it is not `wanted`."""
        if wanted and self.label_dtype == OBJECTS:
            return number_plane(self.collection, item, plane, self.rule, rows, columns)
        if wanted:
            return encode_plane(self.collection, item, plane, self.class_values, self.rule, rows, columns)
        entry = self.collection.entries[item]
        height, width = len(range(*rows.indices(entry.height))), len(range(*columns.indices(entry.width)))
        return np.full((height, width), IGNORE, self.label_dtype)

    def _strip(self, place: Region, plane: int, rows: slice) -> np.ndarray:
        """Return labels of some rows of a region, counted from its first."""
        return self.labels(place.item, plane, slice(place.rows[0] + rows.start, place.rows[0] + rows.stop))

    def _examine(
        self, read: Callable[[slice], np.ndarray], strips: Sequence[slice]
    ) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """Return the pixels of every class in a slice, and pixels that patches may be drawn around.

        There are none of the latter in slices where patches may lie anywhere.
        """
        counts_K, size = np.zeros(len(self.class_values), np.int64), 0
        for rows in strips:
            label_YX = class_indices(read(rows))
            counts_K += np.bincount(label_YX[label_YX != IGNORE], minlength=len(counts_K))
            size += label_YX.size
        sparse = counts_K.sum() < SPARSE * size
        if not (sparse or self._data.foreground_patches or self._data.mode == "3d"):
            return counts_K, {}
        # 8 bytes each: of very many slices fewer pixels are kept.
        limit = min(MOST_ANCHORS, max(LEAST_ANCHORS, ALL_ANCHORS // self.collection.count))
        found: dict[int, list[np.ndarray]] = {}
        for rows in strips:
            if len(strips) > 1:
                label_YX = class_indices(read(rows))
            for index, pixel_N2 in find_anchors(
                label_YX, len(counts_K), max(1, limit // len(strips))
            ).items():
                found.setdefault(index, []).append(
                    pixel_N2 + np.asarray([rows.start or 0, 0], pixel_N2.dtype)
                )
        return counts_K, {index: np.concatenate(parts) for index, parts in found.items()}

    def _tell(self) -> None:
        self._done += 1
        if self.progress:
            self.progress(self._done)


class LazyImage:
    """Planes `Z C Y X` of an image, read where they are asked for; satisfies `Pixels`."""

    def __init__(self, collection: Collection, place: Region, planes: tuple[int, int]) -> None:
        self._collection, self._item = collection, place.item
        self._first, self._row = planes[0], place.rows[0]
        self.dtype: np.dtype[Any] = collection.dtype
        height = place.rows[1] - place.rows[0]
        width = collection.entries[place.item].width
        self.shape: tuple[int, ...] = (planes[1] - planes[0], collection.channels, height, width)

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        """Return a part, one slice per axis."""
        (z0, z1), (c0, c1), (y0, y1), (x0, x1) = full_region(region, self.shape)
        images = self._collection.open(self._item).images
        rows = slice(self._row + y0, self._row + y1)
        planes = [images.window(self._first + z, rows, slice(x0, x1))[c0:c1] for z in range(z0, z1)]
        return np.stack(planes) if planes else np.empty((0, c1 - c0, y1 - y0, x1 - x0), self.dtype)


class LazyLabels:
    """Labels `Z Y X` of an image, read where they are asked for; satisfies `Pixels`."""

    def __init__(
        self, loader: Loader, place: Region, planes: tuple[int, int], wanted: frozenset[int]
    ) -> None:
        self._loader, self._item, self._wanted = loader, place.item, wanted
        self._first, self._row = planes[0], place.rows[0]
        self.dtype: np.dtype[Any] = loader.label_dtype
        width = loader.collection.entries[place.item].width
        self.shape: tuple[int, ...] = (planes[1] - planes[0], place.rows[1] - place.rows[0], width)

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        """Return a part, one slice per axis."""
        (z0, z1), (y0, y1), (x0, x1) = full_region(region, self.shape)
        rows, columns = slice(self._row + y0, self._row + y1), slice(x0, x1)
        planes = range(self._first + z0, self._first + z1)
        parts = [
            self._loader.labels(self._item, plane, rows, columns, plane in self._wanted) for plane in planes
        ]
        return np.stack(parts) if parts else np.empty((0, y1 - y0, x1 - x0), self.dtype)
