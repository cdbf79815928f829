"""Film: predictions over their image, with the number of the epoch, as a still or an animation."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw, ImageFont

from app.views import class_colour
from segcore.jobs.feedback import UNANNOTATED

LEAST_SIDE = 256
"""Smaller pictures are enlarged, so that single pixels and the number of the epoch can be seen."""
STRIP = 22
"""Height in px of the line with the number of the epoch."""
SECONDS = 20.0
"""Length of an animation of many epochs."""
FASTEST, SLOWEST, LAST = 60, 500, 1500
"""How long a picture stands, ms; the last one longer."""
PALETTE_FROM = 5
"""So many pictures, evenly spread, decide on the colours of an animation."""
OUTLINE = (255, 255, 255)


@dataclass(frozen=True)
class Look:
    """How a person wants to see the predictions.

    Parameters
    ----------
    opacity : float
        Of the prediction, 0 to 1.
    outline : bool
        Draw the borders of the annotated classes in white.
    """

    opacity: float = 0.5
    outline: bool = True


@dataclass(frozen=True)
class Frame:
    """One picture: grey `(Y, X)` or RGB `(Y, X, 3)` image, label and prediction as class indices `(Y, X)`."""

    epoch: int
    image: NDArray[np.uint8]
    label_YX: NDArray[np.uint8]
    prediction_YX: NDArray[np.uint8]
    classes: int


def still(frame: Frame, look: Look) -> bytes:
    """Return one picture as PNG, as large as the part it shows, without a number."""
    stream = io.BytesIO()
    Image.fromarray(_painted(frame, look)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def film(frames: Sequence[Frame], look: Look) -> bytes:
    """Return pictures as an animated GIF without end; of pictures of several sizes the largest decides."""
    height = max(frame.label_YX.shape[0] for frame in frames)
    width = max(frame.label_YX.shape[1] for frame in frames)
    scale = max(1, -(-LEAST_SIDE // max(height, width)))
    pictures = [_numbered(frame, look, (height, width), scale) for frame in frames]
    # One set of colours for all: a set for each would flicker, and be in the file again and again.
    picked = np.unique(np.linspace(0, len(pictures) - 1, PALETTE_FROM).round().astype(int))
    montage = np.concatenate([np.asarray(pictures[index]) for index in picked])
    palette = Image.fromarray(montage).quantize(255, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    drawn = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    each = int(min(max(1000 * SECONDS / len(drawn), FASTEST), SLOWEST))
    stream = io.BytesIO()
    drawn[0].save(
        stream, "GIF", save_all=True, append_images=drawn[1:], loop=0, optimize=False,
        duration=[each] * (len(drawn) - 1) + [LAST],
    )  # fmt: skip
    return stream.getvalue()


def _painted(frame: Frame, look: Look) -> NDArray[np.uint8]:
    """Return the image with the prediction over it, `(Y, X, 3)`."""
    image = frame.image if frame.image.ndim == 3 else np.repeat(frame.image[..., None], 3, axis=2)
    colours = np.array([ImageColor.getrgb(class_colour(index)) for index in range(256)], np.float32)
    mixed = (1 - look.opacity) * image + look.opacity * colours[frame.prediction_YX]
    picture = np.rint(mixed).astype(np.uint8)
    if look.outline:
        picture[outline(frame.label_YX)] = OUTLINE
    return picture


def outline(label_YX: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the pixels at the borders of annotated classes: those whose right or lower neighbour differs."""
    known_YX = label_YX != UNANNOTATED
    edges_YX = np.zeros(label_YX.shape, bool)
    edges_YX[:-1] |= (label_YX[:-1] != label_YX[1:]) & known_YX[:-1] & known_YX[1:]
    edges_YX[:, :-1] |= (label_YX[:, :-1] != label_YX[:, 1:]) & known_YX[:, :-1] & known_YX[:, 1:]
    return edges_YX


def _numbered(frame: Frame, look: Look, size: tuple[int, int], scale: int) -> Image.Image:
    """Return the painted picture, enlarged, in the middle of a black one, below the number of its epoch."""
    painted = Image.fromarray(_painted(frame, look))
    painted = painted.resize((painted.width * scale, painted.height * scale), Image.Resampling.NEAREST)
    height, width = (side * scale for side in size)
    picture = Image.new("RGB", (max(width, 96), height + STRIP))
    picture.paste(painted, ((picture.width - painted.width) // 2, STRIP + (height - painted.height) // 2))
    font = ImageFont.load_default(15)
    ImageDraw.Draw(picture).text((6, 2), f"Epoch {frame.epoch}", fill="white", font=font)
    return picture
