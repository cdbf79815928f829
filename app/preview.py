"""Pictures of a stack for the steps: one plane at a time, with its labels over it or beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from app import views
from app.services import Services

LONGEST_SIDE = 1024
"""Pixels sent to the page; the viewer shows more."""


@dataclass(frozen=True)
class Scene:
    """What to draw.

    Parameters
    ----------
    images : str
        Workspace path of the image stack.
    labels : str or None
        Workspace path of the label stack.
    class_values : sequence of int
        Label values, ascending.
    foreground : bool
        All values above 0 are one class.
    beside : bool
        Draw the image alone beside the image with its labels.
    axes : str, optional
        Axes of the image file, where it does not say them rightly.
    """

    images: str
    labels: str | None = None
    class_values: Sequence[int] = ()
    foreground: bool = False
    beside: bool = False
    axes: str | None = None


def picture_html(services: Services, scene: Scene, index: int, opacity: float) -> str:
    """Return the HTML of plane `index`, counted from 0; `opacity` from 0 to 1."""
    image_CYX = views.fit_preview(services.plane(scene.images, index, scene.axes), LONGEST_SIDE)
    labels_YX = None
    if scene.labels:
        labels_YX = views.fit_preview(services.labels_plane(scene.labels, index), LONGEST_SIDE)
        if labels_YX.shape != image_CYX.shape[1:]:
            labels_YX = None
        elif scene.foreground:
            labels_YX = (labels_YX > 0).astype("uint8")
    picture = views.overlay(image_CYX, labels_YX, class_values=scene.class_values, opacity=opacity)
    if not scene.beside:
        return frame_html(
            [(picture, f"Slice {index} with its labels" if scene.labels else f"Slice {index}", "")]
        )
    plain = views.overlay(image_CYX)
    return frame_html(
        [(plain, f"Slice {index}", "image"), (picture, f"Slice {index} with the result", "result")]
    )


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
