"""Scores of objects: average precision, F1 and panoptic quality from label images, added up over images.

Objects of a label image are its values above 0; 0 is background. A predicted object is right at a threshold
if its IoU with an annotated object reaches it, one with one: the matching of StarDist (Schmidt et al. 2018)
and Cellpose (Stringer et al. 2021). Average precision is here, as there and in the Data Science Bowl 2018,
TP / (TP + FP + FN) at one threshold; the area under the curve of COCO, which needs scores of the objects, is
in `segcore.metrics.coco`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from segcore.errors import ConfigError

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""IoU from 0.5 to 0.95, as in COCO (Lin et al. 2014)."""
USUAL = 0.5
"""The threshold at which methods are usually compared."""
VOID_SHARE = 0.5
"""Predicted objects of which more than this share was not annotated do not count (Kirillov et al. 2019)."""


class InstanceScores(NamedTuple):
    """Scores of objects, keyed or listed by IoU threshold; nan where there are no objects at all."""

    average_precision: dict[float, float]
    """TP / (TP + FP + FN)."""
    precision: dict[float, float]
    """TP / (TP + FP)."""
    recall: dict[float, float]
    """TP / (TP + FN)."""
    f1: dict[float, float]
    """2·TP / (2·TP + FP + FN), also called recognition quality (RQ)."""
    segmentation_quality: dict[float, float]
    """SQ: mean IoU of the pairs that match."""
    panoptic_quality: dict[float, float]
    """PQ = SQ · RQ (Kirillov et al. 2019, "Panoptic segmentation"); by its definition at 0.5."""
    mean_average_precision: float
    """Mean of the average precision over the thresholds."""
    annotated: int
    """Objects that were annotated."""
    predicted: int
    """Objects that were predicted."""


@dataclass
class InstanceCounts:
    """Objects found, missed and made up, of any number of images.

    Parameters
    ----------
    thresholds : sequence of float
        IoU from which an object counts as found, 0.5 to 1: below, one object could be found twice.

    Raises
    ------
    ConfigError
        A threshold is below 0.5 or above 1.
    """

    thresholds: tuple[float, ...] = THRESHOLDS
    annotated: int = 0
    predicted: int = 0
    found_T: np.ndarray = field(init=False)
    """Pairs that match at every threshold, int64."""
    overlap_T: np.ndarray = field(init=False)
    """Sum of their IoU."""

    def __post_init__(self) -> None:
        wrong = [threshold for threshold in self.thresholds if not 0.5 <= threshold <= 1]
        if wrong:
            raise ConfigError(
                f"The IoU threshold {wrong[0]:g} is not between 0.5 and 1.",
                "Below 0.5 one object could match several.",
            )
        self.found_T = np.zeros(len(self.thresholds), np.int64)
        self.overlap_T = np.zeros(len(self.thresholds))

    def update(self, prediction: np.ndarray, target: np.ndarray) -> None:
        """Count the objects of one image.

        Parameters
        ----------
        prediction, target : ndarray
            Label images of the same shape, any number of axes; 0 is background. Pixels where `target` is
            negative were not annotated: they belong to no object, and predicted objects that lie mostly there
            are left out.

        Raises
        ------
        ValueError
            The shapes differ.
        """
        overlaps = overlapping(prediction, target)
        self.annotated += overlaps.annotated
        self.predicted += overlaps.predicted
        for number, threshold in enumerate(self.thresholds):
            found = _matched(overlaps, threshold)
            self.found_T[number] += len(found)
            self.overlap_T[number] += found.sum()

    def __add__(self, other: InstanceCounts) -> InstanceCounts:
        """Return the counts of both; their thresholds must be the same."""
        if self.thresholds != other.thresholds:
            raise ValueError("counts at different thresholds cannot be added")
        total = InstanceCounts(self.thresholds, self.annotated + other.annotated)
        total.predicted = self.predicted + other.predicted
        total.found_T = self.found_T + other.found_T
        total.overlap_T = self.overlap_T + other.overlap_T
        return total

    def numbers(self) -> np.ndarray:
        """Return all counts one behind the other, float64, so that they can be added up elsewhere."""
        return np.concatenate([[self.annotated, self.predicted], self.found_T, self.overlap_T])

    @classmethod
    def of_numbers(cls, numbers: np.ndarray) -> InstanceCounts:
        """Return the counts at `THRESHOLDS` that `numbers` were made of."""
        counts = cls(THRESHOLDS, round(numbers[0]), round(numbers[1]))
        found, overlap = np.split(numbers[2:], 2)
        counts.found_T, counts.overlap_T = np.rint(found).astype(np.int64), overlap
        return counts

    def scores(self) -> InstanceScores:
        """Return all scores of what was counted."""
        found, overlap = self.found_T.tolist(), self.overlap_T.tolist()
        both = self.annotated + self.predicted
        ap = [_ratio(hits, both - hits) for hits in found]
        f1 = [_ratio(2 * hits, both) for hits in found]
        none = 0.0 if both else math.nan
        sq = [shared / hits if hits else none for shared, hits in zip(overlap, found, strict=True)]
        return InstanceScores(
            average_precision=self._keyed(ap),
            precision=self._keyed([_ratio(hits, self.predicted) for hits in found]),
            recall=self._keyed([_ratio(hits, self.annotated) for hits in found]),
            f1=self._keyed(f1),
            segmentation_quality=self._keyed(sq),
            panoptic_quality=self._keyed([quality * share for quality, share in zip(sq, f1, strict=True)]),
            mean_average_precision=sum(ap) / len(ap) if ap else math.nan,
            annotated=self.annotated,
            predicted=self.predicted,
        )

    def _keyed(self, values: Sequence[float]) -> dict[float, float]:
        return dict(zip(self.thresholds, values, strict=True))


