"""Segmenting one image: check it, divide it, predict and write block by block, go on where it stopped."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from segcore.card import Normalization
from segcore.data.comparison import Comparison, compare_grey_values
from segcore.data.items import CHANNELS, Item
from segcore.data.planes import Planes
from segcore.data.suitability import remarks_on
from segcore.errors import DataError, ModelError
from segcore.events import NoteEvent, Reporter, StageEvent
from segcore.files import sha256_of_all
from segcore.inference.applied import Applied
from segcore.inference.assignment import Assignment, portable
from segcore.inference.cluster import Cluster
from segcore.inference.object_image import PARTS, ObjectFiles, find_objects, told_of_objects
from segcore.inference.pace import Pace
from segcore.inference.partial import Partial, key_of, stamps
from segcore.inference.remarks import Remarks
from segcore.inference.results import PROBABILITIES, SEGMENTATION, Place, specs_of
from segcore.inference.sinks import (
    Sink,
    SinkSpec,
    check_space,
    create_sink,
    finish_sink,
    reopen_sink,
    required_bytes,
    result_bytes,
)
from segcore.inference.writing import Writer
from segcore.objects import ObjectParts
from segcore.prediction import Division, Prediction

SHORT_OF_MEMORY = (
    "There is too little memory for blocks of slices with all that the network can see around them: less is "
    "read, and the result may differ a little at their borders."
)
TILES_OF_A_WHOLE = (
    "A network of this family looks at the whole image, which is too large to be predicted at once: it is "
    "predicted in tiles that overlap, and the result may differ a little at their borders."
)
WORTH_TELLING = 10**8
"""Bytes of a result whose size is told before it is made."""


@dataclass(frozen=True)
class Work(Applied):
    """What is the same for all images of a segmentation."""

    folder: Path
    """For unfinished results."""
    key: str
    """Stands for all that decides a result, but for the image."""
    report: Reporter
    pace: Pace
    remarks: Remarks
    cluster: Cluster | None = None
    """Predicts instead of this process."""


@dataclass(frozen=True)
class Files:
    """Work files and results of one image: labels, and perhaps probabilities."""

    folder: Path
    place: Place
    labels: SinkSpec
    probabilities: SinkSpec | None

    @property
    def pairs(self) -> list[tuple[Path, SinkSpec, Path]]:
        """Work file, contents and result of each."""
        ending = self.place.segmentation.name.partition(".")[2] if self.labels.format != "tiff" else "tif"
        found = [(self.folder / f"{SEGMENTATION}.{ending}", self.labels, self.place.segmentation)]
        if self.probabilities and self.place.probabilities:
            wide = self.folder / f"{PROBABILITIES}.{ending}"
            found.append((wide, self.probabilities, self.place.probabilities))
        return found

    def create(self) -> None:
        """Make the work files, if there is room for them.

        Raises
        ------
        JobError
            The disk is too full.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        check_space(self.folder, sum(required_bytes(spec) for _, spec, _ in self.pairs))
        for path, spec, _ in self.pairs:
            create_sink(path, spec).close()

    def exist(self) -> bool:
        """Say whether the work files are there."""
        return all(path.exists() for path, _, _ in self.pairs)

    def open(self) -> tuple[Sink, Sink | None]:
        """Open the work files, in any process."""
        sinks: list[Sink | None] = [reopen_sink(path, spec) for path, spec, _ in self.pairs]
        labels, wide = (*sinks, None)[:2]
        assert labels is not None
        return labels, wide

    def finish(self, pace: Pace) -> None:
        """Turn the work files into results.

        Raises
        ------
        Stopped
            Somebody asked for it; another call goes on.
        JobError
            The disk is full.
        """
        for path, spec, target in self.pairs:
            finish_sink(path, spec, target, pace.finishing, pace.check)

    @property
    def bytes(self) -> int:
        """Disk space the results take at most."""
        return sum(result_bytes(spec) for _, spec, _ in self.pairs)


def segment_image(work: Work, item: Item, place: Place, number: int) -> dict[str, Any]:
    """Segment an image and return what is to be remembered of it.

    Parameters
    ----------
    work : Work
        What is the same for all images.
    item : Item
        The image.
    place : Place
        Where the result goes.
    number : int
        The image's number, counted from 0; names the folder of its unfinished result.

    Raises
    ------
    DataError, ModelError
        The image cannot be used.
    JobError
        The disk is full; what is done stays.
    Stopped
        Somebody asked for it.
    """
    images = work.open(item)
    for note in remarks_on(images, work.model.card, work.config.inference.rescale):
        work.remarks.add(item.name, note)
    partial = _take_up(work, item, images, work.folder / str(number))
    prediction = work.predict(images, partial.division, partial.normalization)
    comparison = compare_grey_values(images, work.model.card, prediction.normalization)
    work.remarks.compare(comparison)
    if not prediction.is_exact():
        local = work.predictor.network.is_local
        work.remarks.add(item.name, SHORT_OF_MEMORY if local else TILES_OF_A_WHOLE)
    chunk = partial.division.chunk(images)
    specs = specs_of(images, work.model.card, chunk, work.config.inference)
    more: dict[str, Any] = {}
    try:
        if work.predictor.head is not None:
            more = _objects(work, item, images, prediction, partial, specs[0], place)
        else:
            files = Files(partial.folder, place, *specs)
            _begin(work, item, prediction, partial, files)
            _tell(work, images, files)
            if len(partial.done) < len(prediction.blocks):  # else the work files may be results already
                _predict(work, item, prediction, partial, files)
            files.finish(work.pace)
    except (DataError, ModelError):
        shutil.rmtree(partial.folder, ignore_errors=True)
        raise
    return _entry(work, item, images, partial, place, comparison) | more


