"""Lineage: what a training goes on from, whether that is fit to go on from, and which runs are needed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from segcore.addresses import FOREIGN
from segcore.card import read_config
from segcore.config import ModelConfig, RunConfig
from segcore.errors import ConfigError, JobError, ModelError, SegcoreError
from segcore.jobs.store import Job, State, find_job, list_jobs, read_job
from segcore.sidecar import refuse_training
from segcore.workspace import Workspace

REGISTRY = "models:/"
WEIGHTS = "best_model.pth"
GENTLER = 10
"""A model that is trained further learns with so many times smaller steps."""


def continued(parent: Job, epochs: int) -> RunConfig:
    """Return the options of a run that goes on with a run that has ended, for `epochs` more epochs.

    Raises
    ------
    ModelError
        It cannot be continued.
    """
    check_continuable(parent)
    return with_training(
        parent.config,
        continue_from=str(parent.folder),
        epochs=epochs,
        # Of the run that goes on; the number of epochs is what was asked for now.
        start_from=None,
        max_minutes=None,
        repeats=1,
    )


def fine_tuned(config: RunConfig, source: str) -> RunConfig:
    """Return options to train a model further on other images: encoder frozen, smaller steps, no teacher.

    Parameters
    ----------
    config : RunConfig
        The options the model was trained with.
    source : str
        The model, as `training.start_from` takes it.
    """
    config = config.model_copy(update={"model": config.model.model_copy(update={"freeze_encoder": True})})
    return with_training(
        config,
        start_from=source,
        continue_from=None,
        teacher=None,  # it may be masks of the images there
        learning_rate=gentler_rate(config),
    )


def gentler_rate(config: RunConfig) -> float:
    """Return the learning rate with which a model that was trained so is trained further."""
    return float(f"{config.training.learning_rate / GENTLER:.3g}")


def with_training(config: RunConfig, **changes: Any) -> RunConfig:
    """Return `config` with other options of the training."""
    return config.model_copy(update={"training": config.training.model_copy(update=changes)})


def check_continuable(parent: Job) -> None:
    """Say why a run cannot be continued for more epochs.

    Raises
    ------
    ModelError
        It is no training, has not ended, or left no checkpoint.
    """
    if parent.kind != "train":
        raise ModelError(
            f"{parent.id} is {'an' if parent.evaluates else 'a'} {parent.noun}.", "Choose a training."
        )
    if parent.state in (State.PAUSED, State.INTERRUPTED):
        raise ModelError(
            f"The run {parent.id} is {parent.state}: it has epochs left.",
            "Resume it instead of continuing it.",
        )
    if not parent.state.ended:
        raise ModelError(f"The run {parent.id} is {parent.state}.", "Wait for its end, or stop it first.")
    if not parent.has_checkpoint or parent.state is State.DISCARDED:
        gone = "it was discarded" if parent.state is State.DISCARDED else "it has no checkpoint"
        raise ModelError(
            f"The run {parent.id} cannot be continued: {gone}.",
            "Choose a run that has its checkpoint, or start from a model (training.start_from).",
        )


def located(config: RunConfig, workspace: Workspace) -> RunConfig:
    """Return `config` with the runs and models it needs as absolute paths; ids of runs become folders."""
    names = ("start_from", "continue_from", "teacher")
    given = {name: value for name in names if (value := getattr(config.training, name))}
    return with_training(config, **{name: _located(value, workspace) for name, value in given.items()})


def _located(source: str, workspace: Workspace) -> str:
    if source.startswith(REGISTRY):
        return source
    with suppress(JobError):
        return str(find_job(workspace, source).folder)
    return str(Path(source).expanduser().resolve())


def check_origin(config: RunConfig, workspace: Workspace) -> str:
    """Check before a training is queued that what it begins from is there and fits.

    Parameters
    ----------
    config : RunConfig
        With the paths of `located`.
    workspace : Workspace
        Knows the runs.

    Returns
    -------
    str
        Id of the run it goes on from; "" if it begins with random weights or another file.

    Raises
    ------
    ModelError
        The run or model is missing, not fit to go on from, or of another size.
    ConfigError
        Both a run to continue and a model to start from are given; or nobody answers for images to be taught.
    """
    training = config.training
    if training.start_from and training.continue_from:
        raise ConfigError(
            "training.start_from and training.continue_from are both given.",
            "Continue a run, or start from a model: leave one of them out.",
        )
    _check_teacher(config)
    if training.continue_from:
        parent = read_job(Path(training.continue_from))
        check_continuable(parent)
        _check_size(parent.folder, config, "The run to continue")
        return parent.id
    if not training.start_from or training.start_from.startswith(REGISTRY):
        return ""  # the worker fetches a registered model, and compares it when it has
    path = Path(training.start_from)
    weights = path / WEIGHTS if path.is_dir() else path
    refuse_training(weights)
    if not weights.is_file():
        raise ModelError(
            f"There is no model to start from at {path}.",
            "Give a run that has finished an epoch, a .pth file, or models:/name@alias.",
        )
    _check_size(weights, config, "The model to start from")
    return _run_of(weights, workspace)


def _check_teacher(config: RunConfig) -> None:
    """Refuse a teacher that is not there, or missed; whether it fits is known once the data has been read."""
    teacher = config.training.teacher
    if teacher and not teacher.startswith(REGISTRY) and not Path(teacher).exists():
        raise ModelError(
            f"There is no teacher at {teacher}.",
            "Give the folder of a run, a .pth file, models:/name@alias, a file of another program "
            f"({', '.join(FOREIGN)}), or a folder of masks.",
        )
    bare = [one.images for one in config.data.sets if one.use == "teach" and not one.labels]
    if bare and not teacher:
        raise ConfigError(
            f"data.sets has images to be taught on ({bare[0]}), but no model answers for them.",
            "Name one in training.teacher, or give the set labels that were made elsewhere.",
        )


def _check_size(origin: Path, config: RunConfig, name: str) -> None:
    """Compare the network with that of the config.json beside the weights, or in the run folder."""
    places = [origin / "config.json"] if origin.is_dir() else [
        origin.with_name("config.json"), origin.with_suffix(".json"), origin.parents[1] / "config.json"
    ]  # fmt: skip
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise ModelError(
            f"{name} has no configuration: {places[0]} is missing.",
            "Put the config.json of its run beside it.",
        )
    there = read_config(found)[0].model
    if there.shape != config.model.shape:
        raise other_network(name, there, config.model)


def other_network(name: str, there: ModelConfig, here: ModelConfig) -> ModelError:
    """Return what is to be said of weights of another network: how it differs, and what to set."""
    settings = [
        f"{option} to {value}" for option, value in there.shape.items() if value != here.shape.get(option)
    ]
    same = there.family == here.family
    message = (
        f"{name} has {there.size_text}, this run {here.size_text}."
        if same
        else f"{name} is a {there.kind.title}, this run trains a {here.kind.title}."
    )
    return ModelError(message, f"Set {' and '.join(settings)}.")


def _run_of(weights: Path, workspace: Workspace) -> str:
    for folder in weights.parents[:2]:  # a kept epoch lies in the run's checkpoints/
        if folder.is_relative_to(workspace.models) and (folder / "job.json").is_file():
            with suppress(SegcoreError):
                return read_job(folder).id
    return ""


def needed_by(workspace: Workspace, path: Path) -> list[Job]:
    """Return the jobs that are not over and need something below `path` of another run.

    A training needs the run or model it goes on from until it is over, because it may be begun again; a
    segmentation or evaluation needs its model.
    """
    found = []
    for job in list_jobs(workspace):
        if job.state.final or job.folder.is_relative_to(path):
            continue
        with suppress(SegcoreError):  # of a damaged job nobody knows what it needs
            config = job.config
            training = config.training
            sources = (training.start_from, training.continue_from, training.teacher, config.inference.model)
            if any(Path(source).is_relative_to(path) for source in sources if source):
                found.append(job)
    return found


def check_unneeded(workspace: Workspace, path: Path) -> None:
    """Refuse to delete what another job needs.

    Raises
    ------
    JobError
        A job that is not over goes on from something below `path`.
    """
    jobs = needed_by(workspace, path)
    if jobs:
        raise JobError(
            f"{path.name} is needed by the {jobs[0].noun} {jobs[0].id}, which is {jobs[0].state}.",
            "Wait for its end, or stop or discard it, first.",
        )
