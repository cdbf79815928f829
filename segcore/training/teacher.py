"""Teachers: a trained model that looks at every image once, or masks that were made elsewhere.

What a model says is kept in the run folder, block by block, so that a training that was killed or paused does
not ask twice::

    teaching/00003.json     which model, how it was asked, and how the image was divided
    teaching/00003.npy      its answer: class indices, or the share of every class in 8 bits
    teaching/00003.done     numbers of the blocks that are in it
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from segcore.addresses import is_model_file
from segcore.data.loading import Loader
from segcore.data.planes import Planes
from segcore.data.taught import FULL, Answer
from segcore.devices import Hardware
from segcore.errors import JobError, ModelError
from segcore.events import Progress, Reporter, Request
from segcore.files import write_atomic
from segcore.models.saved import WEIGHTS, LoadedModel, find_model, load_model
from segcore.prediction import Division, Prediction
from segcore.predictor import Predictor, most_probable
from segcore.tiling import IGNORE

FOLDER = "teaching"
_DISK_SHARE = 0.9
"""Share of the free disk that answers may take."""


class Interrupted(Exception):
    """Somebody asked for something while the teacher was at work; what is done is kept."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.request = request


@dataclass(frozen=True)
class Manner:
    """How a teacher is asked.

    Parameters
    ----------
    soft : bool
        For the share of every class; else for the class alone.
    temperature : float
        By how much its probabilities are levelled.
    confidence : float
        Below this highest probability, before they are levelled, it has no say.
    """

    soft: bool
    temperature: float
    confidence: float


class KeptAnswer:
    """What a model said of an image, in a file; satisfies `Answer`."""

    def __init__(self, kept: np.ndarray, soft: bool) -> None:
        self._kept, self._soft = kept, soft

    def classes(self, plane: int, rows: slice, columns: slice) -> np.ndarray:
        """Return class indices `(Y, X)`, int16; IGNORE where it has no say."""
        if not self._soft:
            return self._kept[plane, rows, columns] + np.int16(IGNORE)
        share_KYX = self._kept[plane, :, rows, columns]
        index_YX: np.ndarray = share_KYX.argmax(0).astype(np.int16)
        index_YX[~share_KYX.any(0)] = IGNORE
        return index_YX

    def shares(self, plane: int, rows: slice, columns: slice) -> np.ndarray | None:
        """Return the share of every class, `(K, Y, X)` uint8, or None where only classes were asked for."""
        return np.array(self._kept[plane, :, rows, columns]) if self._soft else None


class MaskAnswer:
    """Masks of an image that were made elsewhere; satisfies `Answer`."""

    def __init__(self, loader: Loader, item: int) -> None:
        self._loader, self._item = loader, item

    def classes(self, plane: int, rows: slice, columns: slice) -> np.ndarray:
        """Return class indices `(Y, X)`, int16; IGNORE where the masks say that nobody looked."""
        return self._loader.labels(self._item, plane, rows, columns)

    def shares(self, plane: int, rows: slice, columns: slice) -> np.ndarray | None:
        """Return None: masks are classes."""
        return None


class Silent:
    """Says nothing: for images of which there is neither a model's answer nor a mask; satisfies `Answer`."""

    def classes(self, plane: int, rows: slice, columns: slice) -> np.ndarray:
        """Return IGNORE throughout."""
        sizes = [part.stop - part.start for part in (rows, columns)]
        return np.full(sizes, IGNORE, np.int16)

    def shares(self, plane: int, rows: slice, columns: slice) -> np.ndarray | None:
        """Return None."""
        return None


class Except:
    """Another answer, but for some planes, of which it says nothing: those that judge the student."""

    def __init__(self, answer: Answer, planes: Collection[int]) -> None:
        self._answer, self._planes = answer, planes

    def classes(self, plane: int, rows: slice, columns: slice) -> np.ndarray:
        """Return class indices `(Y, X)`, int16; IGNORE where it has no say."""
        return (Silent() if plane in self._planes else self._answer).classes(plane, rows, columns)

    def shares(self, plane: int, rows: slice, columns: slice) -> np.ndarray | None:
        """Return the share of every class, `(K, Y, X)` uint8; None where there is none."""
        return None if plane in self._planes else self._answer.shares(plane, rows, columns)


def is_model(reference: str) -> bool:
    """Say whether a teacher is a trained model: its file, or a folder with one; masks otherwise."""
    path = Path(reference)
    return is_model_file(reference) or (path / WEIGHTS).is_file() or (path / "job.json").is_file()


