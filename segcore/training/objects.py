"""What a run that learns objects must know of those that are annotated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from segcore.card import ObjectHead
from segcore.config import ModelConfig
from segcore.data.dataset import TrainingData
from segcore.data.volumes import Volume
from segcore.postprocess.heads import describe_head
from segcore.postprocess.objects import boxes, numbered

MOST_PLANES = 32
"""Slices that are looked at; evenly spread."""
MOST = 90
"""Percentile of the objects' sides: the largest may be two that somebody forgot to part."""
UNKNOWN = 32.0
"""Side in px where no object was seen."""


def head_for(model: ModelConfig, data: TrainingData) -> ObjectHead | None:
    """Return what the card says of how objects are learned; None where only classes are.

    Parameters
    ----------
    model : ModelConfig
        Says what is learned.
    data : TrainingData
        Its volumes hold numbers of objects; dimensions and voxels count, too.
    """
    if not model.learns_objects:
        return None
    return describe_head(model.head, data.mode == "3d", data.pixel_size, usual_side(data.train))


def usual_side(volumes: Sequence[Volume]) -> float:
    """Return the longest side, in px of a slice, that nine of ten annotated objects do not exceed.

    Every slice is looked at by itself: of an object in a volume, its widest slices count most.
    """
    places = [(volume, plane) for volume in volumes for plane in volume.annotated]
    chosen = np.linspace(0, len(places) - 1, min(MOST_PLANES, len(places))).round().astype(int)
    sides: list[int] = []
    for index in np.unique(chosen):
        volume, plane = places[index]
        numbers, _ = numbered(volume.label_ZYX[plane : plane + 1, :, :][0])
        sides += [max(side.stop - side.start for side in box) for _, box in boxes(numbers)]
    return float(np.percentile(sides, MOST)) if sides else UNKNOWN
