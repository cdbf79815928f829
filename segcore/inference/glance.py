"""Glances: predicts parts of slices with any weights file, in a process of its own that stays warm.

`python -m segcore.inference.glance` takes one request per line on stdin (see `Request`) and ends with it, or
when nothing was asked for a while. The web app has no torch: it asks here what a kept epoch makes of a slice.
"""

from __future__ import annotations

import json
import logging
import queue
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from segcore.blocks import own_normalization
from segcore.config import DataConfig, HardwareConfig
from segcore.data.collection import Collection, open_collection
from segcore.data.colouring import coloured
from segcore.data.network_input import read_input
from segcore.data.suitability import check_image
from segcore.devices import choose
from segcore.errors import SegcoreError
from segcore.files import atomic_path, write_atomic
from segcore.models.saved import LoadedModel, load_model
from segcore.predictor import Predictor
from segcore.tiling import part_span

IDLE_SECONDS = 300.0
"""After so long without a request the process ends and gives its memory back."""

_log = logging.getLogger("segcore.glance")


class Request(BaseModel):
    """A part of a slice to predict."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: Path
    config: Path
    data: DataConfig
    """The images as the training read them; their labels, where they are still there, too."""
    plane: int
    """Counted through all images."""
    rows: tuple[int, int]
    """First row and end of rows, px."""
    columns: tuple[int, int]
    out: Path
    """The PNG to write: a class index per pixel; where objects are told apart, their `coloured` values."""
    answer: Path
    """The JSON to write afterwards: `message` and `remedy`, both empty if all went well."""


class Glancer:
    """Predicts on the CPU: the device may be at work for a training. The last model stays loaded."""

    def __init__(self) -> None:
        # Never the GPU: its memory belongs to the trainings, and a part of one slice takes seconds at most.
        self.hardware = choose(HardwareConfig(device="cpu"))
        self._known: tuple[Path, int, int] | None = None
        self._model: LoadedModel | None = None

    def answer(self, request: Request) -> None:
        """Predict, write the picture, then the answer; what goes wrong is said in the answer."""
        problem = ("", "")
        try:
            self.predict(request)
        except SegcoreError as error:
            problem = (error.message, error.remedy)
        except OSError as error:
            problem = (f"The preview cannot be made: {error.strerror}.", "Free some disk space.")
        except Exception:  # whoever waits must be told, and the next request must find a process
            _log.exception("A glance failed")
            problem = ("The preview failed inside the program.", "The log .segcore/glance.log says more.")
        write_atomic(request.answer, json.dumps(dict(zip(("message", "remedy"), problem, strict=True))))

    def predict(self, request: Request) -> None:
        """Write the class indices of the part, the same as those of the whole slice; or its objects.

        Raises
        ------
        SegcoreError
            Model or images cannot be used, or do not fit each other.
        """
        model = self._load(request)
        planes = open_collection(request.data, labelled=bool(request.data.labels))
        check_image(planes.open(planes.locate(request.plane)[0]).images, model.card)
        indices_YX = predict_part(
            Predictor(model.network, model.card, self.hardware),
            planes,
            request.plane,
            (request.rows, request.columns),
        )
        if model.card.head is not None:
            indices_YX = coloured(indices_YX)
        with atomic_path(request.out) as temporary:
            Image.fromarray(indices_YX.astype(np.uint8 if indices_YX.max() < 256 else np.uint16)).save(
                temporary, "PNG"
            )

    def _load(self, request: Request) -> LoadedModel:
        stat = request.weights.stat()
        stamp = (request.weights, stat.st_mtime_ns, stat.st_size)  # best_model.pth is replaced now and then
        if self._model is None or stamp != self._known:
            self._model = load_model(request.weights, request.config, self.hardware)
            self._known = stamp
        return self._model


def predict_part(
    predictor: Predictor, planes: Collection, index: int, part: tuple[tuple[int, int], tuple[int, int]]
) -> np.ndarray:
    """Return the class indices `(rows, columns)` of a part of plane `index`, or the numbers of its objects.

    Only the part and as much around it as the network looks at is read; the result is that of the whole
    plane, but for objects that are longer than that.

    Parameters
    ----------
    part : pair of pairs of int
        First row and end of rows, first column and end of columns, px.
    """
    network = predictor.network
    images = planes.open(planes.locate(index)[0]).images
    sizes = (images.height, images.width)
    rows, columns = (
        part_span(*bounds, size, radius, step)
        for bounds, size, radius, step in zip(
            part, sizes, network.receptive_radii[-2:], network.divisors[-2:], strict=True
        )
    )
    halo, step = network.receptive_radii[0], network.divisors[0]
    window = (slice(rows.read_start, rows.read_stop), slice(columns.read_start, columns.read_stop))
    image, at = read_input(planes, index, predictor.card, *window, halo, step)
    logits = predictor.logits(image, normalization=own_normalization(images, predictor.card.normalization))
    labels = predictor.indices(logits) if predictor.head is None else predictor.objects(logits)
    labels_YX = labels[at] if network.dimensions == 3 else labels
    (top, bottom), (left, right) = part
    return labels_YX[
        top - rows.read_start : bottom - rows.read_start,
        left - columns.read_start : right - columns.read_start,
    ]


def serve(lines: Iterable[str], idle_seconds: float = IDLE_SECONDS) -> None:
    """Answer the requests in `lines`; ends with them, whatever still waits, or after an idle time."""
    waiting: queue.Queue[str] = queue.Queue()
    gone = threading.Event()

    def listen() -> None:
        for line in lines:
            waiting.put(line)
        gone.set()  # whoever asked has ended: nobody looks at the answers any more
        waiting.put("")

    threading.Thread(target=listen, daemon=True).start()
    glancer = Glancer()
    while True:
        try:
            line = waiting.get(timeout=idle_seconds)
        except queue.Empty:
            return
        if gone.is_set():
            return
        try:
            request = Request.model_validate_json(line)
        except ValidationError:
            _log.exception("A request that cannot be read")
            continue
        glancer.answer(request)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    serve(sys.stdin)
