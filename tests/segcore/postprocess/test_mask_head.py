"""The head of networks that answer whole objects: numbers stay, tiles are joined, nothing is averaged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn_objects import blobs, ellipses, same_objects
from hypothesis import given, settings
from hypothesis import strategies as st

from segcore.errors import ConfigError
from segcore.postprocess.heads import build_head, describe_head
from segcore.postprocess.masks import MaskDecoding, MaskHead, joined
from segcore.tiling import IGNORE, Tile, tile_grid


@settings(max_examples=30, deadline=None)
@given(ellipses())
def test_what_is_answered_without_a_fault_is_the_labels(labels: np.ndarray) -> None:
    head = MaskHead()
    unknown = labels.copy()
    unknown[:5] = IGNORE
    target = head.encode(unknown)
    assert target.shape == (head.channels, *labels.shape)
    assert (target[0, :5] == IGNORE).all()
    found = head.decode(head.ideal(target))
    assert found.dtype == np.int32
    assert same_objects(found, np.maximum(unknown, 0))
    assert found.max() == len(np.unique(found[found > 0]))


def test_small_objects_can_be_left_out_and_holes_stay() -> None:
    maps = np.zeros((1, 9, 9), np.float32)
    maps[0, :5, :5] = 7
    maps[0, 2, 2] = 0
    maps[0, 8, 8] = 3
    assert MaskHead().decode(maps).max() == 2
    found = MaskHead().decode(maps, MaskDecoding(least=2))
    assert np.array_equal(found, (maps[0] == 7).astype(np.int32))
    with pytest.raises(ConfigError, match="least"):
        MaskDecoding(least=0)


def test_the_loss_is_one_less_the_dice_of_what_is_annotated() -> None:
    head = MaskHead()
    target = torch.tensor([[[[1.0, 1, 0, 0, IGNORE]]]])
    output = torch.tensor([[[[4.0, 0, 9, 0, 5]]]])
    assert head.loss(output, target) == pytest.approx(1 - 2 * 1 / (2 + 2))
    assert head.loss(target.clamp(min=0), target) == 0
    assert head.loss(torch.zeros_like(target), torch.zeros_like(target)) == 0


def test_a_reversed_image_is_refused_with_a_remedy() -> None:
    with pytest.raises(ConfigError, match=r"inference\.flips"):
        MaskHead().flip(np.zeros((1, 4, 4), np.float32), 0)


@pytest.mark.parametrize("name", ["masks", "panoptic"])
def test_cards_describe_it(name: str) -> None:
    from segcore.card import PixelSize

    described = describe_head(name, False, PixelSize(), 20.0)
    assert (described.maps, described.fields, described.sides) == (1, {}, (20.0, 20.0))
    assert build_head(name, 2) == MaskHead()
    with pytest.raises(ConfigError, match="dimensions"):
        build_head(name, 3)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 100), side=st.sampled_from([32, 64]))
def test_objects_that_two_tiles_see_are_one(seed: int, side: int) -> None:
    labels = blobs(130, 25, seed)
    draw = np.random.default_rng(seed)
    tiles = tile_grid(labels.shape, (side, side), (24, 24), (8, 8))
    assert len(tiles) > 1
    seen: list[int] = []

    def found(number: int, tile: Tile) -> torch.Tensor:
        part = labels[tile.read]
        names = 1 + draw.permutation(labels.max() + 1)  # every tile numbers them in its own way
        seen.append(number)
        return torch.from_numpy(np.where(part > 0, names[part], 0).astype(np.float32))[None]

    numbers = joined(tiles, found)
    assert seen == list(range(1, len(tiles) + 1))
    assert numbers.shape == (1, *labels.shape)
    assert same_objects(numbers[0].numpy().astype(np.int64), labels)
