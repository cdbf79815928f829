"""The scorer: predicts slices of annotated images, and counts right and wrong pixels of all and of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from segcore.blocks import Block
from segcore.config import DataConfig
from segcore.data.collection import Collection
from segcore.data.splits import Region
from segcore.data.suitability import remarks_on
from segcore.data.targets import LabelRule, encode_plane
from segcore.jobs.comparison import UNANNOTATED, thin_step
from segcore.metrics.overlap import Confusion, Scores
from segcore.models.saved import LoadedModel
from segcore.prediction import Prediction
from segcore.predictor import Predictor, most_probable
from segcore.rescale import SAME, scale_factors
from segcore.tiling import IGNORE


@dataclass(frozen=True)
class SliceScores:
    """What was found in one slice.

    Parameters
    ----------
    index : int
        Its number among all slices of the images, from 0.
    name : str
        What a person calls it.
    scores : Scores
        Of this slice alone.
    shown_2YX : ndarray
        Predicted and annotated class of the pixels that `thin_step` leaves, UNANNOTATED where they do not
        count.
    f1 : float or None
        F1 of the objects in it at an IoU of 0.5, where they are told apart; nan where there are none.
    """

    index: int
    name: str
    scores: Scores
    shown_2YX: np.ndarray
    f1: float | None = None


@dataclass(frozen=True)
class Step:
    """How far the scoring of an image is.

    Parameters
    ----------
    done, total : int
        Blocks that were predicted, and that have to be.
    unit : str
        What a person calls a block.
    slices : int
        Slices of which this block was the last.
    """

    done: int
    total: int
    unit: str
    slices: int


class Watcher:
    """Is told what an evaluation is about, and then slice by slice what it found; this one forgets it."""

    needs_slices = False
    """Whether it wants the scores of single slices, for which a GPU has to be waited for."""

    def begin(self, data: DataConfig, model: LoadedModel) -> None:
        """Take note of the images as they are read, and of the model."""

    def slice_scored(self, found: SliceScores) -> None:
        """Take note of a slice."""


class Scorer:
    """Predicts the slices of regions and counts right and wrong pixels."""

    def __init__(
        self,
        predictor: Predictor,
        collection: Collection,
        rule: LabelRule,
        rescale: bool,
        watcher: Watcher | None = None,
    ) -> None:
        self.predictor = predictor
        self.collection = collection
        self.rule = rule
        self.rescale = rescale
        self.watcher = watcher
        self._open: dict[int, OpenSlice] = {}
        self.counts = Confusion(len(predictor.card.class_values), predictor.hardware.device)

    def notes(self, item: int) -> list[str]:
        """Return what is to be said of an image before it is predicted."""
        images = self.collection.open(item).images
        return remarks_on(images, self.predictor.card, self.rescale)

    def score(self, regions: Sequence[Region], check: Callable[..., None]) -> Iterator[Step]:
        """Count the pixels in regions of one image, block by block.

        Parameters
        ----------
        regions : sequence of Region
            Of one image.
        check : callable
            Called while grey values are read and before every group of blocks; it may raise to break off.

        Yields
        ------
        Step
            After every block.
        """
        rows = self.rows_of(regions)
        if not rows:
            return
        prediction = self.predict(regions[0].item, check)
        blocks = prediction.blocks
        groups = list(prediction.groups(planes=rows.keys()))
        total, done = sum(map(len, groups)), 0
        for group in prediction.stream(groups, check):
            for block, logits_KZYX in group:
                index_ZYX = most_probable(logits_KZYX)
                for plane, index_YX in zip(block.planes, index_ZYX, strict=True):
                    for part in rows.get(plane, ()):
                        self._count(regions[0].item, plane, part, block, index_YX)
                last = block.number % blocks.per_layer == blocks.per_layer - 1
                closed = [plane for plane in block.planes if last and plane in rows]
                for plane in closed:
                    self._close(regions[0].item, plane)
                done += 1
                yield Step(done, total, prediction.unit, len(closed))

    def rows_of(self, regions: Sequence[Region]) -> dict[int, list[slice]]:
        """Return the rows that count of every plane in which something is annotated."""
        rows: dict[int, list[slice]] = {}
        for region in regions:
            for plane in range(*region.planes):
                if self._annotated(region, plane):
                    rows.setdefault(plane, []).append(slice(*region.rows))
        return rows

    def predict(self, item: int, told: Callable[..., None]) -> Prediction:
        """Return the prediction of an image."""
        images = self.collection.open(item).images
        size = images.source.pixel_size
        factors = scale_factors(size, self.predictor.card) if self.rescale else SAME
        return Prediction(self.predictor, images, factors, told=told)

    def _count(self, item: int, plane: int, part: slice, block: Block, index_YX: Tensor) -> None:
        """Count the pixels of a block in those rows of a plane that count."""
        top, end = max(part.start, block.rows[0]), min(part.stop, block.rows[1])
        if top < end:
            target_YX = self._target(item, plane, slice(top, end), slice(*block.columns))
            own_YX = index_YX[top - block.rows[0] : end - block.rows[0]]
            if self.watcher is None:
                self.counts.update(own_YX, target_YX)
                return
            if plane not in self._open:
                entry = self.collection.entries[item]
                self._open[plane] = OpenSlice(self.counts, entry.height, entry.width)
            self._open[plane].add(own_YX, target_YX, top, block.columns[0])

    def _close(self, item: int, plane: int) -> None:
        """Count a slice of which all blocks are there, and tell the watcher."""
        found = self._open.pop(plane, None)
        if found is None or self.watcher is None:
            return
        self.counts += found.counts
        index = self.collection.position(item, plane)
        scores = found.counts.scores(self.predictor.card.class_values)
        self.watcher.slice_scored(SliceScores(index, self.collection.name(index), scores, found.shown_2YX))

    def _annotated(self, region: Region, plane: int) -> bool:
        """Say whether anything is annotated; only asked of the labels where something can be missing."""
        opened = self.collection.open(region.item)
        if self.rule == LabelRule(self.rule.labels_as) and not opened.masks:
            return True
        return bool((self._target(region.item, plane, slice(*region.rows)) != IGNORE).any())

    def _target(self, item: int, plane: int, rows: slice, columns: slice = slice(None)) -> Tensor:
        values = self.predictor.card.class_values
        label_YX = encode_plane(self.collection, item, plane, values, self.rule, rows, columns)
        return torch.from_numpy(label_YX).to(self.predictor.hardware.device)


class OpenSlice:
    """Counts and picture of one slice, block by block.

    Parameters
    ----------
    counts : Confusion
        Of the whole: gives classes and device.
    height, width : int
        Of the slice, px.
    """

    def __init__(self, counts: Confusion, height: int, width: int) -> None:
        self.counts = Confusion(counts.classes, counts.counts_KK.device)
        self.step = thin_step(height, width)
        shape = (2, -(-height // self.step), -(-width // self.step))
        self.shown_2YX = np.full(shape, UNANNOTATED, np.uint8)

    def add(self, index_YX: Tensor, target_YX: Tensor, row: int, column: int) -> None:
        """Take predicted and annotated classes of a part that begins at `row` and `column`."""
        self.counts.update(index_YX, target_YX)
        step, places = self.step, []
        for start, size in zip((row, column), index_YX.shape, strict=True):
            places.append(slice(-(-start // step), -(-(start + size) // step)))
        first = [place.start * step - start for place, start in zip(places, (row, column), strict=True)]
        thin = tuple(slice(begin, None, step) for begin in first)
        target, index = (part_YX[thin].cpu().numpy() for part_YX in (target_YX, index_YX))
        counted = target != IGNORE
        own = self.shown_2YX[:, places[0], places[1]]
        own[0][counted], own[1][counted] = index[counted], target[counted]