def _objects(
    work: Work,
    item: Item,
    images: Planes,
    prediction: Prediction,
    partial: Partial,
    spec: SinkSpec,
    place: Place,
) -> dict[str, Any]:
    """Segment an image into objects; return what is to be remembered of them."""
    files = ObjectFiles(ObjectParts(prediction, partial.folder / PARTS), spec, place)
    _begin(work, item, prediction, partial, files)
    _tell(work, images, files)
    if len(partial.done) < len(prediction.blocks):
        find_objects(work, prediction, partial, files)
    return told_of_objects(work, place, files.finish(work))


def _take_up(work: Work, item: Item, images: Planes, folder: Path) -> Partial:
    """Return what was done of an image, or divide it, for which its grey values may have to be read first."""

    def divide() -> tuple[Division, Normalization | None]:
        fresh = Prediction(work.predictor, images, work.factors(images), told=work.pace.reading)
        return fresh.division, fresh.normalization

    return Partial.take_up(folder, key_of(work.key, item.name, stamps(item.images)), divide)


def _begin(
    work: Work, item: Item, prediction: Prediction, partial: Partial, files: Files | ObjectFiles
) -> None:
    """Make the work files, or say that what is in them already is kept."""
    blocks, device = len(prediction.blocks), work.predictor.hardware.describe()
    if partial.begun and len(partial.done) < blocks and not files.exist():
        partial.clear()
    if not partial.done:
        partial.devices.clear()  # what is named there has predicted nothing
    new = device not in partial.devices and len(partial.done) < blocks
    if partial.done:
        text = f"going on after {len(partial.done)} of {blocks} blocks of {item.name}"
        work.report(NoteEvent(text=text))
        if new:
            work.remarks.add(item.name, _changed(partial.devices, device))
    if not partial.begun:
        files.create()
    if not partial.begun or new:
        partial.begin(device)


def _changed(devices: Sequence[str], device: str) -> str:
    return (
        f"The first blocks were predicted on {' and '.join(devices)}, the others are on {device}: where they "
        "meet, the result may differ in rounding from that of one device."
    )


def _entry(
    work: Work, item: Item, images: Planes, partial: Partial, place: Place, comparison: Comparison | None
) -> dict[str, Any]:
    """Return what is to be remembered of an image that is finished."""
    return {
        "name": item.name,
        "segmentation": str(place.segmentation.relative_to(work.folder.parent)),
        "input": CHANNELS.join(item.images),
        "input_sha256": sha256_of_all(item.images),
        "axes": images.label_axes,
        "shape": list(images.label_shape),
        "pixel_size": images.source.pixel_size.model_dump(),
        "rescaled": list(work.factors(images)),
        "grey_values": comparison.describe() if comparison else None,
        "class_pixels": dict(zip(map(str, work.model.card.class_values), partial.pixels, strict=True)),
        "slices": images.count,
        "devices": partial.devices,
    }


def _tell(work: Work, images: Planes, files: Files | ObjectFiles) -> None:
    """Say what begins, where a single image is segmented, and how much room a large result takes."""
    if work.pace.images > 1:
        return
    room = files.bytes
    size = f"; the result takes up to {room / 1e9:.1f} GB" if room > WORTH_TELLING else ""
    on = work.predictor.hardware.describe()
    work.report(StageEvent(text=f"segmenting {images.source.path.name} on {on}{size}"))


def _predict(work: Work, item: Item, prediction: Prediction, partial: Partial, files: Files) -> None:
    """Predict and write the blocks that are not done, here or on the cluster."""
    done = set(partial.done)
    groups = prediction.groups(done)
    work.pace.image_begun(len(prediction.blocks), len(done), prediction.unit)
    if work.cluster is None:
        with Writer(partial, *files.open(), work.model.card.class_values) as writer:
            for group in prediction.stream(groups, work.pace.check):
                for block, logits_KZYX in group:
                    writer.put(block, logits_KZYX)
                work.pace.blocks_done(sum(block.number not in done for block, _ in group))
        return

    def take(found: Mapping[int, list[int]]) -> None:
        partial.note(found)
        work.pace.blocks_done(sum(number not in done for number in found))

    assignment = Assignment(
        key=partial.key,
        config=portable(work.config, work.model.weights),
        sha256=work.model.sha256,
        item=item,
        division=partial.division,
        normalization=prediction.normalization,
        sinks=tuple((path, spec) for path, spec, _ in files.pairs),
    )
    work.cluster.predict(assignment, groups, take, work.pace.check)
