"""Objects get few values, by which those that touch can be told apart."""

from __future__ import annotations

import numpy as np
from drawn_objects import blobs
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segcore.data.colouring import COLOURS, coloured


@settings(deadline=None, max_examples=60)
@given(arrays(np.int32, (7, 9), elements=st.sampled_from([-1, 0, 3, 4, 900_000])))
def test_a_value_says_what_is_object_and_is_one_for_each(labels_YX: np.ndarray) -> None:
    values_YX = coloured(labels_YX)
    assert np.array_equal(np.minimum(values_YX, 1), np.minimum(labels_YX, 1))
    assert values_YX.max(initial=0) <= COLOURS
    for number in np.unique(labels_YX[labels_YX > 0]):
        assert len(np.unique(values_YX[labels_YX == number])) == 1


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 99))
def test_objects_that_touch_differ(seed: int) -> None:
    labels_YX = blobs(80, 40, seed)
    values_YX = coloured(labels_YX)
    for axis in (0, 1):
        ahead, behind = (np.take(labels_YX, range(*bounds), axis).ravel() for bounds in ((1, 80), (0, 79)))
        one, other = (np.take(values_YX, range(*bounds), axis).ravel() for bounds in ((1, 80), (0, 79)))
        touch = (ahead != behind) & (ahead > 0) & (behind > 0)
        assert (one[touch] != other[touch]).all()


def test_numbers_make_no_difference_to_the_value_of_a_place() -> None:
    labels_YX = np.zeros((60, 60), np.int32)
    labels_YX[5:15, 5:15], labels_YX[30:40, 20:30], labels_YX[48:58, 48:58] = 1, 2, 3
    others_YX = np.array([0, 77, 4, 12])[labels_YX]
    assert np.array_equal(coloured(labels_YX), coloured(others_YX))
