"""Segmentations and their evaluation: with which model, whether images suit it; and putting it in line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from app.data_desk import DataDesk
from app.jobview import JobView
from app.registry import Registry
from segcore.addresses import is_foreign, is_model_file
from segcore.card import ModelCard, config_places, read_config
from segcore.config import DataConfig, InferenceConfig, RunConfig
from segcore.data.split_file import split_folder
from segcore.data.suitability import as_trained
from segcore.errors import DataError, ModelError, SegcoreError
from segcore.estimate import read_machine
from segcore.inference.needs import Needs, needs_of
from segcore.jobs import queue
from segcore.jobs.store import Compared, Job
from segcore.sidecar import read_sidecar, sidecar_of
from segcore.workspace import Workspace

WEIGHTS = "best_model.pth"


class Segmentations:
    """What the page asks of the engine before a segmentation begins.

    Parameters
    ----------
    workspace : Workspace
        The folder the app serves.
    data : DataDesk
        Opens the images.
    models : Registry
        Knows registered models.
    job : callable
        Returns a job by its id.
    wake : callable
        Starts a worker if there is none.
    """

    def __init__(
        self,
        workspace: Workspace,
        data: DataDesk,
        models: Registry,
        job: Callable[[str], JobView],
        wake: Callable[[], None],
    ) -> None:
        self._workspace = workspace
        self._data = data
        self._models = models
        self._job = job
        self._wake = wake

    def submit(self, config: RunConfig) -> Job:
        """Check what can be checked, and put the segmentation in line.

        Raises
        ------
        DataError, ModelError
            Images or model are missing, or do not fit.
        JobError
            The disk is too small for the result.
        """
        if not config.inference.model:
            raise ModelError("A segmentation needs a model.", "Choose a model.")
        if not config.data.images:
            raise DataError("A segmentation needs images.", "Choose an image stack.")
        located = self._data.located(_images_only(config.data))
        self._check_channels(config)
        inference = self._located(config)
        needs = self.needs(config)
        if needs is not None:
            needs.check_disk(inference.format)
        config = config.model_copy(update={"data": located, "inference": inference})
        job = queue.submit(self._workspace, "predict", config)
        self._wake()
        return job

    def submit_evaluation(self, config: RunConfig, part: Compared = "default") -> Job:
        """Put the comparison of a model's segmentation with annotations in line.

        Parameters
        ----------
        config : RunConfig
            `data.images` and `data.labels`; without them, the images of the training are meant.
        part : {"default", "test", "validation", "all"}
            Which of the annotated images count, as of `segcore evaluate`.

        Raises
        ------
        DataError, ModelError
            Model, images or annotations are missing, or do not fit.
        """
        model, file = config.inference.model, config.inference.config_file
        if not model:
            raise ModelError("A comparison needs a model.", "Choose a model.")
        data = config.data
        if bool(data.images) != bool(data.labels):
            missing, there = ("annotations", "images") if data.images else ("images", "annotations")
            raise DataError(f"There are {there}, but no {missing}.", f"Choose {missing}, too.")
        if not data.images and part not in ("test", "validation", "all"):
            raise DataError(
                "A comparison needs images and annotations.",
                "Choose both, or compare on the model's own test or validation images.",
            )
        located = self._data.located(data)
        if data.images:
            self._check_channels(config)
            self._check_learned(located, model, file or "")
        else:
            self._check_own_images(model, file or "", part)
        # It runs in one process: nothing of it is worth a cluster.
        inference = self._located(config).model_copy(update={"cluster": None})
        config = config.model_copy(update={"data": located, "inference": inference})
        job = queue.submit(self._workspace, "predict", config, evaluates=part)
        self._wake()
        return job

    def needs(self, config: RunConfig) -> Needs | None:
        """Return what a segmentation needs; None where little is known of its model, or of its network.

        Raises
        ------
        SegcoreError
            The images or the model cannot be read.
        """
        model, file = config.inference.model, config.inference.config_file
        if model is None or is_foreign(model):
            return None
        found = self.described(model, file or "") if config.data.images else None
        if found is None:
            return None
        card, trained = found
        data = as_trained(_images_only(config.data), trained.data)
        entries = self._data.collection(data, labelled=False).entries
        machine, folder = read_machine(self._workspace), self._workspace.results
        return needs_of(config, trained, card, entries, machine, folder)

    def described(self, model: str, config_file: str = "") -> tuple[ModelCard, RunConfig] | None:
        """Return the card of a model and the options it was trained with; None where they are not known.

        Parameters
        ----------
        model : str
            Id of a run, path of a `.pth` or of a model of another program in the workspace, or a registered
            model.
        config_file : str
            Path of the `config.json` that belongs to a `.pth`, or of the description of a model of another
            program.
        """
        if is_foreign(model):
            path = self._resolve(config_file) if config_file else sidecar_of(self._resolve(model))
            try:
                return read_sidecar(path).known()
            except SegcoreError:
                return None
        places = config_places(self._weights(model))
        path = next((place for place in places if place.is_file()), places[0])
        if config_file and is_model_file(model):
            path = self._resolve(config_file)
        try:
            config, card = read_config(path)
        except SegcoreError:
            return None
        return (card, config) if card else None

    def model_source(self, model: str) -> str:
        """Return what `inference.model` must hold for a run id, a workspace path or a registered model."""
        if model.startswith("models:/"):
            self._models.describe(model)
            return model
        if _is_job_id(model):
            view = self._job(model)
            if not view.has_model:
                raise ModelError(
                    f"The run {model} has no model yet.", "Wait for its first epoch, or choose another run."
                )
            return str(view.folder)
        return str(self._resolve(model))

    def _located(self, config: RunConfig) -> InferenceConfig:
        """Return the options of the segmentation as a job wants them: models and files where they lie."""
        given = config.inference
        model, file = given.model or "", given.config_file
        return given.model_copy(
            update={
                "model": self.model_source(model),
                # As in `described`: what is checked is what the job reads.
                "config_file": str(self._resolve(file)) if file and is_model_file(model) else None,
                "ensemble": [self.model_source(model) for model in given.ensemble],
            }
        )

    def _weights(self, model: str) -> Path:
        """Return the file with the weights of a model."""
        source = self.model_source(model)
        place = self._models.fetch(source) if source.startswith("models:/") else Path(source)
        return place / WEIGHTS if place.is_dir() else place

    def _check_own_images(self, model: str, file: str, part: Compared) -> None:
        """Raise unless it is known on which images of the workspace a model was trained, and which part."""
        known = self.described(model, file)
        if known is None or not (known[1].data.images and known[1].data.labels):
            raise ModelError(
                "It is not known on which images this model was trained.", "Choose images and annotations."
            )
        self._data.located(known[1].data)
        if part != "all" and split_folder(self._weights(model)) is None:
            raise ModelError(
                "It is not known which images validated this model, and which were kept for its test: there "
                "is no split.json with it.",
                "Compare on all annotated images of its training, or choose images and annotations.",
            )

    def _check_learned(self, located: DataConfig, model: str, file: str) -> None:
        """Raise if these are the images of the training, and what belongs to them is not in the workspace.

        With them come mask and further sets, which the options of the model name.
        """
        known = self.described(model, file)
        if known and (known[1].data.images, known[1].data.labels) == (located.images, located.labels):
            self._data.located(known[1].data)

    def _check_channels(self, config: RunConfig) -> None:
        """Raise ModelError if it is known before the job runs that model and images do not fit."""
        model = config.inference.model or ""
        known = self.described(model, config.inference.config_file or "")
        data = _images_only(config.data)
        card, trained = known or (None, None)
        stack = self._data.stack(as_trained(data, trained.data) if trained else data)
        if card is not None and card.channels != stack.channels:
            raise ModelError(
                f"The model was trained on images with {card.channels} channels, {stack.path} has "
                f"{stack.channels} ({stack.text}).",
                "Choose images with the same channels; if their axes are misread, give them in More options.",
            )

    def _resolve(self, path: str) -> Path:
        full = self._workspace.resolve(path)
        if not full.exists():
            raise DataError(
                f"{path!r} is not in the workspace any more.", "Choose another file, or upload it again."
            )
        return full


def _images_only(data: DataConfig) -> DataConfig:
    return data.model_copy(update={"labels": None, "mask": None, "sets": []})


def _is_job_id(model: str) -> bool:
    return "/" not in model and not is_model_file(model)
