"""What the autopilot finds and what it prescribes: a gentler way to go on with a training."""

from __future__ import annotations

import math
from dataclasses import dataclass

from segcore.config import TrainingConfig

MOST_TREATMENTS = 3
USUAL_RATE = {"adamw": 1e-3, "adam": 1e-3, "radam": 1e-3, "lamb": 3e-3, "sgd": 3e-2, "gd": 0.3}
HIGHEST_RATE = {"adamw": 1e-2, "adam": 1e-2, "radam": 1e-2, "lamb": 3e-2, "sgd": 0.3, "gd": 3.0}
LOWEST_RATE = {"adamw": 3e-6, "adam": 3e-6, "radam": 3e-6, "lamb": 1e-5, "sgd": 1e-4, "gd": 1e-3}
WARM_UP, CLIPPING = 0.1, 1.0
"""What every treatment prescribes."""


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with a training.

    Parameters
    ----------
    what : str
        `not-finite`, `all-background`, `one-class`, `dice-zero` or `flat`.
    text : str
        What was found, in plain words.
    cause : str
        The likely cause, in plain words.
    """

    what: str
    text: str
    cause: str


@dataclass(frozen=True)
class Treatment:
    """How a run goes on differently from its options; all treatments so far in one.

    Parameters
    ----------
    rate_factor : float
        Times the learning rate of the options.
    warm_up : float, optional
        Share of what is left of the run in which the rate rises from zero.
    loss : str, optional
        Another loss.
    clipping : float, optional
        Gradient clipping.
    fresh : bool
        Begin with new weights even if there is a good point to go back to.
    """

    rate_factor: float = 1.0
    warm_up: float | None = None
    loss: str | None = None
    clipping: float | None = None
    fresh: bool = False

    def describe(self) -> str:
        """Say it in one line, "" if nothing is different."""
        parts = []
        if self.rate_factor != 1:
            sign, factor = ("÷", 1 / self.rate_factor) if self.rate_factor < 1 else ("×", self.rate_factor)
            parts.append(f"learning rate {sign} {factor:.3g}")
        if self.warm_up is not None:
            parts.append(f"warm-up over {self.warm_up:.0%} of what is left".replace("%", " %"))
        if self.loss is not None:
            parts.append("loss Dice + cross-entropy" if self.loss == "dice+ce" else f"loss {self.loss}")
        if self.clipping is not None:
            parts.append(f"gradient clipped at {self.clipping:g}")
        if self.fresh:
            parts.append("new random weights")
        return ", ".join(parts)


def treat(
    training: TrainingConfig, diagnosis: Diagnosis, earlier: Treatment, number: int
) -> Treatment | None:
    """Advise how to go on; None if nothing is left to try.

    Parameters
    ----------
    training : TrainingConfig
        The options of the run.
    diagnosis : Diagnosis
        What was found.
    earlier : Treatment
        The treatment in force.
    number : int
        1 for the first treatment of the run.

    Returns
    -------
    Treatment or None
        Takes the place of `earlier`; gentler, or with other weights.
    """
    if number > MOST_TREATMENTS:
        return None
    stuck = diagnosis.what != "not-finite"
    other_loss = stuck and (earlier.loss or training.loss) != "dice+ce"
    advice = Treatment(
        rate_factor=earlier.rate_factor * _rate_step(training, earlier, stuck, number, other_loss),
        warm_up=max(WARM_UP, training.warm_up),
        loss="dice+ce" if other_loss else earlier.loss,
        clipping=min(training.gradient_clipping or CLIPPING, CLIPPING),
        # The first time the last good point is trusted; if the run got stuck from there too, it is not.
        fresh=number > 1 and diagnosis.what in ("all-background", "one-class", "flat"),
    )
    unchanged = advice == earlier
    # A class that stays at 0 while the others do well is worth a better loss and one gentler start, no more.
    usual = training.learning_rate * earlier.rate_factor <= HIGHEST_RATE[training.optimizer]
    hopeless = diagnosis.what == "dice-zero" and number > 1 and usual and advice.loss == earlier.loss
    return None if unchanged or hopeless else advice


def _rate_step(
    training: TrainingConfig, earlier: Treatment, stuck: bool, number: int, other_loss: bool
) -> float:
    """Return the factor on the rate: 1/3, or less where that would not get to a usual rate in time."""
    rate, usual = training.learning_rate * earlier.rate_factor, USUAL_RATE[training.optimizer]
    if stuck and rate < LOWEST_RATE[training.optimizer]:
        return usual / rate
    if stuck and rate <= (usual if other_loss else usual / 9):
        return 1.0  # gentle enough: lower still would only be slow
    thirds = math.log(max(rate / usual, 1.0), 3)
    # Half of the way first, as more than the usual rate may do; all of it the second time.
    return 3.0 ** -max(1, math.ceil(thirds / 2 if number == 1 else thirds))
