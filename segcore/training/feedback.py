"""Feedback: after every epoch, a picture of what the network predicts of one part of a slice."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from PIL import Image

from segcore.card import Normalization
from segcore.data.colouring import coloured
from segcore.data.dataset import TrainingData
from segcore.data.network_input import read_input
from segcore.data.splits import Region
from segcore.data.targets import LabelRule, encode_plane, number_plane
from segcore.data.volumes import class_indices
from segcore.errors import DataError
from segcore.events import NoteEvent, Reporter, unheard
from segcore.files import atomic_path, write_atomic
from segcore.jobs.feedback import (
    UNANNOTATED,
    Scene,
    Window,
    forget,
    picture_file,
    scene_folder,
    wanted,
)
from segcore.models.segmenter import Segmenter
from segcore.predictor import Predictor
from segcore.tiling import Span, Tile, align

USUAL_SIDE = 256
"""Side in px of the part that is chosen if nobody draws one."""
BLOCK = 32
"""It begins at a multiple of this many px."""
MOST_SLICES = 16
"""Of more validation slices, evenly spread ones are looked at."""
PERCENTILES = (1.0, 99.8)
CONTRAST_SIDE = 512


@dataclass(frozen=True)
class _View:
    """A part that is shown: where it goes, and the image with the surroundings its prediction needs."""

    folder: Path
    image: NDArray[np.generic]
    """As the network takes it."""
    keep: tuple[slice | int, ...]
    """The part in the prediction."""
    normalization: Normalization | None
    """The image's own, where every image has one."""


class Feedback:
    """Saves after every epoch what the network predicts of one part of a slice.

    The prediction equals that of the whole slice: it reads the network's receptive radius around the part.

    Parameters
    ----------
    folder : Path
        The run folder.
    data : TrainingData
        The images; the part may lie in any slice of them.
    predictor : Predictor
        Predicts with whatever network it holds at the time.
    region : str or None
        The part, as `training.feedback_region` gives it; by default the one where most classes meet. What
        somebody asks for on the page while the run goes on replaces it.
    report : Reporter
        Told when a part cannot be shown.
    """

    def __init__(
        self,
        folder: Path,
        data: TrainingData,
        predictor: Predictor,
        region: str | None = None,
        report: Reporter = unheard,
    ) -> None:
        self.folder = folder
        self._data = data
        self._predictor = predictor
        self._given = region or ""
        self._report = report
        self._asked: str | None = None
        self._view: _View | None = None
        self._begun = False
        self._complained = False

    def save(self, epoch: int) -> None:
        """Save the prediction after an epoch, counted from 1; a failure is told once and does no harm."""
        try:
            self._save(epoch)
        except Exception as error:  # whatever it is, a picture is not worth the training
            if not self._complained:
                self._complained = True
                self._note(f"The visual feedback of epoch {epoch} could not be saved: {error}")

    def _save(self, epoch: int) -> None:
        if not self._begun:
            forget(self.folder, epoch)
            self._begun = True
        view = self._current()
        logits = self._predictor.logits(view.image, normalization=view.normalization)
        if self._predictor.head is None:
            prediction_YX = self._predictor.indices(logits, view.keep)
        else:
            prediction_YX = coloured(self._predictor.objects(logits)[view.keep])
        _save_png(picture_file(view.folder, epoch), _as_bytes(prediction_YX))

    def _current(self) -> _View:
        """Return the part to show now, which another process may have changed since the last epoch."""
        asked = wanted(self.folder)
        asked = self._given if asked is None else asked
        if self._view is None or asked != self._asked:
            self._asked = asked
            try:
                self._view = self._open(Window.parse(asked) if asked else choose_window(self._data))
            except DataError as error:
                self._note(f"{error.message} The part shown stays as it is.", error.remedy)
                self._view = self._view or self._open(choose_window(self._data))
        return self._view

    def _open(self, window: Window) -> _View:
        """Cut a part and its surroundings out of the images, and save what stays the same in all epochs."""
        data = self._data
        objects = self._predictor.head is not None
        label_YX = _labels(data, window.plane, objects)
        window = window.fitted(*label_YX.shape)
        rows, columns = _spans(window, label_YX.shape, self._predictor.network)
        tile, number = Tile((rows, columns)), data.collection.locate(window.plane)[0]
        if _overlaps(data, data.split.test, window):
            raise DataError(
                f"{data.collection.name(window.plane)} is kept for the test: no training looks at it.",
                "Draw the part to watch on another slice.",
            )
        folder = scene_folder(self.folder, window)
        scene = Scene(
            window=window,
            class_values=data.class_values,
            class_names=data.class_names,
            trained=_overlaps(data, data.split.train, window),
            objects=objects,
        )
        plane_CYX = data.collection.read(window.plane)
        _save_png(folder / "image.png", _picture(plane_CYX[:, *tile.write], _contrast(plane_CYX)))
        shown_YX = label_YX[tile.write]
        _save_png(folder / "label.png", _as_bytes(coloured(shown_YX) if objects else shown_YX))
        write_atomic(folder / "scene.json", scene.model_dump_json())
        image, keep = _seen(data, window.plane, self._predictor, tile)
        return _View(folder, image, keep, _normalization_of(data, number))

    def _note(self, text: str, remedy: str = "") -> None:
        with suppress(OSError):  # on a full disk nobody can be told
            self._report(NoteEvent(level="warning", text=text, remedy=remedy))


