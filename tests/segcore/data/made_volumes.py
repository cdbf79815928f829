"""Volumes made of random numbers, for the tests of patches."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from segcore.card import Normalization
from segcore.data.augment import AugmentOptions, draw, sampling_offsets
from segcore.data.volumes import Volume, find_anchors

CPU = torch.device("cpu")
CLASSES = 3


def volume_of(image_ZCYX: Any, label_ZYX: Any, **more: Any) -> Volume:
    """Return a volume with counts and anchors as loading finds them."""
    label_ZYX = np.asarray(label_ZYX, np.int16)
    classes = max(CLASSES, int(label_ZYX.max()) + 1)
    counts_ZK = np.stack([np.bincount(plane[plane >= 0], minlength=classes) for plane in label_ZYX])
    anchors = {
        (number, index): pixels
        for number, plane in enumerate(label_ZYX)
        for index, pixels in find_anchors(plane, classes).items()
    }
    return Volume(image_ZCYX, label_ZYX, counts_ZK, anchors=anchors, **more)


def plane_of(image_CYX: Any, label_YX: Any) -> Volume:
    """Return a volume of one slice."""
    return volume_of(np.asarray(image_CYX)[None], np.asarray(label_YX)[None])


def random_volume(
    shape: tuple[int, int, int], dtype: Any = np.uint16, channels: int = 2, seed: int = 0
) -> Volume:
    """Return random grey values `(Z, channels, Y, X)` with labels that follow from the first channel."""
    depth, height, width = shape
    high = 255 if dtype == np.uint8 else 60000
    image = np.random.default_rng(seed).integers(0, high, (depth, channels, height, width)).astype(dtype)
    return volume_of(image, image[:, 0].astype(np.int64) % CLASSES)


def plain(channels: int) -> Normalization:
    """Return a normalisation that changes nothing."""
    return Normalization(kind="none", offset=(0.0,) * channels, scale=(1.0,) * channels)


def plain_offsets(count: int, size: int) -> Tensor:
    """Return the points of patches that are not varied."""
    generator = torch.Generator().manual_seed(0)
    return sampling_offsets(draw(AugmentOptions.off(), (count, 1, size, size), generator), size, CPU)
