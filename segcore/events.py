"""What training and inference tell the world, and the reporters that listen."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="constants")

    time: float = Field(default_factory=time.time)


class StageEvent(_Event):
    """A new stage of the job began, in the user's words ("reading images")."""

    kind: Literal["stage"] = "stage"
    text: str


class NoteEvent(_Event):
    """Something worth knowing happened: level `info`, `warning` or `error`."""

    kind: Literal["note"] = "note"
    level: Literal["info", "warning", "error"] = "info"
    text: str
    remedy: str = ""


class EpochEvent(_Event):
    """One epoch is over. Per-class dicts are keyed by the label value as written in the label file."""

    kind: Literal["epoch"] = "epoch"
    epoch: int
    """Counted from 1."""
    epochs: int
    train_loss: float
    train_dice: float
    val_loss: float
    val_dice: float
    val_dice_per_class: dict[str, float]
    val_iou_per_class: dict[str, float]
    learning_rate: float
    seconds: float
    patches_per_second: float
    best: bool
    """True if this is the best epoch so far, by validation Dice or, where objects are learned, their F1."""
    val_predicted_share: dict[str, float] = {}
    """Share of the validation pixels that were predicted as each class, 0 to 1."""
    loader_wait: float = 0.0
    """Share of the training time in which the network waited for patches, 0 to 1."""
    memory: int = 0
    """Peak memory so far in bytes: of the device, on a CPU of the process."""
    device_use: float | None = None
    """How busy the device was, 0 to 1; None where nobody can say."""
    without_gain: int = 0
    """Epochs since the last gain in validation Dice, see `training.min_gain`."""
    val_precision_per_class: dict[str, float] = {}
    val_recall_per_class: dict[str, float] = {}
    val_accuracy: float | None = None
    """Share of the annotated validation pixels that were predicted rightly, 0 to 1; None in older runs."""
    val_ap50: float | None = None
    """Precision of objects at an IoU of 0.5, TP / (TP + FP + FN); None where none are learned."""
    val_f1: float | None = None
    """F1 of objects at an IoU of 0.5."""
    val_pq: float | None = None
    """Panoptic quality of objects."""
    train_adversarial: float | None = None
    """Loss by the verdict of the adversary, unweighted; None where there is none (`training.adversarial`)."""
    train_discriminator: float | None = None
    """Loss of the adversary itself: 0 where it sees through every prediction, 1/4 where it can only guess."""

    @property
    def val_score(self) -> float:
        """What the best epoch is chosen by: the F1 of objects where they are learned, else the Dice.

        0 where objects are learned, but none was annotated or predicted.
        """
        if self.val_f1 is None:
            return self.val_dice
        return 0.0 if math.isnan(self.val_f1) else self.val_f1

    @property
    def score_name(self) -> str:
        """What `val_score` is called: "Dice" or "F1"."""
        return "Dice" if self.val_f1 is None else "F1"

    @property
    def score_text(self) -> str:
        """Name and value of `val_score`, such as "Dice 0.812"."""
        return f"{self.score_name} {self.val_score:.3f}"


def score_of(metrics: Mapping[str, Any]) -> tuple[str, float | None]:
    """Return by what the best epoch was chosen, of the metrics of results: its name, and its value if known.

    Examples
    --------
    >>> score_of({"val_dice": 0.9, "val_f1": 0.8})
    ('F1', 0.8)
    >>> score_of({"val_dice": 0.9})
    ('Dice', 0.9)
    """
    name, key = ("Dice", "val_dice") if metrics.get("val_f1") is None else ("F1", "val_f1")
    value = metrics.get(key)
    return name, value if isinstance(value, float) and math.isfinite(value) else None


class ResumeEvent(_Event):
    """The run goes on from a checkpoint; epochs reported after it are done again."""

    kind: Literal["resume"] = "resume"
    epoch: int
    """Finished epochs in the checkpoint."""
    step: int


class InterventionEvent(_Event):
    """The autopilot changed something, because the run learned nothing, diverged, or memory ran out."""

    kind: Literal["intervention"] = "intervention"
    epoch: int
    """Epochs that were finished then."""
    number: int
    """1 for the first of the run."""
    what: str
    """Code of what was found: `not-finite`, `one-class`, `all-background`, `dice-zero`, `flat`, `memory`."""
    text: str
    """What was found, in plain words."""
    cause: str = ""
    """The likely cause, in plain words."""
    action: str = ""
    """What was changed."""


class EndEvent(_Event):
    """The job is over."""

    kind: Literal["end"] = "end"
    state: str
    text: str = ""


class Progress(_Event):
    """Where the job stands. Not a line of history: the latest replaces the one before."""

    kind: Literal["progress"] = "progress"
    stage: str
    done: int
    total: int
    unit: str
    """What is counted: "batch", "slice", "tile"."""
    epoch: int = 0
    epochs: int = 0
    seconds_left: float | None = None


Event = Annotated[
    StageEvent | NoteEvent | EpochEvent | ResumeEvent | InterventionEvent | EndEvent | Progress,
    Field(discriminator="kind"),
]
_adapter: TypeAdapter[Event] = TypeAdapter(Event)


class Request(StrEnum):
    """What a person may ask of a job at work."""

    PAUSE = "pause"
    """Save everything and free the device; the job can be resumed."""
    STOP = "stop"
    """End, and keep the best model with complete results."""
    DISCARD = "discard"
    """End, and throw away what was made."""


class Reporter(Protocol):
    """Whatever listens to a job."""

    def __call__(self, event: Event) -> None:
        """Take one event."""


def unheard(event: Event) -> None:
    """Take an event and do nothing: the reporter of scripts that do not want one."""


@dataclass(frozen=True)
class Outcome:
    """How a training or a segmentation ended."""

    request: Request | None
    """What somebody asked for, if that is why it ended."""
    metrics: dict[str, Any]

    @property
    def stopped(self) -> bool:
        """True if somebody ended it before its time."""
        return self.request is not None


def unasked() -> Request | None:
    """Return None: nobody asks anything of a job that runs in a script."""
    return None


def parse_event(line: str | bytes) -> Event:
    """Read one event from its JSON line."""
    return _adapter.validate_json(line)
