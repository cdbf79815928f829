"""Visual feedback: what a training predicts of one part of a slice, epoch by epoch, as it lies in its folder.

Torch-free, so that the page can read it::

    previews/feedback/wanted.json             the part somebody wants to see from the next epoch on
    previews/feedback/3-0-128-256-256/        one folder per part: slice, row, column, height, width
        scene.json  image.png  label.png      what does not change from epoch to epoch
        epoch-0001.png                        predicted class indices, or objects by `coloured`, 8 bits
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from segcore.errors import DataError
from segcore.files import write_atomic

FOLDER = "previews/feedback"
LARGEST, SMALLEST = 512, 16
"""Sides of a part in px: 500 epochs must stay a few MB, and something must be seen."""
UNANNOTATED = 255
"""Value in label.png where nobody annotated."""
_PICTURE = re.compile(r"^epoch-(\d{4,})\.png$")


class Window(BaseModel):
    """Part of a slice; all in px, counted from 0."""

    model_config = ConfigDict(frozen=True)

    plane: int
    row: int
    column: int
    height: int
    width: int

    @classmethod
    def parse(cls, text: str) -> Window:
        """Read a part as `training.feedback_region` gives it.

        Raises
        ------
        DataError
            The text is not five numbers.

        Examples
        --------
        >>> Window.parse("3, 0,128,256,256").text
        '3,0,128,256,256'
        """
        try:
            plane, row, column, height, width = (int(part) for part in text.split(","))
        except ValueError:
            raise DataError(
                f"{text!r} names no part of a slice.",
                "Give slice, row, column, height and width, for example 3,0,128,256,256.",
            ) from None
        return cls(plane=plane, row=row, column=column, height=height, width=width)

    @property
    def text(self) -> str:
        """The five numbers, separated by commas."""
        return ",".join(map(str, (self.plane, self.row, self.column, self.height, self.width)))

    def fitted(self, height: int, width: int) -> Window:
        """Return the part as it can be shown of a slice of `height` × `width` px: inside, and of a fit size.

        Examples
        --------
        >>> Window(plane=0, row=-5, column=90, height=9999, width=4).fitted(100, 100).text
        '0,0,84,100,16'
        """
        rows = min(max(self.height, SMALLEST), LARGEST, height)
        columns = min(max(self.width, SMALLEST), LARGEST, width)
        return Window(
            plane=self.plane,
            row=min(max(self.row, 0), height - rows),
            column=min(max(self.column, 0), width - columns),
            height=rows,
            width=columns,
        )


class Scene(BaseModel):
    """What a part shows, the same for all its epochs."""

    model_config = ConfigDict(frozen=True)

    window: Window
    class_values: tuple[int, ...]
    class_names: tuple[str, ...]
    trained: bool
    """True if the network learns from some of these pixels: it then looks better than on new images."""
    objects: bool = False
    """True if the pictures hold objects, `segcore.data.colouring.coloured`, instead of class indices."""


@dataclass(frozen=True)
class Shot:
    """The prediction after one epoch: a PNG of class indices in `folder`, the folder of its part."""

    epoch: int
    folder: Path
    stamp: int
    """When it was written, ns since 1970: an epoch that is done again is written again."""

    @property
    def path(self) -> Path:
        """The picture."""
        return picture_file(self.folder, self.epoch)


def scene_folder(run: Path, window: Window) -> Path:
    """Return the folder of a part in a run folder."""
    return run / FOLDER / window.text.replace(",", "-")


def picture_file(scene: Path, epoch: int) -> Path:
    """Return where the prediction after an epoch lies in the folder of its part."""
    return scene / f"epoch-{epoch:04d}.png"


def read_scene(folder: Path) -> Scene | None:
    """Return what a part shows, or None where that cannot be read."""
    try:
        return Scene.model_validate_json((folder / "scene.json").read_bytes())
    except (OSError, ValidationError):
        return None


def want(run: Path, window: Window | None) -> None:
    """Ask the training to show another part from the next epoch on; None leaves the choice to it."""
    content = {"region": window.text if window else ""}
    write_atomic(run / FOLDER / "wanted.json", json.dumps(content))


def wanted(run: Path) -> str | None:
    """Return the part that was asked for as text, "" for the training's own choice, None if nobody asked."""
    try:
        return str(json.loads((run / FOLDER / "wanted.json").read_text())["region"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def shots(run: Path) -> list[Shot]:
    """Return the predictions that were saved, one per epoch, ascending; the newest where there are two."""
    found: dict[int, Shot] = {}
    for shot in _all_shots(run):
        if shot.epoch not in found or found[shot.epoch].stamp < shot.stamp:
            found[shot.epoch] = shot
    return [found[epoch] for epoch in sorted(found)]


def forget(run: Path, epoch: int) -> None:
    """Delete the predictions from `epoch` on: the run went back to before it, and does it again."""
    for shot in list(_all_shots(run)):
        if shot.epoch >= epoch:
            shot.path.unlink(missing_ok=True)


def _all_shots(run: Path) -> Iterator[Shot]:
    for path in (run / FOLDER).glob("*/epoch-*.png"):
        match = _PICTURE.match(path.name)
        try:
            stamp = path.stat().st_mtime_ns
        except OSError:
            continue  # discarded a moment ago
        if match:
            yield Shot(int(match[1]), path.parent, stamp)
