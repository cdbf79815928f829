"""Examinations: the data doctor at work beside the page, one data set at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, replace

from app.data_desk import DataDesk
from app.session import Problem, attempt
from segcore.config import DataConfig
from segcore.data.collection import Collection
from segcore.data.doctor.examine import examine
from segcore.data.doctor.proposal import Diagnosis

IDLE = {
    "patch_size", "patch_depth", "patches_per_image", "foreground_patches", "loading", "augmentation",
    "class_names", "channel_names", "normalization", "normalize_per",
}  # fmt: skip
"""Options that say nothing about the data itself."""
KEPT = 4


@dataclass(frozen=True)
class Examination:
    """How far the doctor is with a data set, and what came of it.

    Parameters
    ----------
    diagnosis : Diagnosis, optional
        What was found, once it is known.
    problem : Problem, optional
        Why nothing could be found.
    done, total : int
        Steps of the work.
    """

    diagnosis: Diagnosis | None = None
    problem: Problem | None = None
    done: int = 0
    total: int = 0

    @property
    def pending(self) -> bool:
        """Whether the doctor is still at work."""
        return self.diagnosis is None and self.problem is None


class Examinations:
    """Begins examinations and remembers the last few.

    Parameters
    ----------
    desk : DataDesk
        Opens the data.
    """

    def __init__(self, desk: DataDesk) -> None:
        self._desk = desk
        self._known: OrderedDict[Hashable, Examination] = OrderedDict()
        self._lock = threading.Lock()
        self._working = threading.Lock()

    def of(self, data: DataConfig) -> Examination:
        """Return how far the examination of a data set is; the first call begins it.

        Raises
        ------
        DataError
            A file is missing.
        """
        key = (self._desk.stamp(data), data.model_dump_json(exclude=IDLE))
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
            self._known[key] = Examination()
            while len(self._known) > KEPT:
                self._known.popitem(last=False)
        threading.Thread(target=self._work, args=(key, data), daemon=True).start()
        return Examination()

    def _work(self, key: Hashable, data: DataConfig) -> None:
        def tell(done: int, total: int) -> None:
            self._note(key, Examination(done=done, total=total))

        def work() -> Diagnosis:
            # One after the other: two would only be slower, and need twice the memory.
            with self._working:
                whole = attempt(lambda: self._desk.collection(data))
                # Where they cannot be opened together, the doctor looks for the reason.
                collection = whole if isinstance(whole, Collection) else None
                return examine(collection, self._desk.located(data), tell)

        found = attempt(work)
        result = Examination(problem=found) if isinstance(found, Problem) else Examination(diagnosis=found)
        self._note(key, result)

    def _note(self, key: Hashable, examination: Examination) -> None:
        with self._lock:
            if key in self._known:
                self._known[key] = replace(examination)
