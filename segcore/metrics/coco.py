"""COCO's mean average precision of objects, by the COCO tools themselves."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from segcore.metrics.instances import THRESHOLDS, overlapping


class CocoScores(NamedTuple):
    """Areas under the curves of precision and recall, averaged over the classes; nan without annotation."""

    mean_average_precision: float
    """Mean over IoU 0.5 to 0.95: what COCO calls AP or mAP."""
    average_precision: dict[float, float]
    """By IoU threshold."""
    average_recall: dict[float, float]
    """Share of the annotated objects that are found at all, by IoU threshold."""


class CocoCounts:
    """Annotated and predicted objects of any number of images, as COCO counts them (Lin et al. 2014).

    Unlike COCO's own summary, which ends at the 100 surest objects of an image, all of them count: a
    micrograph may show thousands. Every object takes a pass over its image, 1–2 ms per megapixel.
    """

    def __init__(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._annotated: list[dict[str, Any]] = []
        self._predicted: list[dict[str, Any]] = []

    def update(
        self,
        prediction: np.ndarray,
        target: np.ndarray,
        scores: Mapping[int, float] | None = None,
        predicted_classes: Mapping[int, int] | None = None,
        classes: Mapping[int, int] | None = None,
    ) -> None:
        """Take the objects of one image.

        Parameters
        ----------
        prediction, target : ndarray
            Label images `(Y, X)`, see `InstanceCounts.update`; what is not annotated counts as there.
        scores : mapping of int to float, optional
            How sure the prediction is of an object, by its value; by default all the same, and the mean
            average precision then tells little more than precision times recall.
        predicted_classes, classes : mapping of int to int, optional
            Class of every predicted and of every annotated object; by default there is one class.
        """
        overlaps = overlapping(prediction, target)
        number = len(self._images) + 1
        self._images.append({"id": number, "height": target.shape[0], "width": target.shape[1]})
        for value in overlaps.annotated_values.tolist():
            entry = _entry(target == value, number, (classes or {}).get(value, 1))
            self._annotated.append({**entry, "id": len(self._annotated) + 1, "iscrowd": 0})
        known = target >= 0
        for value in overlaps.predicted_values.tolist():
            entry = _entry((prediction == value) & known, number, (predicted_classes or {}).get(value, 1))
            self._predicted.append({**entry, "score": (scores or {}).get(value, 1.0)})

    def scores(self) -> CocoScores:
        """Return the scores of all images together."""
        if not (self._annotated and self._predicted):
            value = 0.0 if self._annotated else math.nan
            return CocoScores(value, dict.fromkeys(THRESHOLDS, value), dict.fromkeys(THRESHOLDS, value))
        found = self._evaluated()
        # Thresholds, recall levels, classes, areas of objects (the first is all), most objects per image.
        precision_TRK, recall_TK = found["precision"][:, :, :, 0, -1], found["recall"][:, :, 0, -1]
        there_K = recall_TK[0] > -1
        ap = precision_TRK[:, :, there_K].mean((1, 2)).tolist()
        recall = recall_TK[:, there_K].mean(1).tolist()
        return CocoScores(
            sum(ap) / len(ap),
            dict(zip(THRESHOLDS, ap, strict=True)),
            dict(zip(THRESHOLDS, recall, strict=True)),
        )

    def _evaluated(self) -> dict[str, np.ndarray]:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        classes = sorted({entry["category_id"] for entry in (*self._annotated, *self._predicted)})
        with contextlib.redirect_stdout(io.StringIO()):  # the tools tell what they do
            truth = COCO()
            truth.dataset = {
                "info": {},
                "images": self._images,
                "annotations": self._annotated,
                "categories": [{"id": number, "name": str(number)} for number in classes],
            }
            truth.createIndex()
            evaluation = COCOeval(truth, truth.loadRes(self._predicted), "segm")
            evaluation.params.maxDets = [len(self._predicted)]
            evaluation.params.iouThrs = np.array(THRESHOLDS)
            evaluation.evaluate()
            evaluation.accumulate()
        counted: dict[str, np.ndarray] = evaluation.eval
        return counted


def _entry(mask_YX: np.ndarray, image: int, category: int) -> dict[str, Any]:
    from pycocotools import mask

    coded = mask.encode(np.asfortranarray(mask_YX, np.uint8))
    return {
        "image_id": image,
        "category_id": category,
        "segmentation": coded,
        "area": float(mask.area(coded)),
        "bbox": mask.toBbox(coded).tolist(),
    }
