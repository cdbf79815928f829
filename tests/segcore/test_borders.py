"""Border weights: narrow gaps weigh most, far pixels nothing, and what nobody annotated makes no border."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segcore.borders import border_weights
from segcore.tiling import IGNORE


def gap(width: int, turn: bool = False) -> torch.Tensor:
    """Return two objects with `width` px of ground between them."""
    target = torch.ones(40, 60, dtype=torch.long)
    target[:, 20 : 20 + width] = 0
    return target.T.contiguous() if turn else target


@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("width", [1, 2, 5, 9, 14])
def test_a_straight_gap_has_the_weight_of_the_u_net(width: int, turn: bool) -> None:
    weights = border_weights(gap(width, turn))
    inside = weights[20 : 20 + width, 20] if turn else weights[20, 20 : 20 + width]
    # From a pixel of the gap to the nearest and the second nearest object: together one more than its width.
    expected = 1 + 10 * math.exp(-((width + 1) ** 2) / 50)
    assert inside.tolist() == pytest.approx([expected] * width, rel=1e-5)


def test_away_from_borders_and_beside_the_edge_of_a_patch_pixels_count_once() -> None:
    assert (border_weights(torch.zeros(30, 30, dtype=torch.long)) == 1).all()
    half = torch.zeros(30, 30, dtype=torch.long)
    half[:, 15:] = 1
    assert (border_weights(half) == 1).all()


@given(seed=st.integers(0, 1000), turns=st.integers(0, 3), flip=st.booleans())
@settings(deadline=None, max_examples=25)
def test_weights_turn_and_flip_with_the_labels(seed: int, turns: int, flip: bool) -> None:
    target = (torch.rand(24, 24, generator=torch.Generator().manual_seed(seed)) > 0.9).long()

    def moved(plane: torch.Tensor) -> torch.Tensor:
        return torch.rot90(plane.flip(0) if flip else plane, turns)

    torch.testing.assert_close(border_weights(moved(target)), moved(border_weights(target)))


def test_what_nobody_annotated_makes_no_border() -> None:
    target = torch.zeros(30, 30, dtype=torch.long)
    target[:, 10], target[:, 14] = IGNORE, IGNORE
    assert (border_weights(target)[target >= 0] == 1).all()


def test_slices_are_looked_at_one_by_one() -> None:
    slices = [gap(3), gap(7), torch.zeros(40, 60, dtype=torch.long)]
    together = border_weights(torch.stack(slices)[None])
    for number, plane in enumerate(slices):
        assert torch.equal(together[0, number], border_weights(plane))
