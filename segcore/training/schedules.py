"""The learning rate over a run: a pure function of how much of it is done, and of the scores so far."""

from __future__ import annotations

import math
from collections.abc import Sequence

from segcore.config import TrainingConfig

POWER = 0.9
"""Exponent of the polynomial schedule, as in DeepLab (Chen et al. 2018) and nnU-Net (Isensee et al. 2021)."""
RISE, START, END = 0.3, 1 / 25, 1 / 250_000
"""One cycle: share of the run in which the rate rises, and the factors at its ends (Smith & Topin 2018)."""
_ROUNDING = 1e-9


def rate_factor(training: TrainingConfig, progress: float, warm_up: float = 0.0, drops: int = 0) -> float:
    """Return the factor on the learning rate when `progress` (0 … 1) of the run is done.

    A linear rise over the first part `warm_up` of the run, then:

    - constant: 1.
    - cosine: half a cosine down to 0 (Loshchilov & Hutter 2017, SGDR, arXiv 1608.03983, without restarts).
    - polynomial: (1 − done)^0.9.
    - step: times `schedule_factor` at `schedule_steps` evenly spread moments.
    - plateau: times `schedule_factor` at every one of `drops`.

    one-cycle has a rise of its own, of at least 0.3 of the run: half a cosine up from 1/25, and half a one
    down to 1/250 000 (Smith & Topin 2018, "Super-convergence", arXiv 1708.07120; the momentum stays).

    Parameters
    ----------
    training : TrainingConfig
        Schedule, steps and factor.
    progress : float
        Share of the run that is done.
    warm_up : float
        0 … 0.5; may differ from that of the options, where the autopilot treats the run.
    drops : int
        How many times the score has stood still, see `plateau_drops`.
    """
    if training.schedule == "one-cycle":
        peak = max(RISE, warm_up)
        if progress < peak:
            return _half_cosine(START, 1.0, progress / peak)
        return _half_cosine(1.0, END, min(1.0, (progress - peak) / (1 - peak)))
    if progress < warm_up:
        return max(progress / warm_up, 0.01)
    done = min(1.0, (progress - warm_up) / (1 - warm_up))
    if training.schedule == "cosine":
        return _half_cosine(1.0, 0.0, done)
    if training.schedule == "polynomial":
        return float((1 - done) ** POWER)
    if training.schedule == "step":
        drops = min(training.schedule_steps, int(done * (training.schedule_steps + 1) + _ROUNDING))
    return float(training.schedule_factor**drops)


def plateau_drops(training: TrainingConfig, dices: Sequence[float]) -> int:
    """Return how many times the score has stood still for `schedule_patience` epochs.

    Parameters
    ----------
    training : TrainingConfig
        Patience, and the rise that counts as a gain.
    dices : sequence of float
        Validation Dice of the epochs so far; one that is not a number is no gain.
    """
    best, waited, drops = -math.inf, 0, 0
    for dice in dices:
        if dice > best + training.min_gain:
            best, waited = dice, 0
            continue
        waited += 1
        if waited == training.schedule_patience:
            drops, waited = drops + 1, 0
    return drops


def _half_cosine(first: float, last: float, share: float) -> float:
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * share))
