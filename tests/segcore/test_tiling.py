"""Tiles: every pixel has one owner, every tile is aligned and sees its halo."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from segcore.tiling import align, part_span, tile_grid

axis = st.tuples(st.integers(1, 90), st.integers(1, 40), st.integers(0, 30), st.sampled_from([1, 2, 8, 16]))
"""Size of the image, of a tile, of the halo, and the alignment."""
axes = st.lists(axis, min_size=1, max_size=3).map(lambda found: tuple(zip(*found, strict=True)))


@given(axes=axes)
@settings(deadline=None, max_examples=60)
def test_every_pixel_is_written_once_and_from_its_own_place(axes: tuple[tuple[int, ...], ...]) -> None:
    shape = axes[0]
    image = np.arange(np.prod(shape)).reshape(shape)
    result = np.full_like(image, -1)
    written = np.zeros_like(image)
    for piece in tile_grid(*axes):
        result[piece.write] = image[piece.read][piece.keep]
        written[piece.write] += 1
    assert (written == 1).all()
    assert (result == image).all()


@given(axes=axes)
@settings(deadline=None, max_examples=60)
def test_tiles_are_aligned_and_see_the_whole_halo_or_the_border(axes: tuple[tuple[int, ...], ...]) -> None:
    for piece in tile_grid(*axes):
        for span, size, tile, halo, step in zip(piece.spans, *axes, strict=True):
            assert span.read_start % step == 0
            assert span.read_stop % step == 0 or span.read_stop == size
            assert span.read_start == 0 or span.start - span.read_start >= halo
            assert span.read_stop == size or span.read_stop - span.stop >= halo
            assert 0 < span.stop - span.start <= align(tile, step)


@given(axis=axis, data=st.data())
def test_any_part_of_an_axis_is_read_aligned_and_with_its_halo(
    axis: tuple[int, int, int, int], data: st.DataObject
) -> None:
    size, _, halo, step = axis
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    span = part_span(start, stop, size, halo, step)
    assert (span.start, span.stop) == (start, stop)
    assert span.read_start % step == 0
    assert 0 <= span.read_start <= max(0, start - halo)
    assert min(size, stop + halo) <= span.read_stop <= size
    assert span.read_stop % step == 0 or span.read_stop == size


def test_a_tile_as_large_as_the_image_is_the_image() -> None:
    (piece,) = tile_grid((50, 37), (50, 50), (8, 8), (4, 4))
    assert piece.read == piece.keep == piece.write == (slice(0, 50), slice(0, 37))
    assert (piece.rows.stop, piece.columns.stop) == (50, 37)
