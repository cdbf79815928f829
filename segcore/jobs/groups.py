"""Groups: the repeats of one training with successive seeds, and what they come to together."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean, stdev

from segcore.config import RunConfig
from segcore.errors import ConfigError, JobError, SegcoreError
from segcore.events import score_of
from segcore.jobs.journal import read_results
from segcore.jobs.queue import discard, submit
from segcore.jobs.store import Job, State, read_job
from segcore.workspace import Workspace

SEEDS = 2**31
"""Seeds are smaller than this."""


@dataclass(frozen=True)
class Repeat:
    """One training of a group.

    Parameters
    ----------
    id : str
        Of the job.
    seed : int
        What it differs in.
    state : State
        Where it is in its life.
    score : float or None
        Best validation Dice, or F1 of objects where they are learned, 0 to 1, once it has finished.
    """

    id: str
    seed: int
    state: State
    score: float | None


@dataclass(frozen=True)
class GroupSummary:
    """What the repeats of a training come to; those that were stopped early or failed are not counted.

    Parameters
    ----------
    repeats : tuple of Repeat
        In the order of their making.
    measure : str
        What their scores are: "Dice" or "F1".
    """

    repeats: tuple[Repeat, ...]
    measure: str = "Dice"

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of every repeat."""
        return tuple(repeat.seed for repeat in self.repeats)

    @property
    def scores(self) -> tuple[float, ...]:
        """The best score of every repeat that has finished."""
        return tuple(repeat.score for repeat in self.repeats if repeat.score is not None)

    @property
    def mean(self) -> float | None:
        """Mean of `scores`; None before the first."""
        return fmean(self.scores) if self.scores else None

    @property
    def spread(self) -> float | None:
        """Sample standard deviation of `scores`; None before the second."""
        return stdev(self.scores) if len(self.scores) > 1 else None

    @property
    def finished(self) -> int:
        """How many count."""
        return len(self.scores)

    @property
    def total(self) -> int:
        """How many there are."""
        return len(self.repeats)

    @property
    def over(self) -> bool:
        """True if nothing more comes by itself."""
        return all(repeat.state.final for repeat in self.repeats)


def new_group() -> str:
    """Return an id for the repeats of a training."""
    return f"{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def repeat_configs(config: RunConfig) -> list[RunConfig]:
    """Return the options of every repeat: successive seeds from `training.seed`, one training each.

    Raises
    ------
    ConfigError
        A run is to be continued several times.
    """
    training = config.training
    if training.repeats == 1:
        return [config]
    if training.continue_from:
        raise ConfigError(
            f"training.repeats is {training.repeats}, but a run that is continued takes over its random "
            "numbers: all repeats would be the same.",
            "Set training.repeats to 1, or start from the model instead (training.start_from).",
        )
    return [
        config.model_copy(
            update={
                "training": training.model_copy(update={"seed": (training.seed + n) % SEEDS, "repeats": 1})
            }
        )
        for n in range(training.repeats)
    ]


def submit_repeats(workspace: Workspace, config: RunConfig, parent: str = "") -> list[Job]:
    """Queue a training as often as `training.repeats` says, with successive seeds.

    Parameters
    ----------
    workspace : Workspace
        Where the run folders are made.
    config : RunConfig
        Options of all of them.
    parent : str
        Id of the run they start from.

    Returns
    -------
    list of Job
        In the order of their seeds; several share a group.

    Raises
    ------
    JobError
        A run folder or the queue cannot be written; what was queued before is discarded.
    ConfigError
        See `repeat_configs`.
    """
    configs = repeat_configs(config)
    return submit_together(workspace, configs, new_group() if len(configs) > 1 else "", parent)


def submit_together(
    workspace: Workspace, configs: Sequence[RunConfig], group: str, parent: str = ""
) -> list[Job]:
    """Queue trainings one behind the other, all of them or none; `group` and `parent` as in `create_job`.

    Raises
    ------
    JobError
        A run folder or the queue cannot be written; what was queued before is discarded.
    """
    made: list[Job] = []
    try:
        for one in configs:
            made.append(submit(workspace, "train", one, parent=parent, group=group))
    except JobError:
        for job in made:
            with suppress(SegcoreError):
                discard(workspace, job.folder)
        raise
    return made


def summary(workspace: Workspace, group: str, session: str = "*") -> GroupSummary:
    """Return what the repeats of a group have come to so far; no repeats if there is no such group.

    Parameters
    ----------
    workspace : Workspace
        Where the run folders are.
    group : str
        As in `Job.group`.
    session : str
        Session of the group; by default all are searched, which takes longer.
    """
    repeats, measure = [], "Dice"
    for path in workspace.models.glob(f"{session}/*/job.json"):
        with suppress(SegcoreError):  # deleted a moment ago, or damaged: the others still count
            job = read_job(path.parent)
            if group and job.group == group:
                measure = "F1" if job.config.model.learns_objects else "Dice"
                repeats.append(
                    (job.created, job.id, Repeat(job.id, job.config.training.seed, job.state, _score(job)))
                )
    ordered = sorted(repeats, key=lambda item: item[:2])
    return GroupSummary(tuple(repeat for _, _, repeat in ordered), measure)


def _score(job: Job) -> float | None:
    if job.state is not State.FINISHED:
        return None
    metrics = read_results(job).get("metrics")
    return score_of(metrics)[1] if isinstance(metrics, dict) else None
