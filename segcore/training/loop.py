"""The one loop: epoch after epoch until all are done, time or patience is at its end, or somebody asks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from segcore.errors import ModelError, SegcoreError
from segcore.events import NoteEvent, Request
from segcore.training.context import Run
from segcore.training.epochs import close_epoch, train_epoch
from segcore.training.recovery import intervene

FINISHED, TIME_BUDGET, EARLY = "finished", "time budget", "early stopping"
ENDED = {Request.PAUSE: "paused", Request.STOP: "stopped", Request.DISCARD: "discarded"}
"""How a run ended that somebody ended."""


def fit(run: Run, asked: Callable[[], Request | None]) -> str:
    """Train until the end, whatever it is, and leave the state of the run on disk.

    Parameters
    ----------
    run : Run
        The run.
    asked : callable
        Asked before every step what somebody wants.

    Returns
    -------
    str
        "finished", "time budget", "early stopping", "paused", "stopped" or "discarded".

    Raises
    ------
    ModelError
        The network gives no numbers, whatever is tried.
    JobError
        Memory is nearly used up, or the best model or a pause cannot be written to disk.
    """
    try:
        ended = _train(run, partial(run.listen, asked))
        if ended == ENDED[Request.PAUSE]:
            run.save(demand=True)  # a pause that loses work must not be taken for one
        elif ended != ENDED[Request.DISCARD]:
            run.state.seconds = run.seconds
            run.checkpoints.close()
    except SegcoreError:
        run.save()  # so that it can be resumed once the cause is gone
        raise
    if ended == FINISHED and not run.state.best_epoch:
        raise ModelError(
            "The training diverged: no epoch gave a network whose loss is a number, so there is no model.",
            "Use a much lower learning rate, or leave the autopilot on.",
        )
    return ended


def _train(run: Run, asked: Callable[[], Request | None]) -> str:
    state = run.state
    while state.epoch < run.last_epoch:
        if state.part is None:
            # Here and not after the epoch: a run that is resumed at this point has not been judged yet.
            intervene(run)
            if _is_in_vain(run):
                return EARLY
        passage = train_epoch(run, asked)
        request = passage.request
        if request in (Request.PAUSE, Request.DISCARD) or (request and state.best_epoch):
            return ENDED[request]  # the best model so far is there already
        if state.part is None or not state.part.done:
            return ENDED[request] if request else TIME_BUDGET
        if heard := close_epoch(run, asked):
            return ENDED[heard]
        if request:
            return ENDED[request]
        if not passage.complete and passage.diagnosis is None:
            return TIME_BUDGET
        if passage.diagnosis:
            intervene(run, passage.diagnosis)
    return FINISHED


def _is_in_vain(run: Run) -> bool:
    """Say whether the person's patience is at its end, and tell them."""
    state, training = run.state, run.config.training
    without_gain = state.epoch - state.gain_epoch
    if not training.patience or without_gain < training.patience or state.epoch >= run.last_epoch:
        return False
    what = "F1 of objects" if run.head else "validation Dice"
    text = (
        f"Stopped early: the {what} rose by no more than {training.min_gain:g} for {without_gain} "
        f"epochs. The best epoch is {state.best_epoch}."
    )
    run.report(NoteEvent(text=text))
    return True
