"""How an image of many planes goes through a network: plane by plane, with neighbours, or in slabs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor

from segcore.card import Normalization
from segcore.data.neighbours import neighbours
from segcore.data.normalize import fit_normalization
from segcore.memory import main_memory
from segcore.predictor import Predictor
from segcore.tiling import align, axis_spans

SLAB_SHARE = 0.25
"""Share of the free memory that the grey values and logits of a slab may take."""
MOST_KEPT = 64
"""Planes kept at most because the next piece will probably need them, too."""


class Slices(Protocol):
    """Planes of one image; see `segcore.data.planes.Planes`."""

    @property
    def count(self) -> int:
        """Planes in all."""

    @property
    def depth(self) -> int:
        """Planes of one volume: `depth` planes that follow each other belong together."""

    @property
    def channels(self) -> int:
        """Channels of a plane."""

    @property
    def height(self) -> int:
        """Rows of a plane."""

    @property
    def width(self) -> int:
        """Columns of a plane."""

    def read(self, index: int) -> np.ndarray:
        """Return plane `index` as `(C, Y, X)`."""


@dataclass(frozen=True)
class Piece:
    """What goes through the network at once.

    Parameters
    ----------
    seen : tuple of int
        The planes the network sees, in its order.
    kept : range
        The planes it decides on.
    offset : int
        Where the first of them stands among those seen; 3d only.
    """

    seen: tuple[int, ...]
    kept: range
    offset: int = 0


def pieces_of(images: Slices, predictor: Predictor) -> list[Piece]:
    """Return the pieces in which an image is predicted; every plane is kept once, in ascending order."""
    card = predictor.card
    if card.mode == "3d":
        return [
            piece
            for first in range(0, images.count, images.depth)
            for piece in _slabs(images, predictor, first)
        ]
    found = []
    for index in range(images.count):
        first = index // images.depth * images.depth
        seen = neighbours(index - first, images.depth, card.context_slices, card.context_spacing)
        found.append(Piece(tuple(first + plane for plane in seen), range(index, index + 1)))
    return found


def predict_pieces(
    predictor: Predictor,
    images: Slices,
    pieces: list[Piece],
    normalization: Normalization | None = None,
    on_tile: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Yield every plane's number and its logits `(K, Y, X)`.

    Parameters
    ----------
    predictor : Predictor
        Applies the network.
    images : Slices
        The image.
    pieces : list of Piece
        See `pieces_of`.
    normalization : Normalization, optional
        The image's own, where it has one.
    on_tile : callable, optional
        See `Predictor.logits`.

    Raises
    ------
    DataError
        A plane cannot be read.
    """
    card = predictor.card
    solid = card.mode == "3d"
    reader = _Reader(images, 1 if solid else (card.context_slices - 1) * card.context_spacing + 1)
    for piece in pieces:
        planes = [reader.read(index) for index in piece.seen]
        image = np.stack(planes, axis=1) if solid else np.concatenate(planes)
        logits = predictor.logits(image, on_tile, normalization)
        for number, index in enumerate(piece.kept):
            yield index, logits[:, piece.offset + number] if solid else logits


def own_normalization(images: Slices, predictor: Predictor) -> Normalization | None:
    """Return the statistics of an image, over all its planes, where the model takes every image's own.

    Raises
    ------
    DataError
        A plane cannot be read.
    """
    trained = predictor.card.normalization
    if trained.per == "set":
        return None
    return fit_normalization((images.read(index) for index in range(images.count)), trained.kind)


def _slabs(images: Slices, predictor: Predictor, first: int) -> Iterator[Piece]:
    """Cut a volume into slabs of planes that fit into memory, each with its halo."""
    network = predictor.network
    step, radius = network.divisors[0], network.receptive_radii[0]
    halo = align(radius, step)
    # Grey values as read and as float32, normalised twice over; logits as float32 and their softmax.
    plane_bytes = images.height * images.width * (20 * images.channels + 8 * network.classes)
    room = SLAB_SHARE * min(main_memory().available, predictor.hardware.free_memory()) // plane_bytes
    owned = images.depth if room >= images.depth else max(int(room) - 2 * halo, halo, step)
    for span in axis_spans(images.depth, owned, radius, step):
        seen = tuple(range(first + span.read_start, first + span.read_stop))
        kept = range(first + span.start, first + span.stop)
        yield Piece(seen, kept, span.start - span.read_start)


class _Reader:
    """Reads planes; the last `most` stay, because neighbouring pieces share planes."""

    def __init__(self, images: Slices, most: int) -> None:
        self._images = images
        self._most = min(most, MOST_KEPT)
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()

    def read(self, index: int) -> np.ndarray:
        """Return plane `index`."""
        if index not in self._kept:
            self._kept[index] = self._images.read(index)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        self._kept.move_to_end(index)
        return self._kept[index]
