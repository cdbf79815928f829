"""KeptPlanes: planes that took long to make, in memory for a while, together no larger than a budget."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

import numpy as np

BUDGET = 2**26
"""Bytes of all planes together: 64 MiB, which is 64 slices of 1000 × 1000 pixels."""


class KeptPlanes:
    """The planes that were asked for last; safe to use from several threads.

    Parameters
    ----------
    budget : int
        Bytes of all planes together. A plane larger than a quarter of that is not kept.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self._budget = budget
        self._planes: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def takes(self, size: int) -> bool:
        """Return whether a plane of so many bytes is kept."""
        return 4 * size <= self._budget

    def find(self, key: Hashable) -> np.ndarray | None:
        """Return the plane that was kept under `key`, which nobody may write to; None if it is gone."""
        with self._lock:
            if key in self._planes:
                self._planes.move_to_end(key)
            return self._planes.get(key)

    def keep(self, key: Hashable, plane: np.ndarray) -> None:
        """Keep a plane, and let go of those that were not asked for longest."""
        if not self.takes(plane.nbytes):
            return
        plane.setflags(write=False)
        with self._lock:
            self._planes[key] = plane
            while sum(kept.nbytes for kept in self._planes.values()) > self._budget:
                self._planes.popitem(last=False)
