"""Signals: SIGINT and SIGTERM as a counter that loops look at, not an exception in the middle of things."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class StopSignals:
    """Counts SIGINT and SIGTERM while it is entered; afterwards they do again what they did before.

    Outside the main thread, which alone may handle signals, it counts nothing.

    Parameters
    ----------
    on_signal : callable, optional
        Called with the count after every signal.
    """

    def __init__(self, on_signal: Callable[[int], None] = lambda count: None) -> None:
        self.count = 0
        self._on_signal = on_signal
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self._on_signal(self.count)
