"""What a page says about a job: pure functions from a JobView to words and HTML."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from app import views
from app.jobview import JobView
from app.series import last_gain
from segcore.events import InterventionEvent, Request
from segcore.jobs.store import State

KINDS = {"train": "training", "predict": "segmentation"}


def headline(view: JobView) -> str:
    """Return one sentence on where the job stands.

    A job that waits says for what, a job that failed says why.
    """
    if view.state is State.QUEUED:
        return waiting_text(view.place, KINDS[view.kind])
    if view.state is State.RUNNING:
        if view.request is not None:
            return _asked_text(view, view.request)
        return position(view) or view.stage or "starting"
    took = f" after {views.duration_text(view.elapsed)}" if view.elapsed is not None else ""
    return {
        State.FINISHED: f"finished{took}",
        State.CANCELLED: f"stopped{took}",
        State.FAILED: f"failed{took}",
        State.INTERRUPTED: f"interrupted{took}",
        State.PAUSED: f"paused{f' at {where}' if (where := position(view)) else ''}",
        State.DISCARDED: f"discarded{took}",
    }[view.state]


def _asked_text(view: JobView, request: Request) -> str:
    kept = "; the best model so far is kept" if view.kind == "train" else ""
    return {
        Request.PAUSE: "pausing" if view.evaluates else "pausing: saving where it stands",
        Request.STOP: f"stopping{kept}",
        Request.DISCARD: "discarding",
    }[request]


def waiting_text(place: int, kind: str) -> str:
    """Return for what a job waits.

    Examples
    --------
    >>> waiting_text(1, "training"), waiting_text(3, "training")
    ('waiting: next in line', 'waiting: 2 trainings come before yours')
    """
    before = place - 1
    if before < 1:
        return "waiting: next in line"
    return f"waiting: {before} {kind}{'s come' if before > 1 else ' comes'} before yours"


def position(view: JobView) -> str:
    """Return `epoch 12 of 100`, `slice 3 of 30` or "" before the first progress."""
    progress = view.progress
    if progress is None or progress.total < 1:
        return ""
    if progress.epochs:
        return f"epoch {min(progress.epoch, progress.epochs)} of {progress.epochs}"
    return f"{progress.stage}: {progress.unit} {progress.done} of {progress.total}"


def fraction_done(view: JobView) -> float | None:
    """Return how much of the job is done, 0 to 1, or None if nobody knows."""
    if view.state is State.FINISHED:
        return 1.0
    if view.kind == "train" and view.state.ended and view.last:
        return min(view.last.epoch / max(view.last.epochs, 1), 1.0)  # however far the last stage had got
    progress = view.progress
    if progress is None or progress.total < 1:
        return None if view.state is State.RUNNING else 0.0
    part = min(progress.done / progress.total, 1.0)
    if progress.epochs:
        return min((max(progress.epoch - 1, 0) + part) / progress.epochs, 1.0)
    return part


def progress_html(view: JobView) -> str:
    """Return the progress bar with position and time left."""
    text = headline(view)
    detail = ""
    if view.state is State.RUNNING and view.seconds_left is not None and not view.stopping:
        detail = f"{views.duration_text(view.seconds_left)} left"
    elif view.state is State.RUNNING and view.stage and view.stage != text:
        detail = view.stage
    return views.progress_html(fraction_done(view), text[0].upper() + text[1:], detail)


def message_html(view: JobView) -> str:
    """Return how the job ended, what that means, and what it had to say on the way."""
    lines = [views.mark_html(note.level, note.text, note.remedy) for note in view.notes]
    if view.interventions:
        lines.append(interventions_html(view.interventions))
    meaning = meaning_text(view)
    # What a pause and a discard mean says more than that they happened.
    if view.state.ended and view.message and view.state not in (State.PAUSED, State.DISCARDED):
        levels = {State.FINISHED: "ok", State.INTERRUPTED: "warning", State.FAILED: "error"}
        lines.append(views.mark_html(levels.get(view.state, "info"), view.message, view.remedy))
    if meaning:
        level = "warning" if view.state is State.INTERRUPTED else "info"
        lines.append(views.mark_html(level, meaning))
    return "".join(lines)


def meaning_text(view: JobView) -> str:
    """Return what the state means for the person, "" where the headline says it all."""
    saved = "from the beginning" if view.evaluates else "from where it was saved"
    if view.evaluates and view.state is State.PAUSED:
        return "Paused: the device is free. Resume begins it anew."
    if view.kind == "predict" and view.state is State.PAUSED:
        return "Paused: what is done stays on the disk, and the device is free. Resume goes on from here."
    if view.state is State.PAUSED:
        return f"Paused: the device is free. Resume goes on {saved}, today or in a month."
    if view.state is State.INTERRUPTED:
        if view.kind == "predict" or view.config.training.auto_resume:
            return (
                f"Its process ended unexpectedly. It goes on by itself {saved} as soon as a worker is there."
            )
        return f"Its process ended unexpectedly. Resume goes on {saved}."
    if view.kind == "predict" and view.state is State.DISCARDED:
        return "Discarded: nothing of it is kept but its options and its log."
    if view.state is State.DISCARDED:
        return "Discarded: its model, checkpoints and previews are deleted; options, log and curves stay."
    if view.state is State.RUNNING and view.resumes:
        return f"This run went on from its checkpoint after epoch {view.resumes[-1].epoch}; nothing is lost."
    return ""


def interventions_html(interventions: Sequence[InterventionEvent]) -> str:
    """Return what the autopilot found and did, one line each: found, likely cause, changed."""
    items = "".join(
        f"<li>After epoch {one.epoch}: {escape(one.text)}"
        + (f' <span class="subdued">Likely cause: {escape(one.cause)}</span>' if one.cause else "")
        + (f"<br><b>Changed:</b> {escape(one.action)}" if one.action else "")
        + "</li>"
        for one in interventions
    )
    times = "once" if len(interventions) == 1 else f"{len(interventions)} times"
    return f'<div class="interventions"><b>The autopilot stepped in {times}</b><ol>{items}</ol></div>'


def numbers_html(view: JobView) -> str:
    """Return the four numbers of the last epoch; of the best one once the training is over.

    Where objects are learned, a fifth says how well they are found.
    """
    epoch = view.best if view.state.ended else view.last
    names = {
        "train_loss": "Training loss",
        "val_loss": "Validation loss",
        "train_dice": "Training Dice",
        "val_dice": "Validation Dice",
        **({} if epoch is None or epoch.val_f1 is None else {"val_f1": "F1 of objects"}),
    }
    values = {key: _number(getattr(epoch, key) if epoch else None) for key in names}
    items = "".join(
        f'<div><dt>{name}</dt><dd data-metric="{key}">{values[key]}</dd></div>' for key, name in names.items()
    )
    note = ""
    if epoch is not None:
        which = "best epoch" if view.state.ended else "epoch"
        note = f'<p class="subdued">Numbers of {which} {epoch.epoch}</p>'
    facts = "".join(f"<li>{escape(fact)}</li>" for fact in facts_of(view))
    return f'<dl class="numbers">{items}</dl>{note}<ul class="facts">{facts}</ul>'


def facts_of(view: JobView) -> list[str]:
    """Return what there is to know beside the four numbers: best epoch, gain, speed, memory."""
    last, best = view.last, view.best
    if last is None:
        return []
    facts = [f"best: epoch {best.epoch}, {best.score_text}"] if best else []
    gain = last_gain(view.history, view.config.training.min_gain)
    without, patience = last.epoch - gain if gain is not None else 0, view.config.training.patience
    if patience:
        facts.append(f"no gain for {without} of {patience} epochs")
    elif without:
        facts.append(f"no gain for {without} epoch{'s' if without > 1 else ''}")
    facts.append(f"{last.patches_per_second:.3g} patches/s")
    if "loader_wait" in last.model_fields_set:
        facts.append(f"waiting for patches {views.share_text(last.loader_wait)}")
    if last.device_use is not None:
        facts.append(f"device busy {views.share_text(last.device_use)}")
    if last.memory:
        facts.append(f"memory {views.bytes_text(last.memory)}")
    training = view.config.training
    if training.micro_batch and training.micro_batch < training.batch_size:
        facts.append(f"{training.micro_batch} of {training.batch_size} patches of a batch at once")
    return facts


def classes_html(view: JobView) -> str:
    """Return Dice and IoU per class of the best epoch, "" before the first."""
    best = view.best
    if best is None:
        return ""
    names = view.label_names
    named = any(name != value for value, name in names.items())
    rows = [
        (value, *([names.get(value, "")] if named else []), _number(dice), _number(iou))
        for value, dice, iou in (
            (value, dice, best.val_iou_per_class.get(value))
            for value, dice in best.val_dice_per_class.items()
        )
    ]
    head = ("Class", "Name", "Dice", "IoU") if named else ("Class", "Dice", "IoU")
    return views.table_html(
        head, rows, f"Validation, epoch {best.epoch} ({'best' if view.state.final else 'best so far'})"
    )


def run_html(view: JobView) -> str:
    """Return which run is shown, as a link that can be mailed."""
    return f'<p class="subdued">Run <a href="?run={escape(view.id)}">{escape(view.id)}</a></p>'


def active_html(device: str, active: list[JobView]) -> str:
    """Return the header's right side: the device and what runs on it."""
    running = [view for view in active if view.state is State.RUNNING]
    waiting = len(active) - len(running)
    parts = [f"device: {escape(device)}"]
    for view in running:
        left = f", {views.duration_text(view.seconds_left)} left" if view.seconds_left is not None else ""
        where = position(view)
        inside = f" ({where}{left})" if where else ""
        parts.append(
            f'<a href="?run={escape(view.id)}">{view.noun} {escape(view.session)}{escape(inside)}</a>'
        )
    if waiting:
        parts.append(f"{waiting} waiting")
    return " ▪ ".join(parts)


def _number(value: float | None) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.3f}"
