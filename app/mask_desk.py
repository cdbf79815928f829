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
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from app.data_desk import DataDesk
from app.mask_requests import Asked, Work
from app.mask_store import MaskStore
from app.session import Problem, attempt
from app.views import fit_preview, overlay, png_uri
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
"""Pixels sent to the page, and seen by the networks; of larger slices people work on parts."""
COLOURS = 6
"""Objects that are told apart by their colour; more begin anew."""
IN_PLACE = "images."
"""Repairs that begin like this leave every pixel where it is."""
KEPT = 32
"""Answers and works that are remembered."""
HUB = (
    "facebook/sam2.1-hiera-small", "facebook/sam2.1-hiera-large", "facebook/sam-vit-base",
    "facebook/sam-vit-large",
)  # fmt: skip
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


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
            # A Zarr folder is one image, of perhaps a million files.
            folders[:] = sorted(
                name
                for name in folders
                if not name.startswith(".") and name != "mlruns" and not name.lower().endswith(".zarr")
            )
            if "config.json" in names and any(name in names for name in WEIGHTS):
                kind = attempt(partial(_kind, Path(parent)))
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
        """Return a slice, or a part of it, and its accepted objects for the page."""
        asked, images, (rows, columns) = self._asked(request)
        if asked.part:
            image_CYX = fit_preview(images.window(asked.plane, rows, columns), LONGEST_SIDE)
        else:
            image_CYX = self._data.shot(asked.images, asked.plane, LONGEST_SIDE, labelled=False).image_CYX
        picture = {
            "src": png_uri(overlay(image_CYX)),
            "height": rows.stop - rows.start,
            "width": columns.stop - columns.start,
            "whole": images.size(asked.plane),
            "name": images.name(asked.plane),
        }
        return picture | self._accepted(asked, images)

    def mask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the masks of a prompt for the page, the best first."""
        masks = self._answered(self._asked(request)[0])
        return {"masks": [{"src": _small(mask), "score": round(mask.score, 3)} for mask in masks]}

    def accept(self, request: dict[str, Any]) -> dict[str, Any]:
        """Keep the chosen mask of a prompt as an object; return all accepted ones."""
        asked, images, window = self._asked(request)
        masks = self._answered(asked)
        if not 0 <= asked.choice < len(masks):
            raise DataError("The page chose a mask that there is not.", "Click again.")
        self.store.add(images, asked.plane, masks[asked.choice].pixels(), window)
        return self._accepted(asked, images)

    def remove(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take away the accepted object at a pixel; return the others."""
        asked, images, (rows, columns) = self._asked(request)
        place = rows.start + asked.row, columns.start + asked.column
        removed = self.store.remove(images, asked.plane, *place)
        return self._accepted(asked, images) | {"removed": removed}

    def clear(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take away all accepted objects of a slice."""
        asked, images, _ = self._asked(request)
        self.store.clear(images, asked.plane)
        return self._accepted(asked, images)

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        """Begin to look at a slice, so that clicks are answered at once; return the number of the work."""
        asked, _, _ = self._asked(request)
        return self._begin({"do": "embed", **self._place(asked)})

    def everything(self, request: dict[str, Any]) -> dict[str, Any]:
        """Begin to look for all objects of a slice and to accept them; return the number of the work."""
        asked, images, window = self._asked(request)

        def keep(answer: Answer) -> int:
            return self.store.add_all(images, asked.plane, answer.objects(), window)

        return self._begin({"do": "everything", **self._place(asked)}, keep)

    def follow(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return how far a work is."""
        work = self._works.get(int(request.get("work", 0)))
        if work is None:
            raise DataError("The server was started anew meanwhile.", "Begin again.")
        if isinstance(work.outcome, Problem):
            return {"over": True, **_told(work.outcome)}
        if work.outcome is not None:
            return {"over": True, "found": work.added, "seconds": round(work.seconds, 1)}
        return {"over": False, "text": work.text(self._took.get(work.stage))}

    def _asked(self, request: dict[str, Any]) -> tuple[Asked, Collection, tuple[slice, slice]]:
        """Return a request of the page, the images, and rows and columns that are shown."""
        asked = Asked.read(request)
        images = self._data.collection(asked.images, labelled=False)
        return asked, images, asked.window(images)

    def _place(self, asked: Asked) -> dict[str, Any]:
        place: dict[str, Any] = {
            "data": self._data.located(asked.images).model_dump(mode="json"),
            "plane": asked.plane,
        }
        if asked.part:
            top, left, bottom, right = asked.part
            place |= {"rows": (top, bottom), "columns": (left, right)}
        return {"model": self._model(asked.model), "place": place}

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
        self, request: dict[str, Any], keep: Callable[[Answer], int] = lambda answer: 0
    ) -> dict[str, Any]:
        """Ask the process in a thread, and return the number under which the page follows that."""
        work, number, began = Work(), next(self._numbers), time.monotonic()
        with self._lock:
            self._works[number] = work
            while len(self._works) > KEPT:
                self._works.popitem(last=False)

        def act() -> Answer:
            answer = self._process.ask(request, told=work.told)
            if request["do"] == "embed":
                self._took[work.stage] = time.monotonic() - work.began
            work.added = keep(answer)
            work.seconds = time.monotonic() - began
            return answer

        def run() -> None:
            work.outcome = attempt(act)

        threading.Thread(target=run, daemon=True).start()
        return {"work": number}

    def _accepted(self, asked: Asked, images: Collection) -> dict[str, Any]:
        numbers_YX = self.store.numbers(images, asked.plane)
        objects = int((np.bincount(numbers_YX.ravel())[1:] > 0).sum())
        shown_YX = fit_preview(numbers_YX[asked.window(images)], LONGEST_SIDE)
        coloured_YX = np.where(shown_YX > 0, (shown_YX - 1) % COLOURS + 1, 0).astype(np.uint8)
        return {"numbers": _uri(coloured_YX), "objects": objects, "worked": self.store.worked(images)}


def told(action: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do something for the page's script; what goes wrong is in `problem` and `remedy`."""
    found = attempt(action)
    return _told(found) if isinstance(found, Problem) else found


def _told(problem: Problem) -> dict[str, Any]:
    return {"problem": problem.message, "remedy": problem.remedy}


def _kind(folder: Path) -> str:
    try:
        return str(json.loads((folder / "config.json").read_text("utf-8"))["model_type"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _small(mask: Mask) -> str:
    return _uri(fit_preview(mask.pixels(), LONGEST_SIDE).astype(np.uint8) * 255)


def _uri(pixels_YX: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels_YX).save(stream, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
