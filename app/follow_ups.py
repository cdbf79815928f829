"""FollowUps: what may come after a run — more epochs, other images, other seeds — and how it is started."""

from __future__ import annotations

import glob
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from app.registry import Registry
from segcore.addresses import COCO, IMAGENET, is_model_file, is_url, split_address, split_hub_id
from segcore.card import read_config
from segcore.config import DataConfig, RunConfig, build_config
from segcore.errors import DataError, ModelError, SegcoreError
from segcore.jobs.groups import GroupSummary, submit_repeats, summary
from segcore.jobs.lineage import (
    REGISTRY,
    WEIGHTS,
    check_continuable,
    check_origin,
    continued,
    fine_tuned,
    gentler_rate,
    with_training,
)
from segcore.jobs.store import Job, State, find_job
from segcore.jobs.trials import is_trial, submit_trial
from segcore.sidecar import refuse_training
from segcore.workspace import Workspace

OF_THE_IMAGES = (
    "images", "labels", "mask", "sets", "axes", "pixel_size", "recipe", "annotated_slices",
    "validation_slices", "test_slices", "validation_groups", "test_groups",
)  # fmt: skip
"""Options that say something about certain images, and nothing about others."""


@dataclass(frozen=True)
class Ways:
    """What can be done after a run.

    Parameters
    ----------
    continues : bool
        It can be trained for more epochs.
    tunes : bool
        Its model can be trained further on other images.
    epochs : int
        A sensible number of more epochs: half as many as it was given.
    group : GroupSummary or None
        The repeats of the same training with other seeds, if there are any.
    """

    continues: bool = False
    tunes: bool = False
    epochs: int = 10
    group: GroupSummary | None = None


