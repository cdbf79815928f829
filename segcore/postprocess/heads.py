"""Instance heads: what a network must answer so that objects can be made of it.

A head knows four things and nothing of networks, loops or files: the target of a label image, the loss, what
the numbers of the network mean (`activate`), and the objects (`decode`). What travels::

    labels ──encode──► target (T, …)              float32; map 0 is IGNORE where nobody annotated
    network ─────────► output (B, channels, …)    any numbers, as large as the image
    output ──activate► maps   (B, channels, …)    what several networks or flipped images may be averaged in
    maps ────decode──► labels (…)                 int32, 0 background, 1 … n objects
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from segcore.card import ModelCard, ObjectHead, PixelSize
from segcore.postprocess.boundary import BoundaryDecoding, BoundaryHead
from segcore.postprocess.flows import FlowDecoding, FlowHead
from segcore.postprocess.masks import MaskDecoding, MaskHead
from segcore.postprocess.stars import StarDecoding, StarHead
from segcore.postprocess.terms import Total, alone
from segcore.registry import Registry


class InstanceHead(Protocol):
    """What all heads have in common; they are frozen, and their fields decide the target."""

    @property
    def dimensions(self) -> int:
        """Axes of an image: 2 or 3."""

    @property
    def channels(self) -> int:
        """Maps that the network must answer."""

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Return the target `(T, …)`, float32, of labels `(Y, X)` or `(Z, Y, X)`.

        How objects are numbered makes no difference. Pixels that nobody annotated (IGNORE) have none: map 0
        is IGNORE there, the others 0. An object ends where the annotation ends.

        Raises
        ------
        DataError
            The labels are not whole numbers, or have other axes.
        """

    def loss(self, output: Tensor, target: Tensor, total: Total = alone) -> Tensor:
        """Return the loss of a batch, a scalar: of outputs `(B, channels, …)` and targets `(B, T, …)`.

        What the network says where nobody annotated changes neither loss nor gradient.
        """

    def activate(self, output: Tensor) -> Tensor:
        """Return what the output means: probabilities between 0 and 1, distances in px, flows of length 1."""

    def inside(self, maps: Tensor) -> Tensor:
        """Return where objects seem to be, `(B, …)` bool, of maps `(B, channels, …)`: a guess."""

    def ideal(self, target: np.ndarray) -> np.ndarray:
        """Return the maps `(channels, …)` that a network gives which answers a target without a fault."""

    def flip(self, maps: np.ndarray, axis: int) -> np.ndarray:
        """Return the maps `(channels, …)` of the image that is reversed along its `axis`, counted from 0.

        Targets may be given as well, if they have as many maps.

        Raises
        ------
        ConfigError
            The head has no such maps: the rays of a StarDist head in 3d have no mirror images.
        """

    def decode(self, maps: np.ndarray, options: Any = None) -> np.ndarray:
        """Return objects 1 … n, int32, from maps `(channels, …)`; None: the head's usual options."""


HEADS: Registry[Callable[..., InstanceHead]] = Registry(
    "instance head", {"boundary": BoundaryHead, "stars": StarHead, "flows": FlowHead}
)
ANSWERED: dict[str, Callable[..., InstanceHead]] = {"masks": MaskHead, "panoptic": MaskHead}
"""Heads of networks that answer whole objects themselves, and of no others."""
_DECODINGS: dict[str, Callable[..., Any]] = {
    "boundary": BoundaryDecoding,
    "stars": StarDecoding,
    "flows": FlowDecoding,
    "masks": MaskDecoding,
    "panoptic": MaskDecoding,
}
_FLAT = ("flows", *ANSWERED)
"""Heads that do not ask how far slices lie apart."""
USUAL_STEPS = FlowDecoding().steps
"""Steps of the flow head by default: cards of models for larger objects name more."""


def build_head(name: str, dimensions: int = 2, **fields: Any) -> InstanceHead:
    """Return the head called `name` for images with 2 or 3 axes.

    Parameters
    ----------
    name : str
        `boundary`, `stars`, `flows`, `masks` or `panoptic`.
    dimensions : int
        2 or 3.
    **fields
        What else decides the target, see the class of the head.

    Raises
    ------
    ConfigError
        There is no such head (the message lists those there are), or a field is out of its range.
    """
    return (ANSWERED.get(name) or HEADS[name])(dimensions=dimensions, **fields)


def describe_head(name: str, solid: bool, voxel: PixelSize, side: float) -> ObjectHead:
    """Return what a model card says of a head.

    Parameters
    ----------
    name : str
        `boundary`, `stars`, `flows`, `masks` or `panoptic`.
    solid : bool
        Whether volumes are decoded, not planes.
    voxel : PixelSize
        Size of a voxel, as far as known.
    side : float
        Longest side of nine of ten annotated objects in their plane, px.

    Raises
    ------
    ConfigError
        There is no such head.
    """
    dimensions = 3 if solid else 2
    apart = voxel.z / voxel.x if voxel.z and voxel.x else 1.0
    apart = min(max(apart, 0.1), 100.0)
    fields: dict[str, float] = {"anisotropy": apart} if solid and name not in _FLAT else {}
    sides = (side / apart, side, side) if solid else (side, side)
    decoding: dict[str, int | float] = {}
    if name == "flows" and side > USUAL_STEPS / 2:  # a bent way to the middle may be as long as two sides
        decoding = {"steps": min(round(2 * side), 10000)}
    maps = build_head(name, dimensions, **fields).channels
    return ObjectHead(
        name=name, dimensions=dimensions, fields=fields, decoding=decoding, maps=maps, sides=sides
    )


def head_of(card: ModelCard) -> InstanceHead | None:
    """Return the head of a model, None where it learned classes only.

    Raises
    ------
    ConfigError
        The card names a head that this version does not have.
    """
    if card.head is None:
        return None
    return build_head(card.head.name, card.head.dimensions, **card.head.fields)


def decoding_of(card: ModelCard) -> Any:
    """Return the options with which a model's head decodes, None where it has no head.

    Raises
    ------
    ConfigError
        The card holds an option that is out of its range.
    """
    return None if card.head is None else _DECODINGS[card.head.name](**card.head.decoding)
