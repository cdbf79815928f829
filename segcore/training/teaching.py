"""Teaching: what a network learns from a teacher beside annotations, and how they compare afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from segcore.card import Normalization
from segcore.config import DataConfig, RunConfig, TrainingSet
from segcore.data.collection import Collection, open_collection
from segcore.data.dataset import TrainingData
from segcore.data.loading import LazyImage, Loader
from segcore.data.normalize import fit_normalization
from segcore.data.planes import strips
from segcore.data.recipe import parse_recipe
from segcore.data.splits import Region
from segcore.data.targets import LabelRule
from segcore.data.taught import Answer, behind, kept_type, taught_volume, unlabelled
from segcore.data.volumes import Volume
from segcore.devices import Hardware
from segcore.errors import ConfigError, DataError
from segcore.events import NoteEvent, Reporter, Request, StageEvent
from segcore.memory import main_memory
from segcore.tasks import SemanticTask, Task, Taught
from segcore.training.teachable import check_reading, check_sets, remarks
from segcore.training.teacher import Except, Manner, MaskAnswer, Silent, Teacher, is_model

MEMORY_SHARE = 0.8
"""Share of the free memory that images and answers may take; else patches are read from disk."""


@dataclass(frozen=True)
class Lesson:
    """What is learned from a teacher.

    Parameters
    ----------
    volumes : list of Volume
        What patches are cut from.
    normalization : Normalization
        Of their channels, the teacher's shares included.
    channels : int
        Channels of the images.
    shares : int
        Channels of the teacher behind them: one per class, 0 if only classes are learned.
    slices : int
        Slices that are seen together in 2.5d, else 1.
    on_disk : bool
        Whether patches are read from disk.
    weight, temperature : float
        See `Taught`.
    teacher : Teacher or None
        The model, if it is one.
    masks : callable or None
        From the number of an image to its masks, if they are the teacher.
    """

    volumes: list[Volume]
    normalization: Normalization
    channels: int
    shares: int
    slices: int
    on_disk: bool
    weight: float
    temperature: float
    teacher: Teacher | None = None
    masks: Callable[[int], Answer] | None = None

    def task(self, task: Task) -> Task:
        """Return the task that also learns from the teacher's shares, if there are any.

        Raises
        ------
        ConfigError
            The task has no classes of pixels.
        """
        if not self.shares:
            return task
        if not isinstance(task, SemanticTask):
            raise ConfigError(
                "training.teacher gives probabilities of classes, which this family does not predict.",
                "Set training.distill to hard, or choose a family that tells classes of pixels apart.",
            )
        return Taught(task, self.channels * self.slices, self.weight, self.temperature)

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of the image of a patch, of that of a patch with the teacher's shares."""
        return (self.channels * self.slices, *shape[1:])

    def forget(self) -> None:
        """Delete what the teacher said, once nothing more is to be learned from it."""
        if self.teacher is not None:
            self.teacher.forget()

    def parted(self, patch: Tensor) -> tuple[Tensor, Tensor]:
        """Return image `(B, C, …)` and shares `(B, K, …)` of patches; in 2.5d those of the middle slice."""
        if self.slices == 1:
            return patch[:, : self.channels], patch[:, self.channels :]
        several = patch.unflatten(1, (self.slices, -1))
        return several[:, :, : self.channels].flatten(1, 2), several[:, self.slices // 2, self.channels :]


def teach(
    config: RunConfig,
    folder: Path,
    data: TrainingData,
    hardware: Hardware,
    report: Reporter,
    asked: Callable[[], Request | None],
) -> Lesson | None:
    """Ask the teacher about all images that train, and return what is to be learned; None without a teacher.

    Parameters
    ----------
    config : RunConfig
        `training.teacher` names a model or masks; sets of the use "teach" have images of their own.
    folder : Path
        The run folder, which keeps what the teacher says.
    data : TrainingData
        Images with annotation.
    hardware : Hardware
        Where the teacher computes.
    report : Reporter
        Told of the progress.
    asked : callable
        Asked now and then what somebody wants.

    Raises
    ------
    Interrupted
        Somebody wants something; what the teacher said is kept.
    ModelError
        The teacher is missing, or does not fit the images.
    DataError, ConfigError
        Images to be taught or masks cannot be used.
    """
    training = config.training
    sets = [one for one in config.data.sets if one.use == "teach"]
    if not training.teacher and not sets:
        return None
    model = bool(training.teacher and is_model(training.teacher))
    check_sets(sets, model, training.distill)
    teacher = None
    manner = Manner(training.distill != "hard", training.temperature, training.confidence)
    if training.teacher and model:
        teacher = Teacher(training.teacher, manner, folder, hardware)
        teacher.check(data.channels, data.class_values)
        for text in check_reading(teacher.model.config.data, config.data):
            report(NoteEvent(level="warning", text=text))
    elif training.teacher and manner.soft:
        report(NoteEvent(text="Masks have no probabilities: they are labels where nobody annotated."))
    report(StageEvent(text="asking the teacher"))
    pupil = _Pupil(config, data, teacher, report, asked)
    volumes = [*pupil.annotated(), *(volume for one in sets for volume in pupil.more(one))]
    shares = len(data.class_values) if teacher is not None and manner.soft else 0
    report(NoteEvent(text=_told(data, volumes)))
    return Lesson(
        volumes=volumes,
        normalization=(
            behind(data.normalization, shares, data.collection.dtype) if shares else data.normalization
        ),
        channels=data.channels,
        shares=shares,
        slices=config.data.context_slices if data.mode == "2.5d" else 1,
        on_disk=data.on_disk or not _fits(volumes),
        weight=1.0 if training.distill == "soft" else training.teacher_weight,
        temperature=training.temperature,
        teacher=teacher,
        masks=pupil.masks if training.teacher and teacher is None else None,
    )


class _Pupil:
    """Puts questions about one image after the other."""

    def __init__(
        self,
        config: RunConfig,
        data: TrainingData,
        teacher: Teacher | None,
        report: Reporter,
        asked: Callable[[], Request | None],
    ) -> None:
        self._config, self._data, self._teacher = config, data, teacher
        self._report, self._asked = report, asked
        self._soft = teacher is not None and config.training.distill != "hard"
        self._number = 0
        """Images that the model has been asked about."""
        self._remarked: set[str] = set()
        """What was said of images that differ from those of the model."""
        self.masks = self._masks()
        """From the number of an image to its masks."""

    def annotated(self) -> list[Volume]:
        """Return the volumes that train, with the teacher's word where nobody annotated."""
        data, collection = self._data, self._data.collection
        wanted: dict[int, set[int]] = {}
        for volume in data.train:
            depth, kept = volume.label_ZYX.shape[0], self._judging(volume)
            planes = set(range(volume.first, volume.first + depth)) - kept
            wanted.setdefault(volume.item, set()).update(planes)
        answers = {
            item: self._answer(collection, item, planes) if self._teacher else self.masks(item)
            for item, planes in wanted.items()
        }
        return [
            self._taught(volume, Except(answers[volume.item], self._judging(volume))) for volume in data.train
        ]

    def _judging(self, volume: Volume) -> set[int]:
        """Return the planes that validate or test and are only looked at here: nobody may learn from them."""
        start, stop = volume.row, volume.row + volume.label_ZYX.shape[1]
        return {
            plane
            for region in (*self._data.split.validation, *self._data.split.test)
            if region.item == volume.item and region.rows[0] < stop and start < region.rows[1]
            for plane in range(*region.planes)
        }

    def more(self, one: TrainingSet) -> list[Volume]:
        """Return the volumes of images without annotation, or with labels that were made elsewhere.

        Raises
        ------
        DataError
            They cannot be read, or are not like the others.
        """
        options = _alone(self._config.data, one.images, one.labels or None, one.mask)
        collection = open_collection(options, labelled=bool(one.labels))
        self._check_alike(collection, one.images)
        loader = Loader(collection, self._data.class_values, LabelRule.of(options), on_disk=True)
        found = []
        for item, entry in enumerate(collection.entries):
            planes = range(entry.planes)
            answer = MaskAnswer(loader, item) if one.labels else self._answer(collection, item, planes)
            normalization = self._own(collection, item)
            for start in range(0, entry.planes, entry.depth):
                span = (start, start + entry.depth)
                place = Region(item, span, (0, entry.height))
                volume = Volume(
                    image_ZCYX=LazyImage(collection, place, span),
                    label_ZYX=unlabelled((entry.depth, entry.height, entry.width)),
                    counts_ZK=np.zeros((entry.depth, len(self._data.class_values)), np.int64),
                    first=start,
                    name=entry.item.name,
                    normalization=normalization,
                )
                found.append(self._taught(volume, answer))
        return found

    def _taught(self, volume: Volume, answer: Answer) -> Volume:
        return taught_volume(volume, answer, len(self._data.class_values), self._soft)

    def _answer(self, collection: Collection, item: int, planes: Sequence[int] | set[int]) -> Answer:
        if self._teacher is None:
            return Silent()
        images, number = collection.open(item).images, self._number
        for text in set(remarks(images, self._teacher.model.card)) - self._remarked:
            name = collection.entries[item].item.name
            self._report(NoteEvent(level="warning", text=f"{name}: {text}"))
            self._remarked.add(text)
        self._number += 1
        return self._teacher.answer(images, number, planes, self._report, self._asked)

    def _masks(self) -> Callable[[int], Answer]:
        """Return what finds the masks of an image among those that `training.teacher` names."""
        data, place = self._config.data, self._config.training.teacher
        if place is None or self._teacher is not None:
            return lambda item: Silent()
        # Repairs of the annotation are for the faults of its files, which masks do not have.
        recipe = [step.text for step in parse_recipe(data.recipe) if not step.verb.startswith("labels.")]
        options = _alone(data, data.images or "", place, None).model_copy(update={"recipe": recipe})
        collection = open_collection(options)
        loader = Loader(collection, self._data.class_values, LabelRule.of(options), on_disk=True)
        numbers = {entry.item.images: number for number, entry in enumerate(collection.entries)}
        items = [entry.item.images for entry in self._data.collection.entries]

        def find(item: int) -> Answer:
            number = numbers.get(items[item])
            return Silent() if number is None else MaskAnswer(loader, number)

        return find

    def _own(self, collection: Collection, item: int) -> Normalization | None:
        """Return the statistics of an image where every image has its own."""
        options = self._config.data
        if options.normalize_per == "set":
            return None
        images = collection.open(item).images
        return fit_normalization(strips(images, range(images.count)), options.normalization)

    def _check_alike(self, collection: Collection, name: str) -> None:
        data = self._data
        for what, there, here in (
            ("channels", collection.channels, data.channels),
            ("type", str(collection.dtype), str(data.collection.dtype)),
        ):
            if there != here:
                raise DataError(
                    f"{name} is to be taught on, but has another {what} than the annotated images: {there}, "
                    f"not {here}.",
                    "Use images of the same kind.",
                )


def _alone(data: DataConfig, images: str, labels: str | None, mask: str | None) -> DataConfig:
    """Return the options with which some images are read like the others, with nothing else beside them."""
    return data.model_copy(
        update={"images": images, "labels": labels, "mask": mask, "sets": [], "annotated_slices": None}
    )


def _fits(volumes: Sequence[Volume]) -> bool:
    """Say whether all patches may be cut from memory: of every number there is one copy, labels are int16."""
    need = 0
    for volume in volumes:
        depth, channels, height, width = volume.image_ZCYX.shape
        each = kept_type(volume.image_ZCYX.dtype).itemsize
        need += depth * height * width * (channels * each + 2)
    return need <= MEMORY_SHARE * main_memory().available


def _told(data: TrainingData, volumes: Sequence[Volume]) -> str:
    """Say on how much more the network is trained than was annotated."""
    before, now = (
        sum(int(volume.counts_ZK.sum()) for volume in several) / 1e6 for several in (data.train, volumes)
    )
    slices = sum(len(volume.annotated) for volume in volumes)
    return f"Annotated are {before:.3g} Mpx; with the teacher {now:.3g} Mpx of {slices} slices are learned."
