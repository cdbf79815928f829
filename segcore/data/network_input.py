"""What a network sees to decide on a plane: the plane, its neighbours too, or a block around it."""

from __future__ import annotations

import numpy as np

from segcore.card import ModelCard
from segcore.data.collection import Collection
from segcore.data.neighbours import neighbours
from segcore.tiling import align


def read_input(
    collection: Collection,
    index: int,
    card: ModelCard,
    rows: slice,
    columns: slice,
    halo: int = 0,
    step: int = 1,
) -> tuple[np.ndarray, int]:
    """Read part of a plane as the network of `card` takes it.

    Parameters
    ----------
    collection : Collection
        The images.
    index : int
        The plane, counted through all images.
    card : ModelCard
        Says what the network sees.
    rows, columns : slice
        The part.
    halo : int
        Planes to read on either side in 3d, as far as there are any.
    step : int
        The block begins at a multiple of so many planes of its volume, and is as long: what the network
        shrinks together is then what it shrinks together in the whole volume.

    Returns
    -------
    image : ndarray
        `(C, Y, X)` in 2d, `(slices · C, Y, X)` in 2.5d, slice-major, `(C, Z, Y, X)` in 3d.
    at : int
        Where the plane lies along Z in 3d; 0 otherwise.
    """
    if card.mode == "2d":
        return collection.window(index, rows, columns), 0
    number, plane = collection.locate(index)
    depth = collection.entries[number].depth
    first = plane // depth * depth
    if card.mode == "2.5d":
        seen = neighbours(plane - first, depth, card.context_slices, card.context_spacing)
        planes = [collection.position(number, first + other) for other in seen]
        return np.concatenate([collection.window(other, rows, columns) for other in planes]), 0
    low = first + max(0, plane - first - halo) // step * step
    high = first + min(depth, align(plane - first + halo + 1, step))
    block = [
        collection.window(collection.position(number, other), rows, columns) for other in range(low, high)
    ]
    return np.stack(block, axis=1), plane - low
