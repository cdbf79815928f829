"""The job process: does the work of one run folder and writes into it how it ended."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from segcore.config import RunConfig
from segcore.errors import SegcoreError
from segcore.estimate import record_speed, unet_macs
from segcore.events import EndEvent, EpochEvent, Event, NoteEvent, Reporter, StageEvent
from segcore.jobs.journal import FolderReporter, read_results
from segcore.jobs.store import Job, State, asked, end_job, start_job
from segcore.workspace import Workspace

logger = logging.getLogger(__name__)

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
        return 0 if self.state in (State.FINISHED, State.CANCELLED) else 1


class StopSwitch:
    """Says whether the job should stop: somebody asked in the folder, or sent SIGINT or SIGTERM."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._signalled = False

    def install(self) -> None:
        """Take the first SIGINT or SIGTERM as a request to stop and keep; the second ends the process."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signalled = True
        signal.signal(number, signal.SIG_DFL)

    def __call__(self) -> bool:
        """Return True once the job should stop."""
        return self._signalled or (asked(self.folder) is not None)


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
            training = f"training loss {event.train_loss:.4f}, Dice {event.train_dice:.4f}"
            validation = f"validation loss {event.val_loss:.4f}, Dice {event.val_dice:.4f}"
            best = " (the best so far)" if event.best else ""
            logger.info("epoch %d of %d: %s; %s%s", event.epoch, event.epochs, training, validation, best)


def work(folder: Path, workspace: Workspace) -> int:
    """Do the job in `folder`, if it still waits, and return the exit status of the process."""
    job = start_job(folder)
    if job.state is not State.RUNNING or job.pid != os.getpid():
        return 0
    # The supervisor has tied stdout to log.txt.
    logging.basicConfig(
        stream=sys.stdout,
        level=logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
        datefmt="%H:%M:%S",
    )
    switch = StopSwitch(folder)
    switch.install()
    report = _LoggedReporter(folder)
    ending = _attempt(job, workspace, report, switch)
    logger.info("%s %s", ending.state, ending.message)
    with suppress(OSError):  # on a full disk, room is left for what matters most: the state
        report(EndEvent(state=ending.state, text=ending.message))
    end_job(folder, ending.state, ending.message, ending.remedy)
    return ending.code


def _attempt(job: Job, workspace: Workspace, report: Reporter, switch: Callable[[], bool]) -> Ending:
    try:
        report(StageEvent(text="starting"))
        stopped = _run(job, workspace, report, switch)
    except SegcoreError as error:
        return Ending(State.FAILED, error.message, error.remedy)
    except Exception as error:
        logger.exception("The job failed.")
        return explain_failure(error, job)
    if not stopped:
        return Ending(State.FINISHED)
    kept = (job.folder / "best_model.pth").exists()
    return Ending(
        State.CANCELLED,
        "Stopped on request. The best model so far was kept." if kept else "Stopped on request.",
    )


def _run(job: Job, workspace: Workspace, report: Reporter, switch: Callable[[], bool]) -> bool:
    """Do the work and return whether it was stopped."""
    config = resolve_model(job.config, workspace)
    # The engine imports torch, which takes seconds: only the process that computes pays for it.
    _use_physical_cores()
    if job.kind == "train":
        from segcore.training.run import train

        stopped = train(config, job.folder, report, switch).stopped
        _remember_speed(job, workspace)
        return stopped
    from segcore.inference.run import segment

    return segment(config, job.folder, report, switch, reference=job.config.inference.model).stopped


def _remember_speed(job: Job, workspace: Workspace) -> None:
    """Let the next prediction of a duration use what this training showed of the machine."""
    results = read_results(job)
    config, card = job.config, job.card
    if card is None or not results:
        return
    size = config.data.patch_size
    network, classes = config.model, len(card.class_values)
    macs = unet_macs(network.features, network.layers, size, size, card.channels, classes)
    record_speed(workspace, results["device"], results["patches_per_second"], macs)


def resolve_model(config: RunConfig, workspace: Workspace) -> RunConfig:
    """Return `config` with a model of the registry (`models:/name@alias`) replaced by a local folder."""
    reference = config.inference.model
    if reference is None or not reference.startswith("models:/"):
        return config
    from segcore.tracking.models import fetch

    inference = config.inference.model_copy(update={"model": str(fetch(reference, workspace))})
    return config.model_copy(update={"inference": inference})


def explain_failure(error: Exception, job: Job) -> Ending:
    """Say in the person's words what an error that is none of ours means; the log has the traceback."""
    if _is_out_of_memory(error):
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


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, MemoryError):
        return True
    # CUDA has a class for it; the CPU's and MPS's allocators raise a plain RuntimeError.
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)


def _use_physical_cores() -> None:
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
