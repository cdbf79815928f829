"""Kept epochs: the weights a training left in its folder, and which of them is the run's model."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from segcore.errors import JobError
from segcore.events import EpochEvent
from segcore.files import share_file, write_atomic
from segcore.jobs.journal import read_history, read_results
from segcore.jobs.store import Job, State, read_job

MODEL = "best_model.pth"
CHOICE = "checkpoints/chosen.json"
FILE_NAME = re.compile(r"^epoch-(\d{4,})\.pth$")


@dataclass(frozen=True)
class KeptEpoch:
    """An epoch whose weights are still there.

    Parameters
    ----------
    epoch : int
        Counted from 1.
    weights : Path
        Plain weights; the config.json of the run belongs to them.
    scores : EpochEvent or None
        What the run reported of it; None if that line is lost.
    best : bool
        True for the epoch with the best score.
    model : bool
        True for the epoch that is the run's model.
    """

    epoch: int
    weights: Path
    scores: EpochEvent | None
    best: bool
    model: bool


def epoch_file(folder: Path, epoch: int) -> Path:
    """Return where the weights of an epoch are kept: `checkpoints/epoch-0010.pth`."""
    return folder / "checkpoints" / f"epoch-{epoch:04d}.pth"


def best_epoch(history: Sequence[EpochEvent]) -> EpochEvent | None:
    """Return the epoch that the training kept as its best, or None before the first."""
    return next((event for event in reversed(history) if event.best), None)


def model_epoch(folder: Path, history: Sequence[EpochEvent]) -> int | None:
    """Return the epoch in best_model.pth: the one somebody chose, else the best; None if there is no model.

    0 is a model that no epoch of this run has made: it came from the run that this one continues.
    """
    if not (folder / MODEL).is_file():
        return None
    if chosen := _choice(folder):
        return chosen[0]
    best = best_epoch(history)
    return best.epoch if best else int(read_results(read_job(folder)).get("best_epoch") or 0)


def kept_epochs(folder: Path, history: Sequence[EpochEvent]) -> list[KeptEpoch]:
    """Return the epochs of which weights are in the run folder, ascending."""
    files = {
        int(match[1]): path
        for path in (folder / "checkpoints").glob("epoch-*.pth")
        if (match := FILE_NAME.match(path.name))
    }
    model, best = model_epoch(folder, history), best_epoch(history)
    if model is not None:
        files.setdefault(model, folder / MODEL)
    scores = {event.epoch: event for event in history}
    return [
        KeptEpoch(
            number,
            files[number],
            scores.get(number),
            best=best is not None and best.epoch == number,
            model=number == model,
        )
        for number in sorted(files)
    ]


def find_epoch(folder: Path, epoch: int, history: Sequence[EpochEvent]) -> KeptEpoch:
    """Return a kept epoch.

    Raises
    ------
    JobError
        Its weights were not kept; the message lists those that were.
    """
    kept = kept_epochs(folder, history)
    for one in kept:
        if one.epoch == epoch:
            return one
    listed = ", ".join(str(one.epoch) for one in kept) or "none yet"
    raise JobError(f"The weights of epoch {epoch} were not kept.", f"Kept epochs: {listed}.")


def use_epoch(folder: Path, epoch: int) -> KeptEpoch:
    """Make a kept epoch the model of its run; the model before it stays as a kept epoch.

    A run that goes on afterwards takes its best epoch as the model again, see `end_choice`.

    Raises
    ------
    JobError
        The run waits or is at work, its weights were not kept, or the disk is full.
    """
    # Under the lock that starts a job: a run cannot begin to write its model meanwhile.
    with FileLock(folder / ".job.lock"):
        job = read_job(folder)
        _check_idle(job)
        history = read_history(folder)
        wanted, before = find_epoch(folder, epoch, history), model_epoch(folder, history)
        own = chosen[1] if (chosen := _choice(folder)) else before
        try:
            if before is not None and not epoch_file(folder, before).exists():
                share_file(folder / MODEL, epoch_file(folder, before))
            # The weights last: killed in between, the same choice made again sets it right.
            write_atomic(folder / CHOICE, json.dumps({"epoch": epoch, "instead_of": own}))
            _note_choice(job, wanted)
            if wanted.weights != folder / MODEL:
                share_file(wanted.weights, folder / MODEL)
        except OSError as error:
            raise JobError(
                f"Epoch {epoch} cannot be made the model: {error.strerror}.",
                "Free some disk space, then choose it again.",
            ) from error
        return find_epoch(folder, epoch, history)


def end_choice(folder: Path) -> None:
    """Make the training's own best epoch the model again: the run goes on, and its model is the best so far.

    The epoch that was chosen stays among the kept ones.

    Raises
    ------
    JobError
        The disk is full or cannot be written.
    """
    if not (chosen := _choice(folder)):
        return
    own = epoch_file(folder, chosen[1])
    try:
        if own.exists():
            share_file(own, folder / MODEL)
        (folder / CHOICE).unlink()
    except OSError as error:
        raise JobError(
            f"The best model so far cannot be put back: {error.strerror}.",
            "Free some disk space, then resume the run.",
        ) from error


def _check_idle(job: Job) -> None:
    if not job.state.ended:
        raise JobError(
            f"The run {job.id} is {job.state}: its model may still change.",
            "Pause it, or wait for its end, then choose the epoch.",
        )
    if job.state is State.DISCARDED:
        raise JobError(f"The run {job.id} was discarded: its weights are gone.", "Choose another run.")


def _choice(folder: Path) -> tuple[int, int] | None:
    """Return the epoch that somebody chose and the one the training had made the model."""
    try:
        content = json.loads((folder / CHOICE).read_text())
        return int(content["epoch"]), int(content["instead_of"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _note_choice(job: Job, chosen: KeptEpoch) -> None:
    """Let results.json name the chosen epoch and hold its scores."""
    results = read_results(job)
    if not results:
        return  # the run has not ended yet
    scores = set(results.get("metrics") or ()) & set(EpochEvent.model_fields)
    if chosen.scores and scores:
        results["metrics"] = chosen.scores.model_dump(include=scores)
    results["chosen_epoch"] = chosen.epoch
    write_atomic(job.folder / "results.json", json.dumps(results, indent=2) + "\n")
