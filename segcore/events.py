"""What training and inference tell the world, and the reporters that listen."""

from __future__ import annotations

import time
from dataclasses import dataclass
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
    """True if this is the best epoch so far, by validation Dice."""


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


Event = Annotated[StageEvent | NoteEvent | EpochEvent | EndEvent | Progress, Field(discriminator="kind")]
_adapter: TypeAdapter[Event] = TypeAdapter(Event)


class Reporter(Protocol):
    """Whatever listens to a job."""

    def __call__(self, event: Event) -> None:
        """Take one event."""


def unheard(event: Event) -> None:
    """Take an event and do nothing: the reporter of scripts that do not want one."""


@dataclass(frozen=True)
class Outcome:
    """How a training or a segmentation ended."""

    stopped: bool
    """True if somebody stopped it before its end."""
    metrics: dict[str, Any]


def parse_event(line: str | bytes) -> Event:
    """Read one event from its JSON line."""
    return _adapter.validate_json(line)
