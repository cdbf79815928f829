"""Promptable: what a network that answers prompts must do, and what it is asked and answers. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from segcore.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Embedding:
    """What the network has made of a plane, from which all prompts are answered.

    Parameters
    ----------
    key : str
        A hash of the plane and the network.
    size : (int, int)
        Rows and columns of the plane, px.
    share : (float, float)
        How much of the rows and columns that the network sees are the plane, 0 to 1; the rest is padding.
    features : tuple of np.ndarray
        float16, as the network needs them.
    """

    key: str
    size: tuple[int, int]
    share: tuple[float, float]
    features: tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class Prompt:
    """What a person says of one object: where it is, where it is not. At least a point or a box.

    Parameters
    ----------
    points : tuple of (float, float)
        Row and column, px, counted from the middle of the first pixel.
    labels : tuple of int
        Of each point: 1 it belongs to the object, 0 it does not.
    box : tuple of float, optional
        Top, left, bottom, right, px, around the object.
    logits : np.ndarray, optional
        Logits `(y, x)` of an earlier answer (`Masks.logits`), to be improved.
    """

    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, float, float, float] | None = None
    logits: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Raise `ConfigError` where it says nothing, or says it wrongly."""
        if not self.points and self.box is None:
            raise ConfigError("The prompt is empty.", "Click a point of the object, or draw a box around it.")
        if len(self.points) != len(self.labels) or not set(self.labels) <= {0, 1}:
            raise ConfigError(
                f"The prompt has {len(self.points)} points and the labels {list(self.labels)}.",
                "Every point has the label 1 (belongs to the object) or 0 (does not).",
            )
        if self.box is not None and (self.box[0] >= self.box[2] or self.box[1] >= self.box[3]):
            raise ConfigError(
                f"The box {self.box} is empty.", "Give top, left, bottom and right, in px, in this order."
            )


@dataclass(frozen=True, eq=False)
class Masks:
    """What the network answers to a prompt, the best first: often a part, the object, and what it belongs to.

    Parameters
    ----------
    masks : np.ndarray
        `(n, Y, X)` bool, at the size of the plane.
    scores : np.ndarray
        `(n,)` float32: which IoU with the object the network expects.
    logits : np.ndarray
        `(n, y, x)` float32, smaller than the plane: what a further prompt can improve.
    """

    masks: np.ndarray
    scores: np.ndarray
    logits: np.ndarray


class Option(NamedTuple):
    """What an option of `Everything` may be, and what it does."""

    low: float
    high: float
    help: str


OPTIONS = {
    "side": Option(1, 256, "points per side of the grid on which objects are asked for"),
    "iou": Option(0, 1, "least IoU with an object that the network expects of a mask"),
    "stability": Option(
        0, 1, "least share that remains of a mask when its threshold is raised and lowered by offset"
    ),
    "offset": Option(0, 10, "by how much the threshold is raised and lowered, in logits"),
    "overlap": Option(0, 1, "of masks whose boxes have a larger IoU only the best stays"),
    "least": Option(1, 1e9, "fewest px of an object"),
    "largest": Option(1e-6, 1, "largest share of a slice that is an object and not the background"),
}
"""The options of `Everything`, for messages and for the help of the command line."""
KINDS = ("sam", "sam2", "sam2_video", "sam3_tracker", "sam3_video")
"""What the config.json of a network that answers prompts calls its kind."""


@dataclass(frozen=True)
class Everything:
    """How all objects of a plane are found: prompts on a grid, then only good, stable and different masks.

    The defaults are those of the automatic mask generator of SAM (Kirillov et al. 2023, arXiv 2304.02643).

    `OPTIONS` says what each does.
    """

    side: int = 32
    iou: float = 0.88
    stability: float = 0.95
    offset: float = 1.0
    overlap: float = 0.7
    least: int = 1
    largest: float = 0.9

    def __post_init__(self) -> None:
        """Raise `ConfigError` where an option is out of its range."""
        for name, (low, high, _) in OPTIONS.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} is {value:g}.", f"It must be between {low:g} and {high:g}.")


class Promptable(Protocol):
    """A network that answers prompts on a plane it has seen once."""

    @property
    def key(self) -> str:
        """A hash of its weights: of embeddings it understands only its own."""

    def embed(self, plane: np.ndarray) -> Embedding:
        """Return what it makes of a plane `(Y, X)` or `(C, Y, X)` of any type; takes seconds.

        Raises
        ------
        DataError
            The plane has other axes, or no pixels.
        """

    def mask(self, embedding: Embedding, prompt: Prompt) -> Masks:
        """Return the masks of one object; takes a fraction of a second."""

    def at_points(self, embedding: Embedding, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return logits `(p, n, y, x)` and scores `(p, n)` of objects at points `(p, 2)`, row and column.

        The logits are smaller than the plane, and cover what the network sees, padding too.
        """

    def enlarged(self, embedding: Embedding, logits: np.ndarray) -> np.ndarray:
        """Return logits `(Y, X)` at the size of the plane from those `(y, x)` of an answer."""
