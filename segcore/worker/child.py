"""The job process: does the work of one run folder and writes into it how it ended."""

from __future__ import annotations

import errno
import logging
import math
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from segcore.config import RunConfig
from segcore.errors import LostProcess, SegcoreError
from segcore.estimate import Network, patch_macs, record_speed
from segcore.events import EndEvent, EpochEvent, Event, NoteEvent, Reporter, Request, StageEvent
from segcore.jobs.journal import FolderReporter, read_results
from segcore.jobs.store import Job, State, end_job, read_job, start_job
from segcore.memory import is_out_of_memory
from segcore.worker.switch import Switch
from segcore.workspace import Workspace

if TYPE_CHECKING:
    from segcore.worker.ready import KeptModel

logger = logging.getLogger(__name__)

REGISTRY = "models:/"
LESS_MEMORY = {
    "train": "Use a smaller batch size, patch size or number of features, or close other programs.",
    "predict": "Use a smaller tile size (--inference.tile-size), or close other programs.",
}


@dataclass(frozen=True)
class Ending:
    """How a job ended, in the person's words."""

    state: State
    message: str = ""
    remedy: str = ""

    @property
    def code(self) -> int:
        """Exit status of the process."""
        return 1 if self.state is State.FAILED else 0


class _LoggedReporter(FolderReporter):
    """Also writes the history of the job into its log, for people."""

    def __call__(self, event: Event) -> None:
        """Write one event."""
        super().__call__(event)
        if isinstance(event, StageEvent):
            logger.info("%s", event.text)
        elif isinstance(event, NoteEvent):
            level = logging.getLevelNamesMapping()[event.level.upper()]
            logger.log(level, "%s %s", event.text, event.remedy)
        elif isinstance(event, EpochEvent):
            training = f"training loss {event.train_loss:.4f}"
            if not math.isnan(event.train_dice):  # some networks do not say what they would answer
                training += f", Dice {event.train_dice:.4f}"
            validation = f"validation loss {event.val_loss:.4f}, Dice {event.val_dice:.4f}"
            if event.val_f1 is not None:
                validation += f", F1 of objects {event.val_f1:.4f}"
            best = " (the best so far)" if event.best else ""
            logger.info("epoch %d of %d: %s; %s%s", event.epoch, event.epochs, training, validation, best)


def work(folder: Path, workspace: Workspace, mark: str = "", kept: KeptModel | None = None) -> int:
    """Do the job in `folder`, if it still waits, and return the exit status of the process.

    Parameters
    ----------
    folder : Path
        The run folder.
    workspace : Workspace
        The workspace of the job.
    mark : str
        What the process is recognised by, if not by the job's id (`Job.mark`).
    kept : KeptModel, optional
        The model of the segmentation before, in a process that has done one; takes this one's.
    """
    job = start_job(folder, mark)
    if job.state is not State.RUNNING or job.pid != os.getpid():
        return 0
    # The supervisor has tied stdout to log.txt.
    logging.basicConfig(
        stream=sys.stdout,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
    )
    switch = Switch(job)
    switch.install()
    report = _LoggedReporter(folder)
    ending = _attempt(job, report, switch, lambda: _run(job, workspace, report, switch, kept))
    if read_job(folder).attempts != job.attempts:
        return 0  # another process does the job: what lies in the folder is the other's
    logger.info("%s %s", ending.state, ending.message)
    with suppress(OSError):  # on a full disk, room is left for what matters most: the state
        report(EndEvent(state=ending.state, text=ending.message))
    end_job(folder, ending.state, ending.message, ending.remedy, job.attempts)
    return ending.code


def _attempt(job: Job, report: Reporter, switch: Switch, run: Callable[[], Request | None]) -> Ending:
    try:
        report(StageEvent(text="starting"))
        request = run()
    except LostProcess as error:
        return Ending(State.INTERRUPTED, error.message, error.remedy)
    except SegcoreError as error:
        return Ending(State.FAILED, error.message, error.remedy)
    except Exception as error:
        logger.exception("The job failed.")
        return explain_failure(error, job)
    return _ending(job, request, switch.wish)


_FURTHER = {False: "It goes on from here.", True: "Resumed, it begins anew."}


