"""What happens when the autopilot finds a collapse: back to a good point, and on more gently."""

from __future__ import annotations

from typing import Any

from segcore.errors import ModelError
from segcore.events import InterventionEvent, NoteEvent
from segcore.training.autopilot import Autopilot
from segcore.training.context import Run
from segcore.training.optim import build_optimizer
from segcore.training.state import Phase, build_scaler
from segcore.training.treatment import MOST_TREATMENTS, Diagnosis, Treatment


def intervene(run: Run, diagnosis: Diagnosis | None = None) -> None:
    """Judge the run between two epochs; if it has collapsed, go back and begin anew, more gently.

    Epoch numbers go on, so that the curves show collapse and recovery.

    Parameters
    ----------
    run : Run
        The run.
    diagnosis : Diagnosis, optional
        What was found in the middle of the epoch.

    Raises
    ------
    ModelError
        The run diverges although everything was tried; the best model is kept.
    """
    state, autopilot = run.state, run.autopilot
    if autopilot is None or state.epoch >= run.last_epoch:
        return
    since = [event for event in state.history if event.epoch > state.phase.epoch]
    if diagnosis is None and since:
        diagnosis = autopilot.check_epoch(since)
    if diagnosis is None:
        return
    number = 1 + sum(event.what != "memory" for event in state.interventions)
    treatment = autopilot.treat(diagnosis, state.treatment, number) if number <= MOST_TREATMENTS else None
    if treatment is None:
        _give_up(run, diagnosis, autopilot)
    else:
        _treat(run, diagnosis, treatment, autopilot)


def _treat(run: Run, diagnosis: Diagnosis, treatment: Treatment, autopilot: Autopilot) -> None:
    state = run.state
    number = len(state.interventions) + 1
    epoch = _go_back(run, autopilot, number, fresh=treatment.fresh)
    way = f"back to epoch {epoch}" if epoch else "new start"
    state.treatment = treatment
    run.follow_treatment()
    state.phase = Phase(state.epoch, state.step, run.seconds)
    state.gain_epoch = state.epoch
    event = InterventionEvent(
        epoch=state.epoch,
        number=number,
        what=diagnosis.what,
        text=diagnosis.text,
        cause=diagnosis.cause,
        action=f"{way}: {treatment.describe()}",
    )
    state.interventions.append(event)
    run.report(event)
    run.save()


def _go_back(run: Run, autopilot: Autopilot, number: int, *, fresh: bool) -> int:
    """Take the weights of the last good point, or new ones; return its epoch, 0 for new weights."""
    state = run.state
    content = None if fresh else _good_point(run, autopilot)
    if content is not None:
        state.restore_weights(content)
        return state.best_epoch
    state.network.load_state_dict(run.first_weights(run.config.training.seed + number))
    state.optimizer = build_optimizer(state.network, run.config.training, run.hardware.device)
    state.scaler = build_scaler(run.hardware)
    if state.average:
        state.average.restart()
    if state.adversary:
        state.adversary.restart(run.config.training.seed + number)
    return 0


def _good_point(run: Run, autopilot: Autopilot) -> dict[str, Any] | None:
    """Return the state at the best epoch, if the network had learned to tell classes apart by then."""
    best = next((event for event in run.state.history if event.epoch == run.state.best_epoch), None)
    if best is None or not autopilot.has_learned(best):
        return None
    # Only the leader keeps it, perhaps in memory.
    return run.team.lead(run.checkpoints.best_content)


def _give_up(run: Run, diagnosis: Diagnosis, autopilot: Autopilot) -> None:
    """Say once that nothing more can be done; a run without numbers ends, any other goes on."""
    state = run.state
    if diagnosis.what == "not-finite":
        # What is saved last must be a state from which the run can be continued.
        _go_back(run, autopilot, len(state.interventions) + 1, fresh=False)
        kept = "The best model so far was kept. " if state.best_epoch else ""
        raise ModelError(
            f"{diagnosis.text} The training was started more gently {MOST_TREATMENTS} times, in vain. {kept}"
            f"{diagnosis.cause}",
            "Use a much lower learning rate, and check the images for values that are not numbers.",
        )
    if state.given_up:
        return
    state.given_up = True
    text = (
        f"{diagnosis.text} {diagnosis.cause} Gentler starts have not helped; the training goes on as it is."
    )
    remedy = "Look at the annotations with the check of step 1, or try another loss or learning rate."
    run.report(NoteEvent(level="warning", text=text, remedy=remedy))