def choose_window(data: TrainingData) -> Window:
    """Return the part of a validation slice in which most classes meet: most classes, then most borders.

    The choice depends on the labels only, and is the same every time.
    """
    slices = [(volume, plane) for volume in data.validation for plane in volume.annotated]
    best, best_score = None, (-1, -1)
    for index in np.unique(np.linspace(0, len(slices) - 1, MOST_SLICES).round().astype(int)):
        volume, plane = slices[index]
        label_YX = class_indices(volume.label_ZYX[plane : plane + 1, :, :][0])
        score, row, column = _best_corner(label_YX, len(data.class_values))
        if score > best_score:
            best_score = score
            height, width = (min(USUAL_SIDE, size) for size in label_YX.shape)
            position = data.collection.position(volume.item, volume.first + plane)
            best = Window(plane=position, row=volume.row + row, column=column, height=height, width=width)
    assert best is not None
    return best


def _best_corner(label_YX: NDArray[np.int16], classes: int) -> tuple[tuple[int, int], int, int]:
    """Return the best part of a region: (classes in it, px at borders of classes), row and column."""
    height, width = label_YX.shape
    rows, columns = align(height, BLOCK) // BLOCK, align(width, BLOCK) // BLOCK
    block_YX = (np.arange(height) // BLOCK)[:, None] * columns + np.arange(width) // BLOCK
    annotated_YX = label_YX >= 0
    code_N = block_YX[annotated_YX] * classes + label_YX[annotated_YX]
    present_RCK = np.bincount(code_N, minlength=rows * columns * classes).reshape(rows, columns, classes) > 0
    edges_YX = np.zeros(label_YX.shape, bool)
    edges_YX[:-1] |= (label_YX[:-1] != label_YX[1:]) & annotated_YX[:-1] & annotated_YX[1:]
    edges_YX[:, :-1] |= (label_YX[:, :-1] != label_YX[:, 1:]) & annotated_YX[:, :-1] & annotated_YX[:, 1:]
    edges_RC = np.bincount(block_YX[edges_YX], minlength=rows * columns).reshape(rows, columns)
    # Parts are of whole blocks, but for slices smaller than a part; they do not reach beyond the last px.
    across = [align(min(USUAL_SIDE, size), BLOCK) // BLOCK for size in (height, width)]
    starts = [max(1, 1 + (size - USUAL_SIDE) // BLOCK) for size in (height, width)]
    classes_RC = sliding_window_view(present_RCK, across, (0, 1)).any((-2, -1)).sum(-1)
    borders_RC = sliding_window_view(edges_RC, across).sum((-2, -1))
    classes_RC, borders_RC = (part[: starts[0], : starts[1]] for part in (classes_RC, borders_RC))
    at = int(np.lexsort((borders_RC.ravel(), classes_RC.ravel()))[-1])
    row, column = divmod(at, classes_RC.shape[1])
    return (int(classes_RC[row, column]), int(borders_RC[row, column])), row * BLOCK, column * BLOCK


def _labels(data: TrainingData, plane: int, objects: bool) -> NDArray[np.integer]:
    """Return class indices, or numbers of objects, `(Y, X)` of a slice of the collection.

    Raises
    ------
    DataError
        There is no such slice.
    """
    collection = data.collection
    if not 0 <= plane < collection.count:
        raise DataError(
            f"There is no slice {plane} to show: the images have the slices 0 to {collection.count - 1}.",
            "Draw the part to watch on one of them.",
        )
    place, rule = collection.locate(plane), LabelRule.of(collection.data)
    if objects:
        return number_plane(collection, *place, rule)
    return encode_plane(collection, *place, data.class_values, rule)


def _overlaps(data: TrainingData, regions: Sequence[Region], window: Window) -> bool:
    """Say whether a part shows some of the rows of these regions."""
    item, plane = data.collection.locate(window.plane)
    return any(
        region.item == item
        and region.planes[0] <= plane < region.planes[1]
        and region.rows[0] < window.row + window.height
        and window.row < region.rows[1]
        for region in regions
    )


def _normalization_of(data: TrainingData, item: int) -> Normalization | None:
    volumes = (*data.train, *data.validation)
    return next((volume.normalization for volume in volumes if volume.item == item), None)


def _seen(
    data: TrainingData, plane: int, predictor: Predictor, tile: Tile
) -> tuple[NDArray[np.generic], tuple[slice | int, ...]]:
    """Return what the network reads to see a part as in the whole image, and where the part lies in it."""
    network, solid = predictor.network, data.mode == "3d"
    halo, step = (network.receptive_radii[0], network.divisors[0]) if solid else (0, 1)
    rows, columns = tile.read
    image, at = read_input(data.collection, plane, predictor.card, rows, columns, halo, step)
    return image, (at, *tile.keep) if solid else tile.keep


def _spans(window: Window, shape: tuple[int, ...], network: Segmenter) -> list[Span]:
    """Return the rows and columns to read so that the prediction of a part is that of the whole slice."""
    starts, lengths = (window.row, window.column), (window.height, window.width)
    steps, halos = network.divisors[-2:], network.receptive_radii[-2:]
    return [
        Span(
            max(0, start - halo) // step * step,
            start,
            start + length,
            min(size, align(start + length + halo, step)),
        )
        for start, length, size, step, halo in zip(starts, lengths, shape, steps, halos, strict=True)
    ]


def _contrast(image_CYX: NDArray[np.generic]) -> NDArray[np.float32]:
    """Return the grey values shown as black and white, `(C, 2)`, of a whole slice."""
    step = -(-max(image_CYX.shape[1:]) // CONTRAST_SIDE)
    limits = np.zeros((len(image_CYX), 2), np.float32)
    for channel, plane_YX in enumerate(image_CYX[:, ::step, ::step]):
        values = plane_YX[np.isfinite(plane_YX)]
        low, high = np.percentile(values, PERCENTILES) if values.size else (0.0, 1.0)
        limits[channel] = low, high if high > low else low + 1
    return limits


def _picture(image_CYX: NDArray[np.generic], limits: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return one channel as grey `(Y, X)`, two as magenta and green, more as RGB `(Y, X, 3)`."""
    channels = image_CYX[:3].astype(np.float32)
    low, high = (limits[:3, side, None, None] for side in (0, 1))
    scaled = np.nan_to_num((channels - low) / (high - low)).clip(0, 1)
    if len(scaled) == 2:
        scaled = scaled[[0, 1, 0]]
    grey = np.rint(255 * scaled).astype(np.uint8)
    return grey[0] if len(grey) == 1 else np.ascontiguousarray(grey.transpose(1, 2, 0))


def _as_bytes(indices_YX: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return class indices as bytes; beyond 255 classes they begin anew, since no more colours differ."""
    return np.where(indices_YX < 0, UNANNOTATED, indices_YX % UNANNOTATED).astype(np.uint8)


def _save_png(path: Path, picture: NDArray[np.uint8]) -> None:
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, "PNG", optimize=True)
