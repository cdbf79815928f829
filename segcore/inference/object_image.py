"""Segmenting one image into objects: decode block by block, join, then write one label image and a table."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segcore.blocks import Block
from segcore.config import RunConfig
from segcore.events import NoteEvent, Reporter
from segcore.inference.partial import Partial
from segcore.inference.results import Place
from segcore.inference.sinks import (
    SinkSpec,
    check_space,
    create_sink,
    finish_sink,
    required_bytes,
    result_bytes,
)
from segcore.objects import ObjectParts, ObjectTable
from segcore.prediction import Prediction

if TYPE_CHECKING:
    from segcore.inference.image import Work

WAITING = 1
"""Groups of blocks that wait while another is decoded; their maps are in main memory."""
PARTS = "objects"
"""Folder of the blocks' objects in that of the unfinished result."""
UNUSED = {
    "cluster": "Objects are found by this process: the cluster (inference.cluster) is not asked.",
    "probabilities": "No probabilities are written: the model tells objects apart (inference.probabilities).",
}
"""What is said of options that a model of objects leaves aside."""


class ObjectFiles:
    """Work files and results of one image whose objects are told apart.

    Parameters
    ----------
    parts : ObjectParts
        The objects of the blocks.
    spec : SinkSpec
        The label image in the largest type it may need; a smaller one is taken where there are few objects.
    place : Place
        Where the results go.
    """

    def __init__(self, parts: ObjectParts, spec: SinkSpec, place: Place) -> None:
        self.parts = parts
        self._spec = spec
        self._place = place

    @property
    def folder(self) -> Path:
        """Where the work files lie."""
        return self.parts.folder

    @property
    def bytes(self) -> int:
        """Disk space the label image takes at most."""
        return result_bytes(self._spec)

    def create(self) -> None:
        """Make the folder, if there is room for the result.

        Raises
        ------
        JobError
            The disk is too full.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        check_space(self.folder, required_bytes(self._spec))

    def exist(self) -> bool:
        """Say whether the folder is there."""
        return self.folder.is_dir()

    def finish(self, work: Work) -> int:
        """Join the objects, write label image and table, and return how many objects there are.

        Begun anew where it was broken off: it takes little time beside the prediction.

        Raises
        ------
        Stopped
            Somebody asked for it; another call goes on.
        JobError
            The disk is full.
        """
        parts, check = self.parts, work.pace.check
        blocks = parts.prediction.blocks
        parts.join(range(len(blocks)), check)
        least = work.config.inference.join_slices
        if least and not parts.prediction.solid:
            parts.link(least, check)
        spec = replace(self._spec, dtype=np.dtype(np.uint16 if parts.count < 2**16 else np.uint32))
        table = ObjectTable(parts.count)
        path = self.folder.parent / f"segmentation{self._place.ending}"
        sink = create_sink(path, spec)
        try:
            for done, block in enumerate(blocks, start=1):
                check()
                labels_ZYX = parts.read(block.number)
                table.add(block, labels_ZYX)
                values = labels_ZYX.astype(spec.dtype)
                sink.write(block.planes, slice(*block.rows), slice(*block.columns), values)
                if len(blocks) > 1:
                    work.pace.finishing(done, len(blocks))
        finally:
            sink.close()
        finish_sink(path, spec, self._place.segmentation, work.pace.finishing, check)
        table.write(self._place.objects)  # behind all that may be broken off
        return parts.count


def for_objects(config: RunConfig, report: Reporter) -> RunConfig:
    """Return the options without those that say nothing for models of objects; the person is told."""
    options = config.inference
    given = {name: getattr(type(options)(), name) for name in UNUSED if getattr(options, name)}
    for name in given:
        report(NoteEvent(level="warning", text=UNUSED[name]))
    return config.model_copy(update={"inference": options.model_copy(update=given)})


def find_objects(work: Work, prediction: Prediction, partial: Partial, files: ObjectFiles) -> None:
    """Predict and decode the blocks that are not done.

    Raises
    ------
    Stopped
        Somebody asked for it; what is done stays.
    DataError
        A plane cannot be read.
    JobError
        The disk is full.
    """
    done = set(partial.done)
    work.pace.image_begun(len(prediction.blocks), len(done), prediction.unit)
    around = ([prediction.around(block) for block in group] for group in prediction.groups(done))
    waiting: deque[Future[dict[int, list[int]]]] = deque()

    def settle() -> None:
        found = waiting.popleft().result()
        partial.note(found)
        work.pace.blocks_done(sum(number not in done for number in found))

    with ThreadPoolExecutor(1, thread_name_prefix="decoding") as decoder:
        try:
            for group in prediction.stream(around, work.pace.check):
                ready = [(block, prediction.predictor.maps(output)) for block, output in group]
                waiting.append(decoder.submit(_decode, files.parts, ready))
                while len(waiting) > WAITING:
                    settle()
        finally:  # also where somebody broke it off: what was predicted is kept
            while waiting:
                settle()


def _decode(parts: ObjectParts, ready: Sequence[tuple[Block, np.ndarray]]) -> dict[int, list[int]]:
    return {block.number: parts.decode(block, maps) for block, maps in ready}


def told_of_objects(work: Work, place: Place, count: int) -> dict[str, Any]:
    """Return what is to be remembered of the objects of an image that is finished."""
    return {"objects": count, "objects_table": str(place.objects.relative_to(work.folder.parent))}
