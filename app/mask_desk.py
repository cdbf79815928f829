"""MaskDesk: what the page asks of a network that answers clicks, and of the objects that were accepted.

What comes from the page is JSON and not trusted: paths stay in the workspace, slices must exist.
"""

from __future__ import annotations

import base64
import io
import json
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError

from app.data_desk import DataDesk
from app.mask_store import MaskStore
from app.session import Problem, attempt
from app.views import fit_preview, overlay, png_uri, preview_step
from segcore.addresses import split_hub_id
from segcore.config import DataConfig
from segcore.data.collection import Collection
from segcore.errors import ConfigError, DataError
from segcore.promptable.client import PromptProcess
from segcore.promptable.messages import Answer, Mask
from segcore.promptable.promptable import KINDS
from segcore.workspace import Workspace

DEVICE = "SEGCORE_PROMPT_DEVICE"
"""Environment variable: where clicks are computed; cpu by default, so that no training is disturbed."""
LONGEST_SIDE = 1024
"""Pixels sent to the page."""
COLOURS = 6
"""Objects that are told apart by their colour; more begin anew."""
IN_PLACE = "images."
"""Repairs that begin like this leave every pixel where it is."""
KEPT = 32
"""Answers and questions that are remembered."""
HUB = (
    "facebook/sam-vit-base",
    "facebook/sam-vit-large",
    "facebook/sam2.1-hiera-small",
    "facebook/sam2.1-hiera-large",
)
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class Asked(BaseModel):
    """What the page sends.

    Parameters
    ----------
    data : str
        `DataConfig` as JSON, as `MaskDesk.images` returned it.
    plane : int
        The slice, counted through all images.
    model : str
        Hub id or workspace path of the network.
    points, labels, box : list, optional
        The prompt, in px of the whole slice, see `segcore.promptable.promptable.Prompt`.
    choice : int
        Which of the masks.
    row, column : float
        Of the object that is to go.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    plane: int
    model: str = ""
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None
    choice: int = 0
    row: float = -1
    column: float = -1


@dataclass
class Work:
    """Something that takes seconds, done for the page meanwhile."""

    began: float = field(default_factory=time.monotonic)
    stage: str = "Starting"
    done: int = 0
    total: int = 0
    outcome: Answer | Problem | None = None
    added: int = 0


class MaskDesk:
    """Answers the page; the network lives in a process of its own, which starts when first asked.

    Parameters
    ----------
    workspace : Workspace
        The folder the app serves.
    data : DataDesk
        Opens the images.
    """

    def __init__(self, workspace: Workspace, data: DataDesk) -> None:
        self.store = MaskStore(workspace)
        self._workspace, self._data = workspace, data
        self._process = PromptProcess(workspace.state / "prompts.log", os.environ.get(DEVICE) or "cpu")
        self._masks: OrderedDict[Asked, tuple[Mask, ...]] = OrderedDict()
        self._works: OrderedDict[int, Work] = OrderedDict()
        self._numbers = count(1)
        self._took: dict[str, float] = {}
        self._lock = threading.Lock()

    def models(self) -> list[str]:
        """Return the networks that can be chosen: folders of the workspace with one, then ids of the hub."""
        found = []
        for parent, folders, names in os.walk(self._workspace.root):
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "mlruns")
            if "config.json" in names and any(name in names for name in WEIGHTS):
                kind = attempt(lambda parent=parent: _kind(Path(parent)))
                found += [self._workspace.relative(parent)] if kind in KINDS else []
        return [*found, *HUB]

    def images(self, data: DataConfig) -> tuple[str, Collection]:
        """Return how the images are read for clicking, as the page sends it back, and the images.

        Repairs that move pixels are left out: labels are drawn on the images as they are in their files.

        Raises
        ------
        SegcoreError
            They cannot be read.
        """
        recipe = [line for line in data.recipe if line.startswith(IN_PLACE)]
        alone = DataConfig(
            images=data.images, axes=data.axes, channels=data.channels, recipe=recipe,
            channel_suffixes=data.channel_suffixes,
        )  # fmt: skip
        return alone.model_dump_json(exclude_defaults=True), self._data.collection(alone, labelled=False)

    def look(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a slice and its accepted objects for the page."""
        asked, images = self._asked(request)
        height, width = images.size(asked.plane)
        shot = self._data.shot(_data(asked), asked.plane, LONGEST_SIDE, labelled=False)
        picture = {
            "src": png_uri(overlay(shot.image_CYX)), "height": height, "width": width, "name": shot.name
        }  # fmt: skip
        return picture | self._accepted(asked, images)

    def mask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the masks of a prompt for the page, the best first."""
        asked, _ = self._asked(request)
        began = time.monotonic()
        masks = self._answered(asked)
        found = [{"src": _small(mask), "score": round(mask.score, 3)} for mask in masks]
        return {"masks": found, "seconds": round(time.monotonic() - began, 3)}

    def accept(self, request: dict[str, Any]) -> dict[str, Any]:
        """Keep the chosen mask of a prompt as an object; return all accepted ones."""
        asked, images = self._asked(request)
        masks = self._answered(asked)
        if not 0 <= asked.choice < len(masks):
            raise DataError("The page chose a mask that there is not.", "Click again.")
        self.store.add(images, asked.plane, masks[asked.choice].pixels())
        return self._accepted(asked, images)

    def remove(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take away the accepted object at a place; return the others."""
        asked, images = self._asked(request)
        removed = self.store.remove(images, asked.plane, int(asked.row), int(asked.column))
        return self._accepted(asked, images) | {"removed": removed}

    def clear(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take away all accepted objects of a slice."""
        asked, images = self._asked(request)
        self.store.clear(images, asked.plane)
        return self._accepted(asked, images)

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Begin to look at a slice, so that clicks are answered at once; return the number of the work."""
        asked, _ = self._asked(request)
        return self._begin({"do": "embed", **self._place(asked)}, asked.model)

    def everything(self, request: dict[str, Any]) -> dict[str, Any]:
        """Begin to look for all objects of a slice and to accept them; return the number of the work."""
        asked, images = self._asked(request)

        def keep(answer: Answer) -> int:
            return self.store.add_all(images, asked.plane, answer.objects())

        return self._begin({"do": "everything", **self._place(asked)}, asked.model, keep)

    def follow(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return how far a work is."""
        work = self._works.get(int(request.get("work", 0)))
        if work is None:
            raise DataError("The server was started anew meanwhile.", "Begin again.")
        if isinstance(work.outcome, Problem):
            return {"over": True, **_told(work.outcome)}
        if work.outcome is not None:
            return {"over": True, "found": work.added, "seconds": round(time.monotonic() - work.began, 1)}
        return {"over": False, "text": _progress(work, self._took.get(work.stage))}

    def close(self) -> None:
        """End the process."""
        self._process.close()

    def _asked(self, request: dict[str, Any]) -> tuple[Asked, Collection]:
        try:
            asked = Asked.model_validate(request)
        except ValidationError as error:
            raise DataError("The page sent what cannot be read.", "Load the page again.") from error
        images = self._data.collection(_data(asked), labelled=False)
        if not 0 <= asked.plane < images.count:
            raise DataError(
                f"There is no slice {asked.plane}; the images have {images.count}.", "Choose another one."
            )
        return asked, images

    def _place(self, asked: Asked) -> dict[str, Any]:
        data = self._data.located(_data(asked)).model_dump(mode="json")
        return {"model": self._model(asked.model), "place": {"data": data, "plane": asked.plane}}

    def _model(self, text: str) -> str:
        """Return the whole path of a network in the workspace, or its id on the hub."""
        text = text.strip()
        if not text:
            raise ConfigError("No network is chosen.", "Choose one above.")
        inside = attempt(lambda: self._workspace.resolve(text))
        if isinstance(inside, Path) and inside.is_dir():
            return str(inside)
        if split_hub_id(text) is not None and not Path(text).exists():
            return text
        raise ConfigError(
            f"There is no network {text!r} in the workspace.",
            "Choose a folder of the workspace, or an id of the Hugging Face hub (owner/name).",
        )

    def _answered(self, asked: Asked) -> tuple[Mask, ...]:
        """Return the masks of a prompt; those of the last prompts are remembered."""
        key = asked.model_copy(update={"choice": 0})
        with self._lock:
            if key in self._masks:
                self._masks.move_to_end(key)
                return self._masks[key]
        prompt = {"points": asked.points, "labels": asked.labels, "box": asked.box}
        masks = self._process.ask({"do": "mask", **self._place(asked), **prompt}).masks
        with self._lock:
            self._masks[key] = masks
            while len(self._masks) > KEPT:
                self._masks.popitem(last=False)
        return masks

    def _begin(
        self, request: dict[str, Any], model: str, keep: Callable[[Answer], int] = lambda answer: 0
    ) -> dict[str, Any]:
        work, number = Work(), next(self._numbers)
        with self._lock:
            self._works[number] = work
            while len(self._works) > KEPT:
                self._works.popitem(last=False)

        def told(answer: Answer) -> None:
            if answer.stage != work.stage:
                work.began = time.monotonic()
            work.stage, work.done, work.total = answer.stage, answer.done, answer.total

        def act() -> Answer:
            answer = self._process.ask(request, told=told)
            if request["do"] == "embed":
                self._took[work.stage] = time.monotonic() - work.began
            work.added = keep(answer)
            return answer

        def run() -> None:
            work.outcome = attempt(act)

        threading.Thread(target=run, daemon=True).start()
        return {"work": number}

    def _accepted(self, asked: Asked, images: Collection) -> dict[str, Any]:
        numbers_YX = self.store.numbers(images, asked.plane)
        step = preview_step(*numbers_YX.shape, LONGEST_SIDE)
        shown_YX = numbers_YX[::step, ::step]
        coloured_YX = np.where(shown_YX > 0, (shown_YX - 1) % COLOURS + 1, 0).astype(np.uint8)
        objects = int((np.bincount(numbers_YX.ravel())[1:] > 0).sum())
        return {"numbers": _uri(coloured_YX), "objects": objects, "worked": self.store.worked(images)}


def told(action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do something for the page's script; what goes wrong is in `problem` and `remedy`."""
    found = attempt(action)
    return _told(found) if isinstance(found, Problem) else found


def _told(problem: Problem) -> dict[str, Any]:
    return {"problem": problem.message, "remedy": problem.remedy}


def _data(asked: Asked) -> DataConfig:
    try:
        return DataConfig.model_validate_json(asked.data)
    except ValidationError as error:
        raise DataError("The page sent no images.", "Load the page again.") from error


def _kind(folder: Path) -> str:
    try:
        return str(json.loads((folder / "config.json").read_text("utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _progress(work: Work, usual: float | None) -> str:
    """Return what is being done, and how long it will take if anybody knows."""
    passed = time.monotonic() - work.began
    left = None if usual is None else usual - passed
    if work.done and work.total:
        left = passed / work.done * (work.total - work.done)
    if left is not None and left >= 1:
        return f"{work.stage}: about {left:.0f} s left"
    return f"{work.stage} … {passed:.0f} s"


def _small(mask: Mask) -> str:
    return _uri(fit_preview(mask.pixels(), LONGEST_SIDE).astype(np.uint8) * 255)


def _uri(pixels_YX: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels_YX).save(stream, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
