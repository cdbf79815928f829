"""TrainState: everything a run needs to go on as if it had never stopped; saved whole, atomically."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from segcore.devices import Hardware
from segcore.errors import ModelError
from segcore.events import EpochEvent, InterventionEvent
from segcore.metrics.overlap import Confusion
from segcore.models.segmenter import Segmenter
from segcore.training.adversary import Adversary
from segcore.training.averaging import WeightAverage
from segcore.training.randomness import random_state, restore_random_state
from segcore.training.treatment import Treatment


@dataclass
class EpochPart:
    """The epoch that is under way."""

    region_N: Tensor
    """Region of every patch of the epoch, in the order in which they are shown."""
    loss_sum: Tensor
    """Sum of the losses so far, on the device."""
    counts: Confusion
    """Pixels of the patches so far."""
    done: int = 0
    """Steps so far."""
    seconds: float = 0.0
    """Time the steps took."""
    contest_sum: Tensor | None = None
    """Sums of what the adversary told of every step, see `Adversary.told`; on the device."""


@dataclass(frozen=True)
class Phase:
    """Where the schedule began: with the run, or where the autopilot began it anew."""

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0


@dataclass
class TrainState:
    """The changing part of a training run.

    `generator` is the run's only source of randomness (patch order, positions, augmentation); the states of
    the others are kept too, for networks that draw from them.
    """

    network: Segmenter
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    generator: torch.Generator
    average: WeightAverage | None = None
    adversary: Adversary | None = None
    """What judges the predictions, where an adversarial term was asked for."""
    epoch: int = 0
    """Finished epochs, those of the run it continues included."""
    step: int = 0
    """Optimizer steps done."""
    first_epoch: int = 0
    """Epochs of the run that this one continues."""
    best_dice: float = -1.0
    """Validation Dice of the best epoch; where objects are learned, this and `gain_dice` are their F1."""
    best_epoch: int = 0
    gain_dice: float = -1.0
    """Validation Dice of the last epoch that was a gain."""
    gain_epoch: int = 0
    """From here on, epochs without gain are counted."""
    seconds: float = 0.0
    """Wall time spent so far, over all processes that worked on the run."""
    phase: Phase = field(default_factory=Phase)
    treatment: Treatment = field(default_factory=Treatment)
    interventions: list[InterventionEvent] = field(default_factory=list)
    given_up: bool = False
    """True once the autopilot has said that it can do no more."""
    micro_batch: int | None = None
    """Patches computed at once; None: the whole batch."""
    part: EpochPart | None = None
    history: list[EpochEvent] = field(default_factory=list)

    @property
    def kept_network(self) -> Segmenter:
        """The network that is validated and kept: the average of the weights where there is one."""
        return self.average.network if self.average and self.average.count else self.network

    def content(self) -> dict[str, Any]:
        """Return the state as tensors and plain values; the tensors are those of the run, not copies."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            **({"adversary": self.adversary.state_dict()} if self.adversary else {}),
            "random": random_state(self.generator),
            "phase": asdict(self.phase),
            "treatment": asdict(self.treatment),
            "interventions": [event.model_dump() for event in self.interventions],
            "part": _part_content(self.part),
            "history": [event.model_dump() for event in self.history],
            **{name: getattr(self, name) for name in _PLAIN},
        }

    def restore(self, content: dict[str, Any], path: Path) -> None:
        """Go back to a checkpoint.

        Parameters
        ----------
        content : dict
            What `read_checkpoint` returned.
        path : Path
            Its file, for the message.

        Raises
        ------
        ModelError
            The checkpoint belongs to another network or another version.
        """
        try:
            self.restore_weights(content)
            restore_random_state(content["random"], self.generator)
            self.phase = Phase(**content["phase"])
            self.treatment = Treatment(**content["treatment"])
            self.interventions = [
                InterventionEvent.model_validate(event) for event in content["interventions"]
            ]
            self.history = [EpochEvent.model_validate(event) for event in content["history"]]
            device = next(self.network.parameters()).device
            self.part = _read_part(content["part"], device)
            for name in _PLAIN:
                setattr(self, name, content[name])
        except Exception as error:  # torch raises many kinds for what does not fit
            raise _unusable(path, error) from error

    def restore_weights(self, content: dict[str, Any]) -> None:
        """Take weights, optimizer, scaler, average and adversary from a checkpoint, and nothing else."""
        self.network.load_state_dict(content["network"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        if self.average and content["average"]:
            self.average.load_state_dict(content["average"])
        elif self.average:
            self.average.restart()
        if self.adversary:
            self.adversary.load_state_dict(content.get("adversary"))


def build_scaler(hardware: Hardware) -> torch.amp.GradScaler:
    """Return the loss scaling that the number format needs; without need it does nothing."""
    return torch.amp.GradScaler(hardware.device.type, enabled=hardware.needs_scaler)


_PLAIN = (
    "epoch",
    "step",
    "first_epoch",
    "best_dice",
    "best_epoch",
    "gain_dice",
    "gain_epoch",
    "seconds",
    "given_up",
    "micro_batch",
)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint into main memory; nothing in it is executed.

    Raises
    ------
    ModelError
        The file is damaged.
    """
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for a damaged or foreign file
        raise _unusable(path, error) from error
    return content


def kept_weights(content: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights that a checkpoint validated: averaged ones where there are."""
    average = content["average"]
    weights: dict[str, Tensor] = average["network"] if average and average["count"] else content["network"]
    return weights


def _unusable(path: Path, error: Exception) -> ModelError:
    reason = "another version of the program wrote it" if isinstance(error, KeyError) else error
    return ModelError(
        f"The checkpoint {path} cannot be used: {reason}.",
        "Start a new training with the same options, or from its best model (training.start_from).",
    )


def _part_content(part: EpochPart | None) -> dict[str, Any] | None:
    if part is None:
        return None
    return {
        "region_N": part.region_N,
        "loss_sum": part.loss_sum,
        "counts_KK": part.counts.counts_KK,
        "done": part.done,
        "seconds": part.seconds,
        **({} if part.contest_sum is None else {"contest_sum": part.contest_sum}),
    }


def _read_part(content: dict[str, Any] | None, device: torch.device) -> EpochPart | None:
    if content is None:
        return None
    counts = Confusion(len(content["counts_KK"]), device)
    counts.counts_KK = content["counts_KK"].to(device)
    contest_sum = content["contest_sum"].to(device) if "contest_sum" in content else None
    return EpochPart(
        content["region_N"],
        content["loss_sum"].to(device),
        counts,
        content["done"],
        content["seconds"],
        contest_sum,
    )
