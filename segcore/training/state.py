"""TrainState: everything a run needs to go on as if it had never stopped; saved whole, atomically."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from segcore.errors import ModelError
from segcore.events import EpochEvent
from segcore.models.saved import save_tensors


@dataclass
class TrainState:
    """The changing part of a training run.

    `generator` is the run's only source of randomness (patch order, positions, augmentation).
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    generator: torch.Generator
    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Optimizer steps done."""
    best_dice: float = -1.0
    best_epoch: int = 0
    seconds: float = 0.0
    """Wall time spent so far, over all processes that worked on the run."""
    history: list[EpochEvent] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write the checkpoint; the one before stays until the new one is whole.

        Raises
        ------
        JobError
            The disk is full or cannot be written.
        """
        content = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "generator": self.generator.get_state(),
            "epoch": self.epoch,
            "step": self.step,
            "best_dice": self.best_dice,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "history": [event.model_dump() for event in self.history],
        }
        save_tensors(content, path)

    def load(self, path: Path) -> None:
        """Go back to a checkpoint.

        Raises
        ------
        ModelError
            The file is damaged or belongs to another network.
        """
        try:
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            self.network.load_state_dict(content["network"])
            self.optimizer.load_state_dict(content["optimizer"])
            self.scaler.load_state_dict(content["scaler"])
            self.generator.set_state(content["generator"])
        except Exception as error:  # torch raises many kinds for a damaged or foreign file
            raise ModelError(
                f"the checkpoint {path} cannot be used: {error}",
                "Start the training anew with the same configuration.",
            ) from error
        for name in ("epoch", "step", "best_dice", "best_epoch", "seconds"):
            setattr(self, name, content[name])
        self.history = [EpochEvent.model_validate(event) for event in content["history"]]