class Overlaps(NamedTuple):
    """Which objects of two label images overlap, and how much; P pairs that share at least a pixel."""

    annotated: int
    """Objects that were annotated."""
    predicted: int
    """Objects that were predicted and count."""
    pair_P2: np.ndarray
    """Positions of its annotated and predicted object among `annotated_values` and `predicted_values`."""
    iou_P: np.ndarray
    annotated_values: np.ndarray
    """Ascending values of the annotated objects."""
    predicted_values: np.ndarray
    """Ascending values of the predicted objects that count."""


def overlapping(prediction: np.ndarray, target: np.ndarray) -> Overlaps:
    """Return the pairs of objects that share pixels, with their IoU; see `InstanceCounts.update`.

    A few sorts of the pixels that belong to objects: time and memory do not grow with the number of objects.

    Raises
    ------
    ValueError
        The shapes differ.
    """
    if prediction.shape != target.shape:
        raise ValueError(f"prediction has the shape {prediction.shape}, the annotation {target.shape}")
    predicted_values, whole_P = np.unique(prediction[prediction > 0], return_counts=True)
    known = target >= 0
    prediction_N, target_N = prediction[known], target[known]
    kept_values, kept_P = np.unique(prediction_N[prediction_N > 0], return_counts=True)
    whole_P = whole_P[np.searchsorted(predicted_values, kept_values)]
    counts = kept_P >= (1 - VOID_SHARE) * whole_P
    kept_values, kept_P = kept_values[counts], kept_P[counts]
    annotated_values, annotated_P = np.unique(target_N[target_N > 0], return_counts=True)

    shared = (target_N > 0) & np.isin(prediction_N, kept_values)
    row_N = np.searchsorted(annotated_values, target_N[shared])
    column_N = np.searchsorted(kept_values, prediction_N[shared])
    columns = max(1, len(kept_values))
    cells, both_P = np.unique(row_N.astype(np.int64) * columns + column_N, return_counts=True)
    pair_P2 = np.stack(np.divmod(cells, columns), axis=-1)
    either_P = annotated_P[pair_P2[:, 0]] + kept_P[pair_P2[:, 1]] - both_P
    return Overlaps(
        annotated=len(annotated_values),
        predicted=len(kept_values),
        pair_P2=pair_P2,
        iou_P=both_P / np.maximum(either_P, 1),
        annotated_values=annotated_values,
        predicted_values=kept_values,
    )


def _matched(overlaps: Overlaps, threshold: float) -> np.ndarray:
    """Return the IoU of as many pairs as can be matched one with one at a threshold of at least 0.5.

    An object with more than half of its union in common with another has no second such partner. Only at
    exactly 0.5 there may be a choice, which changes the number of pairs, but not their IoU.
    """
    close_P = overlaps.iou_P >= threshold
    if not (close_P & (overlaps.iou_P == 0.5)).any():
        return overlaps.iou_P[close_P]
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    pairs = overlaps.pair_P2[close_P]
    shape = (overlaps.annotated, overlaps.predicted)
    graph = csr_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=shape)
    partner = maximum_bipartite_matching(graph, perm_type="column")
    chosen_P = partner[overlaps.pair_P2[:, 0]] == overlaps.pair_P2[:, 1]
    return overlaps.iou_P[close_P & chosen_P]


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
