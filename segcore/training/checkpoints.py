"""When and how the state of a run is written, so that state and best model on disk always agree.

checkpoints/last.pt is the whole state, written at once or not at all. checkpoints/best.pt (the state at the
best epoch) and best_model.pth (its weights) are written after it and from it, so that whatever is missing
when the process is killed in between can be made again from last.pt.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from torch import Tensor

from segcore.errors import JobError
from segcore.events import NoteEvent, Reporter
from segcore.files import remove_leftovers, share_file
from segcore.jobs.epochs import end_choice
from segcore.models.saved import WEIGHTS, save_state_dict, save_tensors
from segcore.training.distributed import Team
from segcore.training.state import TrainState, kept_weights, read_checkpoint

COSTLY = 0.05
"""Share of the training time that saving the best epochs may take; beyond it they wait in main memory."""
LAST = "last.pt"
BEST = "best.pt"


class Checkpoints:
    """The checkpoints of one run.

    Parameters
    ----------
    folder : Path
        The run folder.
    state : TrainState
        What is saved.
    report : Reporter
        Told when something could not be written.
    minutes : float
        How often the state is saved.
    team : Team, optional
        The processes that train together: only the leader reads and writes.
    """

    def __init__(
        self, folder: Path, state: TrainState, report: Reporter, minutes: float, team: Team | None = None
    ) -> None:
        self.folder = folder / "checkpoints"
        self.last, self.best = self.folder / LAST, self.folder / BEST
        self.model = folder / WEIGHTS
        self.state = state
        self.report = report
        self.team = team or Team()
        self.interval = 60 * minutes
        self._tried = time.monotonic()
        self._cost = 0.0
        self._written: tuple[int, ...] = ()
        self._pending: dict[str, Any] | None = None
        """Copy of the state at the best epoch, as long as it is not on disk."""

    def take_up(self) -> bool:
        """Go on from the last checkpoint, if there is one.

        Raises
        ------
        ModelError
            It is damaged or belongs to something else.
        """
        content = self.team.lead(self._read_last)
        if content is None:
            return False
        self.state.restore(content, self.last)
        if self.team.leads:
            end_choice(self.folder.parent)
            # The process before may have been killed between the state and what is made from it.
            self._write_best(content)
        return True

    @property
    def due(self) -> bool:
        """True when the last attempt to save is long enough ago."""
        return self.team.leads and time.monotonic() - self._tried >= self.interval

    def after_epoch(self) -> None:
        """Save the state if this was the best epoch or if it is time; a costly save of the best waits."""
        if not self.team.leads:
            return
        # A step takes long on a slow disk with a large network: many good epochs must not slow the run down.
        affordable = self._cost <= COSTLY * (time.monotonic() - self._tried)
        if self.due or (affordable and (self._at_best or self._pending)):
            self.save()
        elif self._at_best:
            self._pending = _copy(self.state.content())

    def save(self, demand: bool = False) -> None:
        """Save the state and, where it is not on disk yet, the best epoch.

        Without room on the disk the checkpoint before stays, the training goes on, and the next save is tried
        in its time.

        Parameters
        ----------
        demand : bool
            Fail instead of going on without.

        Raises
        ------
        JobError
            `demand`, and it could not be written.
        """
        if not self.team.leads:
            return
        began = time.monotonic()
        try:
            self._write()
        except JobError as error:
            if self._at_best:
                self._pending = _copy(self.state.content())
            if demand:
                raise
            text = f"The state of the run could not be saved. {error.message}"
            remedy = "Free disk space. The training goes on, and saving is tried again later."
            self.report(NoteEvent(level="warning", text=text, remedy=remedy))
        self._tried = time.monotonic()
        self._cost = self._tried - began

    def close(self) -> None:
        """Save what is not on disk yet, at the end of the run.

        Raises
        ------
        JobError
            The best model could not be written, and would be lost.
        """
        self.save(demand=self._pending is not None)

    def best_content(self) -> dict[str, Any] | None:
        """Return the state at the best epoch, None if there is none (any more)."""
        if self._pending is not None:
            return _copy(self._pending)
        return read_checkpoint(self.best) if self.best.exists() else None

    def keep(self, weights: dict[str, Tensor], epoch: int) -> None:
        """Write the weights of an epoch beside the checkpoints, to be looked at afterwards."""
        if not self.team.leads:
            return
        try:
            save_state_dict(weights, self.folder / f"epoch-{epoch:04d}.pth")
        except JobError as error:
            text = f"The weights of epoch {epoch} could not be kept. {error.message}"
            self.report(NoteEvent(level="warning", text=text, remedy="Free disk space."))

    def _read_last(self) -> dict[str, Any] | None:
        remove_leftovers(self.folder)
        for leftover in self.model.parent.glob(f".{WEIGHTS}.*.part"):
            leftover.unlink(missing_ok=True)
        return read_checkpoint(self.last) if self.last.exists() else None

    @property
    def _at_best(self) -> bool:
        return self.state.best_epoch == self.state.epoch > 0 and self.state.part is None

    def _write(self) -> None:
        state = self.state
        position = (state.epoch, state.step, state.part is None, len(state.interventions))
        if self._pending is None and position == self._written:
            return
        content = state.content()
        if self._pending is not None and not self._at_best:
            content["best"] = self._pending
        content["is_best"] = self._at_best
        save_tensors(content, self.last)
        self._write_best(content)
        self._pending, self._written = None, position

    def _write_best(self, content: dict[str, Any]) -> None:
        """Make best.pt and best_model.pth from what was written to last.pt, if it holds the best epoch."""
        if content["is_best"]:
            _share(self.last, self.best)
            save_state_dict(kept_weights(content), self.model)
        elif "best" in content:
            save_tensors(content["best"], self.best)
            save_state_dict(kept_weights(content["best"]), self.model)


def _share(source: Path, target: Path) -> None:
    try:
        share_file(source, target)
    except OSError as error:
        raise JobError(
            f"{target} cannot be written: {error.strerror}.", "Free some disk space and start again."
        ) from error


def _copy(content: Any) -> Any:
    """Return a copy of a checkpoint in main memory."""
    if isinstance(content, Tensor):
        return content.detach().to("cpu", copy=True)
    if isinstance(content, dict):
        return {key: _copy(value) for key, value in content.items()}
    if isinstance(content, list):
        return [_copy(value) for value in content]
    return content