class FollowUps:
    """Starts what comes after a run. Every path that comes from the page is resolved inside the workspace.

    Parameters
    ----------
    workspace : Workspace
        The folder the app serves.
    models : Registry
        The registered models.
    wake : callable
        Called when a job was queued.
    """

    def __init__(self, workspace: Workspace, models: Registry, wake: Callable[[], None]) -> None:
        self._workspace = workspace
        self._models = models
        self._wake = wake

    def submit(self, config: RunConfig) -> Job:
        """Queue a training, or all its repeats, and return the (first) job.

        Parameters
        ----------
        config : RunConfig
            `training.start_from`, `continue_from` and `teacher` name a run by its id, a file or folder of the
            workspace, or a registered model; `model.pretrained` a file or folder of the workspace, or an id
            of the hub.

        Raises
        ------
        SegcoreError
            What it begins from is missing, lies outside the workspace or does not fit.
        """
        config, parent = self._prepared(config)
        if (source := config.training.start_from) and source.startswith(REGISTRY):
            parent = self._models.describe(source).job_id
        return self._queue(config, parent)

    def submit_trial(self, configs: Sequence[RunConfig]) -> Job:
        """Queue families that are tried beside each other, and return the first training.

        Parameters
        ----------
        configs : sequence of RunConfig
            See `trial_configs`; what they name is as in `submit`.

        Raises
        ------
        SegcoreError
            As of `submit`.
        """
        made = submit_trial(self._workspace, [self._prepared(one)[0] for one in configs])
        self._wake()
        return made[0]

    def continue_run(self, run: str, epochs: int) -> Job:
        """Queue a run that goes on with `run` for more epochs, on the same images with the same options.

        Raises
        ------
        SegcoreError
            It cannot be continued, or its images are gone.
        """
        parent = find_job(self._workspace, run)
        build_config({"training": {"epochs": epochs}})
        config = continued(parent, int(epochs))
        for name in ("images", "labels"):
            path = getattr(config.data, name)
            if not path or not all(_is_there(part.strip()) for part in path.split(";")):
                raise DataError(
                    f"The {name} of the run are gone: {path}.",
                    "Put them back, or train its model further on other data.",
                )
        return self._queue(config, check_origin(config, self._workspace))

    def fine_tune(self, model: str, config_file: str = "") -> RunConfig:
        """Return the options with which a model is trained further on other images.

        Parameters
        ----------
        model : str
            Id of a run, path of a `.pth` in the workspace, or a registered model.
        config_file : str
            Path of the `config.json` that belongs to a `.pth`.

        Raises
        ------
        SegcoreError
            The model is missing, or nobody knows how it was trained.
        """
        config = fine_tuned(self._options_of(model, config_file), model)
        defaults = DataConfig()
        data = config.data.model_copy(update={name: getattr(defaults, name) for name in OF_THE_IMAGES})
        return config.model_copy(update={"data": data})

    def usual_rate(self, model: str, rate: float) -> float:
        """Return the learning rate the model was trained with, if `rate` is what `fine_tune` made of it."""
        options = self._options_of(model, "")
        return options.training.learning_rate if gentler_rate(options) == rate else rate

    def ways(self, run: str) -> Ways:
        """Return what can be done after a run; JobError if there is no such run."""
        job = find_job(self._workspace, run)
        if job.kind != "train":
            return Ways()
        return Ways(
            continues=_is_continuable(job),
            tunes=job.state.final and job.state is not State.DISCARDED and (job.folder / WEIGHTS).is_file(),
            epochs=max(1, job.config.training.epochs // 2),
            group=summary(self._workspace, job.group, job.session) if _repeats(job) else None,
        )

    def _prepared(self, config: RunConfig) -> tuple[RunConfig, str]:
        """Return options with absolute paths of what they begin with, and the run it is (`check_origin`)."""
        names = ("start_from", "continue_from", "teacher")
        given = {name: getattr(config.training, name) for name in names}
        found = {name: self._located(value) for name, value in given.items() if value}
        config = with_training(self._with_weights(config), **found)
        return config, check_origin(config, self._workspace)

    def _queue(self, config: RunConfig, parent: str) -> Job:
        job = submit_repeats(self._workspace, config, parent)[0]
        self._wake()
        return job

    def _with_weights(self, config: RunConfig) -> RunConfig:
        """Return `config` with pretrained weights of the workspace, unless the hub has them."""
        name = config.model.pretrained
        # What lies in a folder of the workspace may look like an id: owner/name.
        on_hub = split_hub_id(name) and not (self._workspace.root / Path(name).parts[0]).exists()
        if config.training.start_from:
            name = ""  # the model to start from brings all weights: no others need to be there
        elif not on_hub and name not in ("", IMAGENET, COCO):
            name = str(self._workspace.resolve(name))
        return config.model_copy(update={"model": config.model.model_copy(update={"pretrained": name})})

    def _located(self, model: str) -> str:
        if model.startswith(REGISTRY):
            return model
        if _is_id(model) and not (self._workspace.root / model).exists():
            return str(find_job(self._workspace, model).folder)
        return str(self._workspace.resolve(model))

    def _options_of(self, model: str, config_file: str) -> RunConfig:
        if _is_id(model):
            return find_job(self._workspace, model).config
        if model.startswith(REGISTRY):
            return self._options_of_version(model)
        weights = self._workspace.resolve(model)
        refuse_training(weights)
        beside = (
            weights.with_name("config.json"),
            weights.with_suffix(".json"),
            weights.parents[1] / "config.json",
        )
        found = next((path for path in beside if path.is_file()), None)
        if found is None or (config_file and self._workspace.resolve(config_file) != found):
            raise ModelError(
                f"To train {weights.name} further, its configuration must lie beside it.",
                f"Put it there as {weights.stem}.json.",
            )
        return read_config(found)[0]

    def _options_of_version(self, reference: str) -> RunConfig:
        version = self._models.describe(reference)
        try:
            return find_job(self._workspace, version.job_id).config
        except SegcoreError:  # its run is gone, or was made in another workspace
            return read_config(self._models.fetch(reference) / "config.json")[0]


def _repeats(job: Job) -> bool:
    """Say whether a run is one of several with other seeds."""
    return bool(job.group) and not is_trial(job.group)


def _is_continuable(job: Job) -> bool:
    try:
        check_continuable(job)
    except ModelError:
        return False
    return True


def _is_there(address: str) -> bool:
    return is_url(address) or glob.has_magic(address) or Path(split_address(address)[0]).exists()


def _is_id(model: str) -> bool:
    return "/" not in model and not is_model_file(model)
