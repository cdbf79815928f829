"""The scorer of models that tell objects apart: objects found and missed, beside right and wrong pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from segcore.data.splits import Region
from segcore.data.targets import number_plane
from segcore.data.volumes import class_indices
from segcore.inference.scorer import OpenSlice, Scorer, SliceScores, Step
from segcore.metrics.instances import USUAL, InstanceCounts
from segcore.objects import ObjectParts
from segcore.tiling import IGNORE

Wanted = Mapping[int, Sequence[slice]]
"""From the planes of an image that count to the rows that do."""


class ObjectScorer(Scorer):
    """Predicts the slices of regions whole, and counts their objects; in 3d those of whole volumes.

    Parameters as of `Scorer`.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.objects = InstanceCounts()

    def score(self, regions: Sequence[Region], check: Callable[..., None]) -> Iterator[Step]:
        """Count pixels and objects in regions of one image, block by block; see `Scorer.score`."""
        item, rows = regions[0].item, self.rows_of(regions)
        if not rows:
            return
        prediction = self.predict(item, check)
        with TemporaryDirectory(prefix="segcore-objects-") as folder:
            parts = ObjectParts(prediction, Path(folder))
            found: list[int] = []
            groups = list(prediction.groups(planes=rows.keys()))
            total, done = sum(map(len, groups)), 0
            around = ([prediction.around(block) for block in group] for group in groups)
            for group in prediction.stream(around, check):
                for block, maps in group:
                    scored = 0
                    if found and parts.scene(found[0]) != parts.scene(block.number):
                        scored, found = self._score_scene(item, parts, found, rows), []
                    parts.keep(block, maps)
                    found.append(block.number)
                    done += 1
                    yield Step(done, total, prediction.unit, scored)
            yield Step(total, total, prediction.unit, self._score_scene(item, parts, found, rows))

    def results(self) -> dict[str, Any]:
        """Return the scores of objects, as `evaluate` gives them."""
        scores = self.objects.scores()
        return {
            "val_ap50": scores.average_precision[USUAL],
            "val_f1": scores.f1[USUAL],
            "val_pq": scores.panoptic_quality[USUAL],
            "val_ap": scores.mean_average_precision,
            "objects_annotated": scores.annotated,
            "objects_predicted": scores.predicted,
        }

    def _score_scene(self, item: int, parts: ObjectParts, numbers: Sequence[int], rows: Wanted) -> int:
        """Count what was found in a plane, in 3d in a volume; return how many slices that were."""
        if not numbers:
            return 0
        parts.join(numbers)
        blocks = [parts.prediction.blocks[number] for number in numbers]
        planes = sorted({plane for block in blocks for plane in block.planes})
        entry = self.collection.entries[item]
        labels_ZYX = np.zeros((len(planes), entry.height, entry.width), np.int64)
        for block in blocks:
            first = planes.index(block.planes[0])
            place = slice(first, first + len(block.planes)), slice(*block.rows), slice(*block.columns)
            labels_ZYX[place] = parts.read(block.number)
        parts.forget(numbers)
        counted = [plane for plane in planes if plane in rows]
        target_ZYX = np.stack([self._numbers(item, plane, rows[plane]) for plane in counted])
        labels_ZYX = labels_ZYX[[planes.index(plane) for plane in counted]]
        self.objects.update(labels_ZYX, target_ZYX)
        for plane, label_YX, target_YX in zip(counted, labels_ZYX, target_ZYX, strict=True):
            self._count_slice(item, plane, label_YX, target_YX)
        return len(counted)

    def _numbers(self, item: int, plane: int, rows: Sequence[slice]) -> np.ndarray:
        """Return the annotated objects `(Y, X)` of a plane, IGNORE in rows that do not count."""
        entry = self.collection.entries[item]
        numbers_YX = np.full((entry.height, entry.width), IGNORE, np.int32)
        for part in rows:
            numbers_YX[part] = number_plane(self.collection, item, plane, self.rule, part)
        return numbers_YX

    def _count_slice(self, item: int, plane: int, label_YX: np.ndarray, target_YX: np.ndarray) -> None:
        """Count the pixels of a slice, and tell the watcher."""
        device = self.predictor.hardware.device
        index_YX = torch.from_numpy(np.minimum(label_YX, 1)).to(device)
        class_YX = torch.from_numpy(class_indices(target_YX)).to(device)
        if self.watcher is None:
            self.counts.update(index_YX, class_YX)
            return
        found = OpenSlice(self.counts, *target_YX.shape)
        found.add(index_YX, class_YX, 0, 0)
        self.counts += found.counts
        objects = InstanceCounts((USUAL,))
        objects.update(label_YX, target_YX)
        index = self.collection.position(item, plane)
        scores = found.counts.scores(self.predictor.card.class_values)
        name = self.collection.name(index)
        self.watcher.slice_scored(
            SliceScores(index, name, scores, found.shown_2YX, objects.scores().f1[USUAL])
        )
