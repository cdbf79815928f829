"""Trainee: whatever can be trained step by step beside ours, and how it takes its turn in a contest."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from benchmarks.contest import Contestant
from segcore.data.volumes import Volume


@dataclass(frozen=True)
class Recipe:
    """What is the same for all: patch, batch and the size of the network.

    Parameters
    ----------
    patch : int
        Rows and columns of a patch.
    batch : int
        Patches per step.
    features, layers : int
        Feature maps of the first level, and how many times the image is halved.
    device : str
        Name of the device, as torch knows it.
    """

    patch: int
    batch: int
    features: int
    layers: int
    device: str

    @property
    def widths(self) -> tuple[int, ...]:
        """Feature maps of every level."""
        return tuple(self.features * 2**level for level in range(self.layers + 1))


class Trainee(Protocol):
    """A peer: its own network, loader, augmentation, loss and optimizer."""

    def step(self, progress: float) -> None:
        """Fetch a batch and take one step; `progress` (0 … 1) is the share of the time that is over."""

    def segment(self, image_CYX: np.ndarray) -> np.ndarray:
        """Return the class index of every pixel of a slice in the file's grey values."""

    def close(self) -> None:
        """End the processes that load."""


def taking_turns(trainee: Trainee, batch: int) -> Contestant:
    """Return the peer as a contestant: patches per second of its whole steps, loading included."""

    def work(seconds: float) -> float:
        steps, began = 0, time.monotonic()
        while time.monotonic() - began < seconds:
            trainee.step(0.0)
            steps += 1
        return steps * batch / (time.monotonic() - began)

    return work


def annotated_slices(volumes: Sequence[Volume]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return image `(C, Y, X)` and class indices `(Y, X)` of every annotated slice."""
    return [
        (volume.image_ZCYX[plane : plane + 1, :, :, :][0], volume.label_ZYX[plane : plane + 1, :, :][0])
        for volume in volumes
        for plane in volume.annotated
    ]
