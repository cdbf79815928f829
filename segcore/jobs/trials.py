"""Trials: several families trained beside each other for equal minutes, and what each of them came to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from segcore.addresses import IMAGENET
from segcore.config import RunConfig, build_config
from segcore.errors import ConfigError, SegcoreError
from segcore.estimate import Machine
from segcore.events import score_of
from segcore.families import FAMILIES, Facts, Material, kind_of
from segcore.jobs.epochs import MODEL, best_epoch
from segcore.jobs.groups import new_group, submit_together
from segcore.jobs.journal import read_history, read_results
from segcore.jobs.store import Job, State, read_job
from segcore.workspace import Workspace

PREFIX = "try-"
"""Begins the group of a trial; other groups are repeats of one training."""
EPOCHS = 100_000
"""More than fit into any trial: the minutes end it."""


@dataclass(frozen=True)
class Tried:
    """One family of a trial; what nobody knows yet is None.

    Parameters
    ----------
    id : str
        Of the job.
    family, title : str
        Name in options, and for people.
    state : State
        Where the training is in its life.
    score : float or None
        Best validation Dice so far, or F1 of objects where they are learned, 0 to 1.
    best_epoch : int or None
        The epoch that reached it.
    parameters : int or None
        Numbers the network learns.
    seconds_per_megapixel : float or None
        What it takes to predict 10⁶ px (voxels) on the machine that trained it.
    model_bytes : int or None
        Size of the file with its weights.
    message : str
        Why it failed, "" if it did not.
    measure : str
        What the score is: "Dice" or "F1".
    """

    id: str
    family: str
    title: str
    state: State
    score: float | None
    best_epoch: int | None
    parameters: int | None
    seconds_per_megapixel: float | None
    model_bytes: int | None
    message: str = ""
    measure: str = "Dice"


def is_trial(group: str) -> bool:
    """Say whether a group (`Job.group`) is a trial of families, not the repeats of one training."""
    return group.startswith(PREFIX)


def new_trial() -> str:
    """Return an id for the trainings of a trial."""
    return PREFIX + new_group()


def facts_of(config: RunConfig) -> Facts:
    """Return what decides which families can work with these options, whatever family they name."""
    data, model = config.data, config.model
    return Facts(
        data.mode,
        data.patch_size,
        model.layers,
        data.context_slices,
        model.encoder,
        model.features,
        model.head,
    )


def material_of(config: RunConfig, slices: int, machine: Machine | None) -> Material:
    """Return what is known of task, images and machine.

    Parameters
    ----------
    config : RunConfig
        Options; `model.head` says what is learned.
    slices : int
        Annotated slices, 0 where nobody knows.
    machine : Machine or None
        What was measured of it; None counts as one without a graphics card.
    """
    graphics = machine is not None and not machine.text.startswith("CPU") and config.hardware.device != "cpu"
    return Material(graphics=graphics, annotated=slices, kind=kind_of(config.model.head))


def trial_configs(
    config: RunConfig, families: Sequence[str], minutes: float, crop: Sequence[int] = ()
) -> list[RunConfig]:
    """Return the options of every training of a trial: equal but for the family.

    Parameters
    ----------
    config : RunConfig
        Options of all of them; how long they train, what they begin with (but for weights that each family
        has of its own), and what of them is frozen, does not count.
    families : sequence of str
        Names; one that is named twice counts once.
    minutes : float
        What each may take.
    crop : sequence of int, optional
        Rows and columns of the part of every image that is used, px; two more numbers are its first row and
        column, else it is the middle. By default the images are used whole.

    Raises
    ------
    ConfigError
        A family does not exist or cannot work with the options: all of them at once. Or there are no minutes.
    """
    names = list(dict.fromkeys(families))
    if not names:
        raise ConfigError("No family is named.", "Name at least one; `segcore models` lists them.")
    if not (math.isfinite(minutes) and minutes > 0):
        raise ConfigError(f"A trial of {minutes:g} minutes tries nothing.", "Give more than 0 minutes.")
    if crop and (len(crop) not in (2, 4) or min(crop[:2]) < 1 or min(crop) < 0):
        raise ConfigError(
            f"A crop of {','.join(map(str, crop))} is no part of an image.",
            "Give rows and columns, and if need be the first row and column.",
        )
    made: list[RunConfig] = []
    problems: list[str] = []
    for name in names:
        try:
            made.append(build_config(_values(config, FAMILIES[name].name, minutes, crop)))
        except ConfigError as error:
            problems.append(" ".join(filter(None, (error.message, error.remedy))))
    if problems:
        raise ConfigError("\n".join(problems), "Leave these families out, or change the options.")
    return made


def submit_trial(workspace: Workspace, configs: Sequence[RunConfig]) -> list[Job]:
    """Queue the trainings of a trial one behind the other; they share a group.

    Parameters
    ----------
    workspace : Workspace
        Where the run folders are made.
    configs : sequence of RunConfig
        See `trial_configs`.

    Raises
    ------
    JobError
        A run folder or the queue cannot be written; what was queued before is discarded.
    """
    return submit_together(workspace, configs, new_trial())


def read_trial(workspace: Workspace, group: str, session: str = "*") -> tuple[Tried, ...]:
    """Return what the families of a trial have come to so far, in the order in which they were queued.

    Parameters
    ----------
    workspace : Workspace
        Where the run folders are.
    group : str
        As in `Job.group`.
    session : str
        Session of the group; by default all are searched, which takes longer.
    """
    found = []
    for path in workspace.models.glob(f"{session}/*/job.json"):
        with suppress(SegcoreError):  # deleted a moment ago, or damaged: the others still count
            job = read_job(path.parent)
            if is_trial(group) and job.group == group:
                found.append((job.created, job.id, _tried(job)))
    return tuple(one for _, _, one in sorted(found, key=lambda item: item[:2]))


def _values(config: RunConfig, family: str, minutes: float, crop: Sequence[int]) -> dict[str, Any]:
    values = config.model_dump()
    takes = "pretrained" in FAMILIES[family].options
    values["model"] |= {
        "family": family,
        # Weights and stages of one family are none of another; these each family has of its own.
        "pretrained": IMAGENET if takes and config.model.pretrained == IMAGENET else "",
        "freeze_encoder": False,
        "freeze": [],
    }
    values["training"] |= {
        "max_minutes": minutes,
        "epochs": EPOCHS,
        "patience": 0,
        "repeats": 1,
        "compile": "off",  # building kernels takes a minute of those few
        "start_from": None,
        "continue_from": None,
    }
    if crop:
        values["data"]["recipe"] = [*values["data"]["recipe"], f"pair.crop {' '.join(map(str, crop))}"]
        values["training"]["feedback_region"] = None  # it was drawn on the whole image
    return values


def _tried(job: Job) -> Tried:
    config, results = job.config, read_results(job)
    best = best_epoch(read_history(job.folder))
    told = results.get("metrics") or {}
    score = best.val_score if best else score_of(told)[1]
    parameters = results.get("parameters")
    if parameters is None and (card := job.card) is not None:
        parameters = card.parameters
    size: int | None = None
    with suppress(OSError):
        size = (job.folder / MODEL).stat().st_size
    return Tried(
        id=job.id,
        family=config.model.family,
        title=config.model.kind.title,
        state=job.state,
        score=score if score is not None and math.isfinite(score) else None,
        best_epoch=best.epoch if best else results.get("best_epoch"),
        parameters=parameters,
        seconds_per_megapixel=results.get("seconds_per_megapixel"),
        model_bytes=size,
        message=job.message if job.state is State.FAILED else "",
        measure="F1" if config.model.learns_objects else "Dice",
    )