def _ending(job: Job, request: Request | None, wish: Request | None) -> Ending:
    """Return how a job ended that did what it was asked to.

    Parameters
    ----------
    job : Job
        The job.
    request : Request, optional
        Why its work ended; None if it was done.
    wish : Request, optional
        What a person asked for. Without one, a pause means that the machine goes down.
    """
    if Request.DISCARD in (request, wish):
        return Ending(State.DISCARDED, "Discarded.")
    if request is None:
        return Ending(State.FINISHED)
    if request is Request.PAUSE and wish is Request.PAUSE:
        return Ending(State.PAUSED, f"Paused. {_FURTHER[bool(job.evaluates)]}")
    if request is Request.PAUSE:
        saved = "" if job.evaluates else ", and saved its state"
        text = f"Its process was told to end{saved}. {_FURTHER[bool(job.evaluates)]}"
        return Ending(State.INTERRUPTED, text)
    kept = (job.folder / "best_model.pth").exists()
    return Ending(
        State.CANCELLED,
        "Stopped on request. The best model so far was kept." if kept else "Stopped on request.",
    )


def _run(
    job: Job, workspace: Workspace, report: Reporter, switch: Switch, kept: KeptModel | None
) -> Request | None:
    """Do the work and return what was asked, if that is why it ended."""
    config = resolve_model(job.config, workspace)
    # The engine imports torch, which takes seconds: only the process that computes pays for it.
    use_physical_cores()
    if job.kind == "train":
        from segcore.training.run import train

        outcome = train(config, job.folder, report, switch)
        _remember_speed(job, workspace)
        return outcome.request
    model = kept.load(config) if kept and config.inference.model else None
    reference = job.config.inference.model
    if job.evaluates:
        from segcore.inference.compare import compare

        part = None if job.evaluates == "default" else job.evaluates
        return compare(config, job.folder, report, switch, model, part, reference).request
    from segcore.inference.run import segment

    return segment(config, job.folder, report, switch, model, reference).request


def _remember_speed(job: Job, workspace: Workspace) -> None:
    """Let the next prediction of a duration use what this training showed of the machine."""
    results = read_results(job)
    config, card = job.config, job.card
    if card is None or not results or not config.model.kind.is_unet:
        return
    network = Network(*config.model.like, card.inputs, card.outputs, card.strides)
    macs = patch_macs(config, network)
    record_speed(workspace, results["device"], results["patches_per_second"], macs)


def resolve_model(config: RunConfig, workspace: Workspace) -> RunConfig:
    """Return `config` with models of the registry (`models:/name@alias`) replaced by local folders."""
    applied = config.inference.model
    if applied is not None and applied.startswith(REGISTRY):
        inference = config.inference.model_copy(update={"model": _fetch(applied, workspace)})
        config = config.model_copy(update={"inference": inference})
    if any(name.startswith(REGISTRY) for name in config.inference.ensemble):
        names = [
            _fetch(name, workspace) if name.startswith(REGISTRY) else name
            for name in config.inference.ensemble
        ]
        inference = config.inference.model_copy(update={"ensemble": names})
        config = config.model_copy(update={"inference": inference})
    named = {name: getattr(config.training, name) for name in ("start_from", "teacher")}
    fetched = {
        name: _fetch(model, workspace)
        for name, model in named.items()
        if model is not None and model.startswith(REGISTRY)
    }
    if fetched:
        training = config.training.model_copy(update=fetched)
        config = config.model_copy(update={"training": training})
    return config


def _fetch(reference: str, workspace: Workspace) -> str:
    from segcore.tracking.models import fetch

    return str(fetch(reference, workspace))


def explain_failure(error: Exception, job: Job) -> Ending:
    """Say in the person's words what an error that is none of ours means; the log has the traceback."""
    if is_out_of_memory(error):
        return Ending(State.FAILED, "Memory ran out.", LESS_MEMORY[job.kind])
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Ending(
            State.FAILED, "The disk is full.", "Free disk space, for example in Files, and start it again."
        )
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        remedy = "Check that the file is there and that you may read and write it; the log has the details."
        return Ending(State.FAILED, f"A file could not be used: {error.strerror}{where}.", remedy)
    remedy = "See the end of the log; if it does not help, report it together with the log."
    return Ending(State.FAILED, f"An unexpected error ended the job: {type(error).__name__}.", remedy)


def use_physical_cores() -> None:
    """Give torch one thread per physical core that this process may use, unless the user has decided it."""
    if "OMP_NUM_THREADS" in os.environ:
        return
    import torch

    torch.set_num_threads(min(psutil.cpu_count(logical=False) or usable_cores(), usable_cores()))


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many cores the process may keep busy: its affinity, and the quota of its container."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return min(cores, max(1, round(int(quota) / int(period)))) if quota.isdigit() else cores
