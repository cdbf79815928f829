"""Tiles: every pixel has one owner, every tile is aligned and sees its halo."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segcore.tiling import align, tile_grid

geometry = {
    "height": st.integers(1, 200),
    "width": st.integers(1, 200),
    "tile": st.integers(1, 90),
    "halo": st.integers(0, 40),
    "step": st.sampled_from([1, 4, 8, 16]),
}


@given(**geometry)
@settings(deadline=None, max_examples=100)
def test_every_pixel_is_written_once_and_from_its_own_place(
    height: int, width: int, tile: int, halo: int, step: int
) -> None:
    image = np.arange(height * width).reshape(height, width)
    result = np.full_like(image, -1)
    written = np.zeros_like(image)
    for piece in tile_grid(height, width, tile, halo, step):
        result[piece.write] = image[piece.read][piece.keep]
        written[piece.write] += 1
    assert (written == 1).all()
    assert (result == image).all()


@given(**geometry)
@settings(deadline=None, max_examples=100)
def test_tiles_are_aligned_and_see_the_whole_halo_or_the_border(
    height: int, width: int, tile: int, halo: int, step: int
) -> None:
    for piece in tile_grid(height, width, tile, halo, step):
        for span, size in ((piece.rows, height), (piece.columns, width)):
            assert span.read_start % step == 0
            assert span.read_stop % step == 0 or span.read_stop == size
            assert span.read_start == 0 or span.start - span.read_start >= halo
            assert span.read_stop == size or span.read_stop - span.stop >= halo
            assert 0 < span.stop - span.start <= align(tile, step)


def test_a_tile_as_large_as_the_image_is_the_image() -> None:
    (piece,) = tile_grid(50, 37, 50, 8, 4)
    assert piece.read == piece.keep == piece.write == (slice(0, 50), slice(0, 37))
