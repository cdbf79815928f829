"""Kept epochs: the weights a training left in its folder, and which of them is the run's model."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        True for the epoch with the best validation Dice.
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

    A choice ends when the run goes on and finds a better epoch: that one becomes the model.
    """
    if not (folder / MODEL).is_file():
        return None
    best = best_epoch(history)
    chosen, moment = _choice(folder)
    if chosen is not None and (best is None or best.time <= moment):
        return chosen
    return best.epoch if best else None


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
        if wanted.model:
            return wanted
        try:
            if before is not None and not epoch_file(folder, before).exists():
                share_file(folder / MODEL, epoch_file(folder, before))
            share_file(wanted.weights, folder / MODEL)
            write_atomic(folder / CHOICE, json.dumps({"epoch": epoch, "time": time.time()}))
            _note_choice(job, wanted)
        except OSError as error:
            raise JobError(
                f"Epoch {epoch} cannot be made the model: {error.strerror}.",
                "Free some disk space, then choose it again.",
            ) from error
    return find_epoch(folder, epoch, history)


def chosen_results(folder: Path, history: Sequence[EpochEvent], results: dict[str, Any]) -> dict[str, Any]:
    """Return what results.json says of a model that somebody chose; empty if the best epoch is the model."""
    chosen, model = _choice(folder)[0], model_epoch(folder, history)
    if chosen is None or chosen != model:
        return {}
    event = next((event for event in history if event.epoch == chosen), None)
    known = set(results.get("metrics", ())) & set(EpochEvent.model_fields)
    metrics = event.model_dump(include=known) if event and known else results.get("metrics", {})
    return {"chosen_epoch": chosen, "metrics": metrics}


def _check_idle(job: Job) -> None:
    if not job.state.ended:
        raise JobError(
            f"The run {job.id} is {job.state}: its model may still change.",
            "Pause it, or wait for its end, then choose the epoch.",
        )
    if job.state is State.DISCARDED:
        raise JobError(f"The run {job.id} was discarded: its weights are gone.", "Choose another run.")


def _choice(folder: Path) -> tuple[int | None, float]:
    """Return the epoch that somebody chose and when, in seconds since 1970."""
    try:
        content = json.loads((folder / CHOICE).read_text())
        return int(content["epoch"]), float(content["time"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, 0.0


def _note_choice(job: Job, chosen: KeptEpoch) -> None:
    results = read_results(job)
    if not results:
        return  # paused or interrupted: written when the run ends
    history = [chosen.scores] if chosen.scores else []
    results.pop("chosen_epoch", None)
    results |= chosen_results(job.folder, history, results)
    write_atomic(job.folder / "results.json", json.dumps(results, indent=2) + "\n")
