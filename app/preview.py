"""Pictures of images for the steps: one slice at a time, with its labels over it or beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app import views
from app.services import Services
from segcore.config import DataConfig
from segcore.data.colouring import COLOURS, coloured

LONGEST_SIDE = 1024
"""Pixels sent to the page; the viewer shows more."""
DIMMED = 0.4
"""Brightness of what nobody annotated."""


@dataclass(frozen=True)
class Scene:
    """What to draw.

    Parameters
    ----------
    data : DataConfig
        The images, with their labels if it names some.
    class_values : sequence of int
        Label values, ascending.
    result : str
        Workspace path of a segmentation of the images, drawn beside the image alone; "" for none.
    """

    data: DataConfig
    class_values: Sequence[int] = ()
    result: str = ""


def _are_objects(scene: Scene, labels_YX: NDArray[Any]) -> bool:
    """Say whether labels are numbers of objects, not values of classes."""
    if scene.result:
        return tuple(scene.class_values) == (0, 1) and bool((labels_YX > 1).any())
    return scene.data.labels_as == "objects"


def picture_html(services: Services, scene: Scene, index: int, opacity: float) -> str:
    """Return the HTML of slice `index`, counted from 0; `opacity` from 0 to 1."""
    labelled = bool(scene.data.labels) and not scene.result
    shot = services.data.shot(scene.data, index, LONGEST_SIDE, labelled)
    labels_YX = shot.labels_YX
    if scene.result:
        over = services.data.shot(DataConfig(images=scene.result), index, LONGEST_SIDE, labelled=False)
        labels_YX = over.image_CYX[0]
    if labels_YX is not None and labels_YX.shape != shot.image_CYX.shape[1:]:
        labels_YX = None
    elif labels_YX is not None and scene.data.labels_as == "foreground" and not scene.result:
        labels_YX = (labels_YX > 0).astype("uint8")
    values: Sequence[int] = scene.class_values
    if labels_YX is not None and _are_objects(scene, labels_YX):
        labels_YX, values = coloured(labels_YX), range(COLOURS + 1)
    name = escape(shot.name)
    picture = views.overlay(shot.image_CYX, labels_YX, class_values=values, opacity=opacity)
    if shot.hidden_YX is not None:
        dark = views.overlay(shot.image_CYX)[shot.hidden_YX]
        picture[shot.hidden_YX] = (dark * DIMMED).astype(np.uint8)
    if not scene.result:
        alt = f"{name} with its labels" if labels_YX is not None else name
        return frame_html([(picture, alt, "")])
    plain = views.overlay(shot.image_CYX)
    return frame_html([(plain, name, "image"), (picture, f"{name} with the result", "result")])


def empty_html(text: str) -> str:
    """Return the frame without a picture, with a sentence on how to get one; escaped."""
    return f'<div class="picture-empty">{"<br>".join(escape(line) for line in text.splitlines())}</div>'


def frame_html(pictures: list[tuple[np.ndarray, str, str]]) -> str:
    """Return pictures `(Y, X, 3)` side by side, each with its description and its caption ("" for none)."""
    figures = "".join(
        f'<figure><img src="{views.png_uri(picture)}" alt="{alt}">'
        + (f"<figcaption>{caption}</figcaption>" if caption else "")
        + "</figure>"
        for picture, alt, caption in pictures
    )
    return f'<div class="picture-frame">{figures}</div>'
