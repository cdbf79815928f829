"""What the page asks of the process that answers prompts, and what that says: JSON lines. Torch-free."""

from __future__ import annotations

import base64
import io
from typing import Literal

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict

from segcore.config import DataConfig
from segcore.promptable.kept import png_pixels

PNG_COMPRESSION = 1
"""The least there is: a mask is nearly nothing anyway, and somebody waits."""


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Place(_Message):
    """Part of a slice: what is embedded, and what masks are as large as."""

    data: DataConfig
    """The images as the page shows them."""
    plane: int
    """Counted through all images."""
    rows: tuple[int, int] | None = None
    """First row and end of rows, px; None: all."""
    columns: tuple[int, int] | None = None


class Request(_Message):
    """A question about one place. Rows and columns of prompts are counted from the corner of the place."""

    id: int
    do: Literal["embed", "mask", "everything"]
    """Get ready (so that the first click is answered at once), answer a prompt, or find all objects."""
    model: str
    """A folder or a hub id, see `segcore.promptable.sam.load_sam`."""
    place: Place
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None
    """Top, left, bottom, right, px."""


class Mask(_Message):
    """A mask as a PNG, white where it is, and the IoU that the network expects."""

    png: str
    """base64."""
    score: float

    def pixels(self) -> np.ndarray:
        """Return it as `(Y, X)` bool."""
        return png_pixels(io.BytesIO(base64.b64decode(self.png))) > 0


class Answer(_Message):
    """What became of the request with the same id; if it failed, why and what to do.

    Those with a stage say how far it is; the last one has none.
    """

    id: int
    stage: str = ""
    """What is being done, in a few words."""
    done: int = 0
    total: int = 0
    """Of the stage; 0: nobody knows."""
    message: str = ""
    remedy: str = ""
    seconds: float = 0.0
    masks: tuple[Mask, ...] = ()
    """Of a prompt: the best first."""
    labels: str = ""
    """Of everything: the numbers of objects, a 16-bit PNG, base64."""
    scores: tuple[float, ...] = ()
    """Of everything: the score of object 1, 2, …"""

    def objects(self) -> np.ndarray:
        """Return the numbers of objects `(Y, X)`, int32."""
        return png_pixels(io.BytesIO(base64.b64decode(self.labels))).astype(np.int32)


def mask_message(mask: np.ndarray, score: float) -> Mask:
    """Return a mask `(Y, X)`, bool, as it is sent."""
    return Mask(png=_png(mask), score=float(score))


def labels_png(labels: np.ndarray) -> str:
    """Return the numbers of at most 65535 objects as they are sent."""
    return _png(labels.astype(np.uint16))


def _png(pixels: np.ndarray) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=PNG_COMPRESSION)
    return base64.b64encode(stream.getvalue()).decode()
