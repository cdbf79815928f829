"""Objects of tiles and of slices put together: the result is that of the whole image."""

from __future__ import annotations

import numpy as np
import pytest
from drawn_objects import blobs, ellipse, ellipses, same_objects
from hypothesis import given, settings
from hypothesis import strategies as st

from segcore.errors import ConfigError
from segcore.postprocess.heads import HEADS, build_head
from segcore.postprocess.stitch import Joiner, Stitcher, link_planes, overlaps
from segcore.tiling import Tile, tile_grid

LARGEST = 24
"""No object of `ellipses` in 2d is longer, in px."""


def _stitched(tiles: list[Tile], found: list[np.ndarray], shape: tuple[int, ...]) -> Stitcher:
    stitcher = Stitcher(np.zeros(shape, np.int32))
    for tile, labels in zip(tiles, found, strict=True):
        stitcher.add(tile, labels)
    return stitcher


def _joined(
    tiles: list[Tile], found: list[np.ndarray], shape: tuple[int, ...], order: list[int]
) -> np.ndarray:
    joiner = Joiner(tiles)
    labels = np.full(shape, -1, np.int64)
    for at in order:
        labels[tiles[at].write] = joiner.add(at, found[at])
    table = joiner.table()
    joined = np.asarray(table[labels])
    assert np.array_equal(np.unique(joined[joined > 0]), np.arange(1, table.max() + 1))
    return joined


@given(labels=ellipses(most=9), data=st.data())
@settings(deadline=None, max_examples=40)
def test_tiles_join_to_the_whole(labels: np.ndarray, data: st.DataObject) -> None:
    tile = data.draw(st.tuples(st.integers(9, 50), st.integers(9, 50)))
    tiles = tile_grid(labels.shape, tile, (LARGEST + 1,) * 2, (1, 1))
    found = [labels[tile.read] for tile in tiles]
    stitcher = _stitched(tiles, found, labels.shape)
    assert same_objects(stitcher.labels, labels)
    assert stitcher.count == len(np.unique(labels[labels > 0]))
    order = data.draw(st.permutations(range(len(tiles))))
    assert same_objects(_joined(tiles, found, labels.shape, order), labels)


@given(labels=ellipses(dimensions=3, most=4))
@settings(deadline=None, max_examples=10)
def test_blocks_of_volumes_join_to_the_whole(labels: np.ndarray) -> None:
    tiles = tile_grid(labels.shape, (12, 13, 14), (17,) * 3, (1,) * 3)
    found = [labels[tile.read] for tile in tiles]
    assert same_objects(_stitched(tiles, found, labels.shape).labels, labels)
    assert same_objects(_joined(tiles, found, labels.shape, list(range(len(tiles)))), labels)


@pytest.mark.parametrize("name", HEADS)
def test_decoding_tiles_equals_decoding_the_whole(name: str) -> None:
    labels = blobs(150, 40, 1)
    head = build_head(name)
    maps = head.ideal(head.encode(labels))
    whole = head.decode(maps)
    tiles = tile_grid(labels.shape, (50, 50), (28, 28), (1, 1))
    found = [head.decode(maps[(slice(None), *tile.read)]) for tile in tiles]
    assert same_objects(_stitched(tiles, found, labels.shape).labels, whole)
    assert same_objects(_joined(tiles, found, labels.shape, list(range(len(tiles)))), whole)


def test_what_is_longer_than_the_halo_is_counted_or_joined() -> None:
    labels = np.zeros((20, 120), np.uint8)
    labels[5:15, 5:115] = 1
    tiles = tile_grid(labels.shape, (20, 30), (4, 6), (1, 1))
    found = [labels[tile.read] for tile in tiles]
    assert _stitched(tiles, found, labels.shape).cut > 0
    assert same_objects(_joined(tiles, found, labels.shape, list(range(len(tiles)))), labels)
    short = ellipse((20, 120), (10, 30), (4, 5)).astype(np.uint8)
    tiles = tile_grid(labels.shape, (20, 30), (12, 12), (1, 1))
    assert _stitched(tiles, [short[tile.read] for tile in tiles], short.shape).cut == 0


@given(labels=ellipses(most=3), other=ellipses(most=3))
@settings(deadline=None, max_examples=20)
def test_overlaps_are_those_of_a_loop_over_pairs(labels: np.ndarray, other: np.ndarray) -> None:
    rows, columns = map(min, labels.shape, other.shape)
    first, second = labels[:rows, :columns], other[:rows, :columns]
    pairs = overlaps(first, second)
    found = dict(zip(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True), pairs.iou, strict=True))
    expected = {}
    for a in np.unique(first[first > 0]).tolist():
        for b in np.unique(second[second > 0]).tolist():
            common = ((first == a) & (second == b)).sum()
            if common:
                expected[a, b] = common / ((first == a) | (second == b)).sum()
    assert found == pytest.approx(expected)


@given(labels=ellipses(dimensions=3, most=3, whole=True), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_slices_are_linked_whatever_their_numbers(labels: np.ndarray, seed: int) -> None:
    random = np.random.default_rng(seed)
    shuffled = np.stack([np.r_[0, random.permutation(2000) + 1][plane] for plane in labels])
    linked = link_planes(labels)
    assert np.array_equal(linked > 0, labels > 0)
    assert same_objects(link_planes(shuffled), linked)


def test_a_column_is_one_object_and_a_jump_begins_another() -> None:
    labels = np.zeros((6, 30, 30), np.uint16)
    for plane in range(6):
        labels[plane, 2:12, 2:12] = plane + 1
        labels[plane, 15:25, (3 if plane < 3 else 18) : (13 if plane < 3 else 28)] = 40 - plane
    labels[2, :, 29] = 500
    linked = link_planes(labels.astype(np.int32))
    assert len(np.unique(linked[:, 5, 5])) == 1
    assert len(np.unique(linked[linked > 0])) == 4
    assert len(np.unique(linked[:3, 20, 5])) == len(np.unique(linked[3:, 20, 25])) == 1


def test_an_object_that_divides_goes_on_in_the_better_half() -> None:
    labels = np.zeros((2, 10, 20), np.int16)
    labels[0, :, 1:19], labels[1, :, 1:12], labels[1, :, 12:19] = 1, 1, 2
    labels[0, 0, 0] = -1
    linked = link_planes(labels)
    assert linked[1, 5, 5] == linked[0, 5, 5] != linked[1, 5, 15]
    assert linked[0, 0, 0] == -1
    with pytest.raises(ConfigError, match="iou"):
        link_planes(labels, 2)
