"""Region: a rectangle drawn on a slice by mouse, finger or keyboard."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from app import views
from app.services import Services
from segcore.config import DataConfig
from segcore.errors import DataError
from segcore.jobs.feedback import LARGEST, SMALLEST, Window

HERE = Path(__file__).parent
LONGEST_SIDE = 1024
USUAL_SIDE = 256


def region_canvas(name: str, choose: str, automatic: str) -> gr.HTML:
    """Build the slice to draw on in the current layout; its value comes from `slice_value`.

    Both buttons trigger `select`, see `drawn_region`.

    Parameters
    ----------
    name : str
        The element's id.
    choose, automatic : str
        What the buttons say that take the rectangle, and that leave the choice to the training.
    """
    html, css, script = ((HERE / f"region.{suffix}").read_text("utf-8") for suffix in ("html", "css", "js"))
    return gr.HTML(
        {},
        html_template=html.replace("CHOOSE", choose).replace("AUTOMATIC", automatic),
        css_template=css,
        js_on_load=script,
        apply_default_css=False,
        elem_id=name,
    )


def slice_value(services: Services, data: DataConfig, index: int, region: str = "") -> dict[str, Any]:
    """Return what the canvas shows: a slice with robust contrast, and the rectangle on it.

    Parameters
    ----------
    services : Services
        The door to the workspace.
    data : DataConfig
        The images, and their labels where these decide how the axes are read.
    index : int
        The slice, from 0.
    region : str
        Slice, row, column, height and width of the rectangle; by default one in the middle.

    Raises
    ------
    DataError
        The slice cannot be read.
    """
    collection = services.data.collection(data, bool(data.labels))
    plane_CYX = collection.read(min(max(index, 0), collection.count - 1))
    height, width = plane_CYX.shape[1:]
    middle = Window(
        plane=index,
        row=(height - min(USUAL_SIDE, height)) // 2,
        column=(width - min(USUAL_SIDE, width)) // 2,
        height=USUAL_SIDE,
        width=USUAL_SIDE,
    )
    window = (Window.parse(region) if region else middle).fitted(height, width)
    return {
        "src": views.png_uri(views.overlay(views.fit_preview(plane_CYX, LONGEST_SIDE))),
        "height": height,
        "width": width,
        "least": SMALLEST,
        "most": LARGEST,
        "region": [window.row, window.column, window.height, window.width],
        "alt": f"Slice {index}",
    }


def drawn_region(event: gr.EventData, plane: int) -> str:
    """Return the rectangle as `training.feedback_region` takes it, "" if the training shall choose.

    Raises
    ------
    DataError
        The page sent no rectangle.
    """
    region = event.region
    if region is None:
        return ""
    try:
        row, column, height, width = (int(part) for part in region)
    except (TypeError, ValueError) as error:
        raise DataError("The page sent no rectangle.", "Draw it again.") from error
    return Window(plane=int(plane), row=row, column=column, height=height, width=width).text
