"""Dice, IoU, precision, recall and accuracy from a confusion matrix that can be filled piece by piece."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Totals = tuple[int, int, int]
"""Of a class: pixels predicted rightly, annotated, predicted."""


@dataclass(frozen=True)
class Scores:
    """Overlap of prediction and annotation, keyed by label value; a class absent in both is left out.

    A class that was not predicted has no precision, one that was not annotated no recall.
    """

    dice: dict[str, float]
    iou: dict[str, float]
    precision: dict[str, float]
    recall: dict[str, float]
    mean_dice: float
    mean_iou: float
    accuracy: float
    """Share of the annotated pixels that were predicted rightly; nan if there are none."""


class Confusion:
    """Counts of pixels by annotated class (row) and predicted class (column).

    Parameters
    ----------
    classes : int
        Number of classes K.
    device : torch.device or str
        Where the counts live; `update` takes tensors of this device and never waits for it.
    """

    def __init__(self, classes: int, device: torch.device | str = "cpu") -> None:
        self.classes = classes
        self.counts_KK = torch.zeros((classes, classes), dtype=torch.int64, device=device)

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count the pixels of one piece; those of which either is IGNORE (or negative) are left out.

        Parameters
        ----------
        prediction, target : Tensor
            Class indices, any integer type, same shape.
        """
        target = target.long()
        # Pixels without annotation go into one more bin: picking them out would need their number on the
        # host.
        known = (target >= 0) & (prediction >= 0)
        cells = torch.where(known, target * self.classes + prediction, self.classes**2).flatten()
        bins = self.classes**2 + 1
        if cells.is_cuda:
            # bincount asks the host for the largest value; scatter_add does not.
            ones = torch.ones((), dtype=torch.int64, device=cells.device).expand_as(cells)
            counts = torch.zeros(bins, dtype=torch.int64, device=cells.device).scatter_add_(0, cells, ones)
        else:
            counts = torch.bincount(cells, minlength=bins)
        self.counts_KK += counts[:-1].view(self.classes, self.classes)

    def __add__(self, other: Confusion) -> Confusion:
        """Return the counts of both."""
        total = Confusion(self.classes, self.counts_KK.device)
        total.counts_KK = self.counts_KK + other.counts_KK.to(self.counts_KK.device)
        return total

    def dice(self) -> list[float]:
        """Return 2·TP / (2·TP + FP + FN) of every class, nan for one absent in prediction and annotation."""
        return _dice(self._totals())

    def iou(self) -> list[float]:
        """Return TP / (TP + FP + FN) of every class, nan for a class absent in prediction and annotation."""
        return _iou(self._totals())

    def precision(self) -> list[float]:
        """Return TP / (TP + FP) of every class, nan for one that was not predicted."""
        return _precision(self._totals())

    def recall(self) -> list[float]:
        """Return TP / (TP + FN) of every class, nan for one that was not annotated."""
        return _recall(self._totals())

    @property
    def mean_dice(self) -> float:
        """Mean Dice over the classes present in prediction or annotation; nan if nothing was counted."""
        return _mean(self.dice())

    @property
    def mean_iou(self) -> float:
        """Mean IoU over the classes present in prediction or annotation; nan if nothing was counted."""
        return _mean(self.iou())

    @property
    def accuracy(self) -> float:
        """Share of the pixels that were predicted rightly; nan if nothing was counted."""
        return _accuracy(self._totals())

    def scores(self, class_values: Sequence[int]) -> Scores:
        """Return all scores, keyed by the label value of each class.

        Parameters
        ----------
        class_values : sequence of int
            Label value of every class index.
        """
        totals = self._totals()
        dice, iou = _dice(totals), _iou(totals)
        return Scores(
            dice=_keyed(class_values, dice),
            iou=_keyed(class_values, iou),
            precision=_keyed(class_values, _precision(totals)),
            recall=_keyed(class_values, _recall(totals)),
            mean_dice=_mean(dice),
            mean_iou=_mean(iou),
            accuracy=_accuracy(totals),
        )

    def _totals(self) -> list[Totals]:
        """Return (hits, annotated, predicted) per class; the one place that waits for the device."""
        counts = self.counts_KK.cpu()
        return list(
            zip(
                counts.diagonal().tolist(),
                counts.sum(dim=1).tolist(),
                counts.sum(dim=0).tolist(),
                strict=True,
            )
        )


def _dice(totals: Sequence[Totals]) -> list[float]:
    return [_ratio(2 * hit, annotated + predicted) for hit, annotated, predicted in totals]


def _iou(totals: Sequence[Totals]) -> list[float]:
    return [_ratio(hit, annotated + predicted - hit) for hit, annotated, predicted in totals]


def _precision(totals: Sequence[Totals]) -> list[float]:
    return [_ratio(hit, predicted) for hit, _, predicted in totals]


def _recall(totals: Sequence[Totals]) -> list[float]:
    return [_ratio(hit, annotated) for hit, annotated, _ in totals]


def _accuracy(totals: Sequence[Totals]) -> float:
    return _ratio(sum(hit for hit, _, _ in totals), sum(annotated for _, annotated, _ in totals))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _mean(values: Sequence[float]) -> float:
    present = [value for value in values if not math.isnan(value)]
    return sum(present) / len(present) if present else math.nan


def _keyed(class_values: Sequence[int], values: Sequence[float]) -> dict[str, float]:
    pairs = zip(class_values, values, strict=True)
    return {str(label): value for label, value in pairs if not math.isnan(value)}
