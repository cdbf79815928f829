"""A contest: two or more contestants take turns, so that whatever else the machine does hits all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

Contestant = Callable[[float], float]
"""Works for about the given seconds and returns units per second."""

OURS = "Segcore Studio"


@dataclass(frozen=True)
class Contest:
    """What the contestants reached.

    Parameters
    ----------
    title : str
        Name of the table in `benchmarks/README.md`.
    setting : str
        What was the same for all.
    unit : str
        Unit of the rates.
    rates : mapping of str to tuple of float
        Contestant → rate of every round.
    facts : str
        What else was measured of ours.
    """

    title: str
    setting: str
    unit: str
    rates: Mapping[str, tuple[float, ...]]
    facts: str = ""

    def rate(self, name: str) -> float:
        """Return the median over the rounds."""
        return median(self.rates[name])

    def ratio(self, peer: str) -> float:
        """Return how many times faster ours is: the median over the rounds, each compared within itself."""
        return median(ours / other for ours, other in zip(self.rates[OURS], self.rates[peer], strict=True))

    @property
    def peers(self) -> tuple[str, ...]:
        """All but ours."""
        return tuple(name for name in self.rates if name != OURS)


def hold(
    contestants: Mapping[str, Contestant], *, rounds: int, seconds: float
) -> dict[str, tuple[float, ...]]:
    """Let the contestants take turns of `seconds` each, `rounds` times after a turn that does not count."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, work in contestants.items():
            rate = work(seconds if number else min(seconds, 2.0))
            if number:  # the first round builds caches and kernels
                rates[name].append(rate)
    return {name: tuple(values) for name, values in rates.items()}