class Teacher:
    """A trained model that answers for images.

    Parameters
    ----------
    reference : str
        A run folder or a `.pth` file.
    manner : Manner
        How it is asked.
    folder : Path
        The run folder of the student.
    hardware : Hardware
        Where it computes.

    Raises
    ------
    ModelError, ConfigError
        It is missing, damaged, or its configuration is.
    """

    def __init__(self, reference: str, manner: Manner, folder: Path, hardware: Hardware) -> None:
        self.model: LoadedModel = load_model(*find_model(reference), hardware)
        self.predictor = Predictor(self.model.network, self.model.card, hardware)
        self._manner, self._folder = manner, folder / FOLDER

    def check(self, channels: int, class_values: tuple[int, ...]) -> None:
        """Refuse a teacher of other channels or classes, or one that tells objects apart.

        Raises
        ------
        ModelError
            It is none for these images.
        """
        card = self.model.card
        if card.head is not None:
            raise ModelError(
                f"The teacher learned objects one by one ({card.head.name}): it gives no classes of pixels.",
                "Segment the images with it, and give the folder of its masks as training.teacher.",
            )
        if card.channels != channels:
            raise ModelError(
                f"The teacher takes {card.channels} channels, the images have {channels}.",
                "Choose a teacher that was trained on images like these, or other channels (data.channels).",
            )
        if card.class_values != class_values:
            there, here = (", ".join(map(str, values)) for values in (card.class_values, class_values))
            raise ModelError(
                f"The teacher knows the label values {there}, the annotations have {here}.",
                "Choose a teacher of the same classes, or change the values of the labels (data.recipe).",
            )

    def answer(
        self,
        images: Planes,
        number: int,
        planes: Collection[int],
        report: Reporter,
        asked: Callable[[], Request | None],
    ) -> KeptAnswer:
        """Return what the model says of some planes of an image; what was said before is not asked again.

        Parameters
        ----------
        images : Planes
            The image.
        number : int
            Its number among all that are taught.
        planes : collection of int
            The planes that are needed.
        report : Reporter
            Told of the progress.
        asked : callable
            Asked before every group of blocks what somebody wants.

        Raises
        ------
        Interrupted
            Somebody wants something.
        JobError
            The disk is too small.
        DataError
            A plane cannot be read.
        """
        soft, classes = self._manner.soft, len(self.model.card.class_values)
        shape = (images.count, *([classes] if soft else []), images.height, images.width)
        file, key, noted = (self._folder / f"{number:05d}.{suffix}" for suffix in ("npy", "json", "done"))
        prediction, done = self._begin(images, shape, key, noted)
        if not done:
            self._check_disk(shape, len(planes), images.count)
            kept = np.lib.format.open_memmap(
                file, mode="w+", dtype=np.uint8 if soft else np.int16, shape=shape
            )
        else:
            kept = np.lib.format.open_memmap(file, mode="r+")
        groups = list(prediction.groups(done, frozenset(planes)))
        for at, group in enumerate(prediction.stream(groups, lambda: _obey(asked))):
            for block, logits_KZYX in group:
                said = self._said(logits_KZYX)
                place = (slice(*block.rows), slice(*block.columns))
                start, stop = block.planes[0], block.planes[-1] + 1
                if soft:
                    kept[start:stop, :, *place] = said.swapaxes(0, 1)
                else:
                    kept[start:stop, *place] = said
            kept.flush()  # a block is noted once it is on disk
            with noted.open("a") as stream:
                stream.writelines(f"{block.number}\n" for block, _ in group)
                stream.flush()
                os.fsync(stream.fileno())
            stage = f"asking the teacher, image {number + 1}"
            report(Progress(stage=stage, done=at + 1, total=len(groups), unit="block"))
        return KeptAnswer(kept, soft)

    def forget(self) -> None:
        """Delete the answers: the student has learned what there is to learn."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _begin(
        self, images: Planes, shape: tuple[int, ...], key: Path, noted: Path
    ) -> tuple[Prediction, set[int]]:
        """Return the prediction of an image, as it was begun if it was, and the blocks that are done."""
        manner = self._manner
        asked: dict[str, Any] = {
            "model": self.model.sha256,
            "manner": [manner.soft, manner.temperature, manner.confidence],
            "shape": list(shape),
            "images": hashlib.sha256(repr((images.source.path, images.source.notes)).encode()).hexdigest(),
        }
        try:
            known = json.loads(key.read_text(encoding="utf-8"))
            divided = known.pop("division")
            if known == asked and key.with_suffix(".npy").is_file():
                division = Division(tuple(divided[0]), tuple(divided[1]), divided[2])
                return Prediction(self.predictor, images, division=division), _whole_lines(noted)
        except (OSError, ValueError, KeyError, IndexError, TypeError):
            pass  # nothing was begun, or by another version: it begins anew
        key.parent.mkdir(parents=True, exist_ok=True)
        noted.unlink(missing_ok=True)
        prediction = Prediction(self.predictor, images)
        division = prediction.division
        asked["division"] = [list(division.size), list(division.halo), division.batch]
        write_atomic(key, json.dumps(asked))
        return prediction, set()

    def _said(self, logits_KZYX: Tensor) -> np.ndarray:
        """Return shares `(K, Z, Y, X)` uint8, or what is kept of classes `(Z, Y, X)`; blind where unsure."""
        manner, logits = self._manner, logits_KZYX.float()
        certain_ZYX = torch.softmax(logits, 0).amax(0) >= manner.confidence
        if manner.soft:
            share = torch.softmax(logits / manner.temperature, 0)
            return (share * certain_ZYX * FULL).round().to(torch.uint8).cpu().numpy()
        # From 1, so that what was never asked for is 0 in a new file and has no say.
        index_ZYX = most_probable(logits).to(torch.int16) - IGNORE
        return torch.where(certain_ZYX, index_ZYX, torch.zeros_like(index_ZYX)).cpu().numpy()

    def _check_disk(self, shape: tuple[int, ...], planes: int, count: int) -> None:
        """Refuse answers that the disk cannot hold; planes that nobody asks for take no room."""
        need = int(np.prod(shape, dtype=np.int64)) * (1 if self._manner.soft else 2) * planes // count
        free = shutil.disk_usage(self._folder).free
        if need > _DISK_SHARE * free:
            raise JobError(
                f"What the teacher says needs {need / 1e9:.1f} GB of disk; {free / 1e9:.1f} GB are free.",
                "Free some disk space, or teach on fewer images.",
            )


def _whole_lines(noted: Path) -> set[int]:
    """Return the blocks that are noted; a line that a death cut off is another number, and is taken out."""
    text = noted.read_text() if noted.is_file() else ""
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        write_atomic(noted, whole)
    return {int(line) for line in whole.split()}


def _obey(asked: Callable[[], Request | None]) -> None:
    request = asked()
    if request is not None:
        raise Interrupted(request)
