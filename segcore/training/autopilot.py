"""The autopilot: notices a training that diverges or learns nothing, says why, and how to go on more gently.

It only looks and advises; going back to a good point and training on is the loop's work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from segcore.config import TrainingConfig
from segcore.config.loss import parse_loss
from segcore.events import EpochEvent
from segcore.training.treatment import HIGHEST_RATE, LOWEST_RATE, USUAL_RATE, Diagnosis, Treatment, treat

__all__ = ["Autopilot", "Diagnosis", "Treatment"]

EPOCHS, STEPS = 5, 150
"""Evidence before a training counts as stuck: so many epochs, and in them so many steps."""
QUICK_EPOCHS, QUICK_STEPS = 3, 60
"""The same where the learning rate is far too high: there is nothing to wait for."""
SLOW = 2
"""So many times the evidence is needed where a run may only be slow: a class without a hit, a flat loss."""
LAST_PART = 0.85
"""Share of the run after which only numbers that are not finite are worth going back for."""
OPTIMIZER_NAMES = {
    "adamw": "AdamW", "adam": "Adam", "radam": "RAdam", "lamb": "LAMB", "sgd": "SGD", "gd": "gradient descent"
}  # fmt: skip
PIXELWISE = {"ce", "focal", "mse", "mae"}
"""Losses that count every pixel alike."""
RARE = 0.05
"""Share of the pixels below which a loss that counts pixels hardly notices that a class is left out."""
_STILL_FALLING = 0.97
"""A training loss that falls below this share of what it was is getting somewhere."""
_LEARNED = 0.01
"""Dice above that of the best constant answer from which a network has learned something."""
_MISSING = 0.02
"""A class predicted on less than this share of its pixels is as good as missing."""


class Autopilot:
    """Judges a training by its losses and scores, and advises.

    Parameters
    ----------
    training : TrainingConfig
        The options of the run.
    class_shares : mapping of str to float
        Share of the annotated pixels of every label value, 0 to 1.
    treatment : Treatment, optional
        What the run is treated with already, where it is taken up from a checkpoint.
    """

    def __init__(
        self,
        training: TrainingConfig,
        class_shares: Mapping[str, float],
        treatment: Treatment | None = None,
    ) -> None:
        self.training = training
        self.treatment = treatment or Treatment()
        self.shares = {label: share for label, share in class_shares.items() if share > 0}
        self._constant_dice = _constant_dice(self.shares)
        self._bad_steps = 0

    @property
    def rate(self) -> float:
        """The highest learning rate as treated so far."""
        return self.training.learning_rate * self.treatment.rate_factor

    def has_learned(self, event: EpochEvent) -> bool:
        """Say whether an epoch is better than any constant answer, so that it is worth going back to."""
        return math.isfinite(event.val_loss) and event.val_dice > self._constant_dice + _LEARNED

    def check_step(self, loss: float) -> Diagnosis | None:
        """Judge the loss of a step; the second in a row that is not finite is one too many.

        A single one is harmless in fp16: the step is left out.
        """
        self._bad_steps = 0 if math.isfinite(loss) else self._bad_steps + 1
        return self._not_finite() if self._bad_steps >= 2 else None

    def check_epoch(self, history: Sequence[EpochEvent]) -> Diagnosis | None:
        """Judge a run; None while all is well or the evidence is too thin.

        Parameters
        ----------
        history : sequence of EpochEvent
            The epochs since the last treatment.
        """
        if not history:
            return None
        last = history[-1]
        losses = [event.train_loss for event in history[-2:]]
        if not math.isfinite(last.val_loss) or (len(losses) == 2 and not any(map(math.isfinite, losses))):
            return self._not_finite()
        if last.epoch > LAST_PART * last.epochs or self.has_learned(last):
            return self._dice_zero(history)
        return self._one_class(history) or self._flat(history) or self._dice_zero(history)

    def treat(self, diagnosis: Diagnosis, earlier: Treatment, number: int) -> Treatment | None:
        """Advise how to go on, see `segcore.training.treatment.treat`, and judge by it from now on."""
        advice = treat(self.training, diagnosis, earlier, number)
        if advice is not None:
            self.treatment = advice
            self._bad_steps = 0
        return advice

    def _evidence(self, history: Sequence[EpochEvent], times: int = 1) -> Sequence[EpochEvent]:
        """Return the last epochs that are enough to judge by, () if there are not enough yet.

        Epochs of the warm-up prove nothing.
        """
        epochs, least = (QUICK_EPOCHS, QUICK_STEPS) if self._far_too_high else (EPOCHS, STEPS)
        full = max(event.learning_rate for event in history)
        start = next(index for index, event in enumerate(history) if event.learning_rate >= 0.5 * full)
        settled, steps = history[start:], 0.0
        for count, event in enumerate(reversed(settled), start=1):
            steps += event.patches_per_second * event.seconds / self.training.batch_size
            if count >= times * epochs and steps >= times * least:
                return settled[-count:]
        return ()

    def _one_class(self, history: Sequence[EpochEvent]) -> Diagnosis | None:
        for times in (1, SLOW):
            recent = self._evidence(history, times)
            labels = {self._only_class(event) for event in recent} or {""}
            # While the loss falls, a rare class may still be found; but not for ever.
            if "" in labels or (times == 1 and self._is_moving(recent)):
                continue
            label = self._only_class(recent[-1])
            background = labels == {"0"} and self.shares["0"] == max(self.shares.values())
            what = "all-background" if background else "one-class"
            name = f"class {label} (background)" if background else f"class {label}"
            changing = ", before that another class everywhere" if len(labels) > 1 else ""
            text = (
                f"The network predicts {name} everywhere{changing}, at least since epoch {recent[0].epoch}."
            )
            return Diagnosis(what, text, self._cause(name))
        return None

    def _only_class(self, event: EpochEvent) -> str:
        """Return the class that alone was predicted in an epoch, "" if there is none."""
        if self.has_learned(event):
            return ""
        for label, share in self.shares.items():
            if share < 1 and event.val_predicted_share.get(label, 0) > 1 - _MISSING * (1 - share):
                return label
        return ""

    def _is_moving(self, recent: Sequence[EpochEvent]) -> bool:
        """Say whether the loss falls, so that there is something to wait for; not at a far too high rate."""
        return _falling(recent) and not self._far_too_high

    def _flat(self, history: Sequence[EpochEvent]) -> Diagnosis | None:
        recent = self._evidence(history, SLOW)
        learned = any(
            self.has_learned(event) or event.train_dice > self._constant_dice + 5 * _LEARNED
            for event in recent
        )
        if not recent or learned or self._is_moving(recent):
            return None
        text = (
            f"The network has learned nothing since epoch {recent[0].epoch}: the loss stays at about "
            f"{recent[-1].train_loss:.3g}, and the Dice of {recent[-1].val_dice:.2f} is no better than that "
            "of the same class everywhere."
        )
        return Diagnosis("flat", text, self._cause("one class"))

    def _dice_zero(self, history: Sequence[EpochEvent]) -> Diagnosis | None:
        recent = self._evidence(history, SLOW)
        last = history[-1]
        if not recent or len(recent) < 0.1 * last.epochs or last.epoch > LAST_PART * last.epochs:
            return None
        if self._is_moving(recent):
            return None
        for label, share in self.shares.items():
            if all(event.val_dice_per_class.get(label, 1.0) < 1e-3 for event in recent):
                text = (
                    f"Class {label} has not been found at all since epoch {recent[0].epoch}: its Dice is 0."
                )
                rare = f"Only {_percent(share)} of the annotated pixels are class {label}."
                return Diagnosis("dice-zero", text, rare if share < RARE else self._cause("the others"))
        return None

    def _not_finite(self) -> Diagnosis:
        text = "The loss is not a number any more (NaN or infinite)."
        cause = self._rate_cause() or (
            f"A step was too long: for these images even the learning rate {self.rate:g} is too high."
        )
        return Diagnosis("not-finite", text, cause)

    @property
    def _far_too_high(self) -> bool:
        return self.rate > HIGHEST_RATE[self.training.optimizer]

    def _rate_cause(self) -> str:
        optimizer = self.training.optimizer
        usual = f"{USUAL_RATE[optimizer]:g} is usual with {OPTIMIZER_NAMES[optimizer]}"
        if self._far_too_high:
            return f"The learning rate {self.rate:g} is far too high: {usual}."
        if self.rate < LOWEST_RATE[optimizer]:
            return f"The learning rate {self.rate:g} is so low that nothing moves: {usual}."
        return ""

    def _cause(self, easy: str) -> str:
        """Return why a network may be stuck; `easy` is what it predicts."""
        if cause := self._rate_cause():
            return cause
        label, share = min(self.shares.items(), key=lambda item: item[1], default=("", 1.0))
        loss = self.treatment.loss or self.training.loss
        if share < RARE and PIXELWISE.issuperset(term.name for term in parse_loss(loss)):
            return (
                f"Only {_percent(share)} of the annotated pixels are class {label}: predicting {easy} "
                f"everywhere is the easy way out for the loss {loss}, which counts every pixel alike."
            )
        rare = (
            f", as only {_percent(share)} of the annotated pixels are class {label}" if share < RARE else ""
        )
        return (
            f"The start was unlucky{rare}, or the learning rate {self.rate:g} is too high for these images. "
            "If it stays so, look in step 1 whether the labels lie on the images."
        )


def _constant_dice(shares: Mapping[str, float]) -> float:
    """Return the mean Dice of the best answer that is the same class everywhere."""
    return max((2 * share / (1 + share) for share in shares.values()), default=0.0) / max(len(shares), 1)


def _falling(recent: Sequence[EpochEvent]) -> bool:
    """Say whether the training loss is on average clearly lower in the second half than in the first."""
    losses = [event.train_loss for event in recent if math.isfinite(event.train_loss)]
    half = len(losses) // 2
    return half > 0 and fmean(losses[-half:]) < _STILL_FALLING * fmean(losses[:half])


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.01 else f"{100 * share:.1f} %"
