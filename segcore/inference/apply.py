"""Predicting one image as its model wants it: statistics, neighbours or slabs, another grid and back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from torch import Tensor

from segcore.inference.rescale import SAME, Factors, Rescaled, restored
from segcore.pieces import Piece, Slices, own_normalization, pieces_of, predict_pieces
from segcore.predictor import Predictor


class Prediction:
    """What a network says of one image, plane by plane.

    Parameters
    ----------
    predictor : Predictor
        Applies the network.
    images : Slices
        The image.
    factors : tuple of float
        From its grid to that of the network; see `segcore.inference.rescale`.
    wanted : collection of int, optional
        The planes that matter; others may be left out.

    Raises
    ------
    DataError
        A plane cannot be read.
    """

    def __init__(
        self,
        predictor: Predictor,
        images: Slices,
        factors: Factors = SAME,
        wanted: Collection[int] | None = None,
    ) -> None:
        self.normalization = own_normalization(images, predictor)
        self._predictor = predictor
        self._rescaled = Rescaled(images, factors) if factors != SAME else None
        self._grid: Slices = self._rescaled or images
        self.pieces: list[Piece] = pieces_of(self._grid, predictor)
        if wanted is not None and self._grid.depth == images.depth:
            self.pieces = [piece for piece in self.pieces if not set(piece.kept).isdisjoint(wanted)]

    def is_exact(self) -> bool:
        """Say whether memory suffices for pieces with all that the network can see around them."""
        solid = self._predictor.card.mode == "3d"
        deepest = max((len(piece.seen) for piece in self.pieces), default=1)
        sizes = (self._grid.height, self._grid.width)
        return self._predictor.is_exact(*((deepest, *sizes) if solid else sizes))

    def planes(self, on_tile: Callable[[int, int], None] | None = None) -> Iterator[tuple[int, Tensor]]:
        """Yield number and logits `(K, Y, X)` of the planes, on the grid of the image.

        Parameters
        ----------
        on_tile : callable, optional
            See `Predictor.logits`.

        Raises
        ------
        DataError
            A plane cannot be read.
        """
        predicted = predict_pieces(self._predictor, self._grid, self.pieces, self.normalization, on_tile)
        return restored(predicted, self._rescaled) if self._rescaled else predicted
