"""Signals: taken note of and looked at by loops, not an exception in the middle of things."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

END = ("SIGINT", "SIGTERM")
ALL = (*END, "SIGUSR1", "SIGUSR2")


class StopSignals:
    """Counts signals while it is entered; afterwards they do again what they did before.

    Outside the main thread, which alone may handle signals, it counts nothing.

    Parameters
    ----------
    on_signal : callable, optional
        Called with the name of every signal and how many have come so far.
    names : sequence of str
        Which signals, as far as the system has them; by default SIGINT and SIGTERM.
    """

    def __init__(
        self, on_signal: Callable[[str, int], None] = lambda name, count: None, names: Sequence[str] = END
    ) -> None:
        self.count = 0
        self._on_signal = on_signal
        self._names = [name for name in names if hasattr(signal, name)]
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for name in self._names:
                number = getattr(signal, name)
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        self._on_signal(signal.Signals(number).name, self.count)
