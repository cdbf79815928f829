"""Histograms: nothing is lost, hot pixels do no harm, the distance is one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from segcore.card import Histogram
from segcore.data.histograms import DIFFERENT, difference, histogram_of, mixed, rescaled

histograms = st.builds(
    lambda low, width, counts: Histogram(low=low, high=low + width, counts=tuple(counts)),
    st.floats(-100, 100),
    st.floats(0.1, 100),
    st.lists(st.integers(0, 1000), min_size=1, max_size=20).filter(any),
)


@given(plane=arrays.arrays(st.sampled_from([np.uint8, np.uint16, np.int16]), (2, 9, 7)))
def test_every_value_is_counted_once_in_a_bin_of_whole_width(plane: np.ndarray) -> None:
    for histogram, channel in zip(histogram_of([plane]), plane, strict=True):
        assert sum(histogram.counts) == channel.size
        assert (histogram.high - histogram.low) % len(histogram.counts) == 0
        assert histogram.low < np.median(channel) < histogram.high


def test_what_is_not_finite_is_left_out_and_a_hot_pixel_keeps_the_bins_narrow() -> None:
    values = np.random.default_rng(0).normal(100, 10, (1, 100, 100)).astype(np.float32)
    values[0, 0, :3] = np.nan, np.inf, 1e9
    (histogram,) = histogram_of([values])
    assert sum(histogram.counts) == 9998
    assert histogram.high < 150


def test_the_planes_count_alike_however_many() -> None:
    random = np.random.default_rng(0)
    planes = [random.integers(0, 200, (1, 300, 300)).astype(np.uint8) for _ in range(70)]
    (few,), (many,) = histogram_of(planes[:5]), histogram_of(planes)
    assert difference(many, few) < 0.02


@given(first=histograms, second=histograms)
def test_the_difference_is_zero_for_the_same_and_only_for_it(first: Histogram, second: Histogram) -> None:
    assert difference(first, first) == pytest.approx(0, abs=1e-9)
    assert difference(first, second) >= 0


@given(histogram=histograms, shift=st.floats(1, 1000), scale=st.floats(0.1, 10))
def test_a_shift_moves_everything_by_so_much(histogram: Histogram, shift: float, scale: float) -> None:
    shifted = rescaled(histogram, -shift, 1.0)
    both = [rescaled(one, 3.0, scale) for one in (shifted, histogram)]
    assert difference(shifted, histogram) > 0
    assert difference(*both) == pytest.approx(difference(shifted, histogram), rel=1e-3)


def test_another_exposure_is_noticed_and_another_field_of_view_is_not() -> None:
    random = np.random.default_rng(1)
    cells = [random.normal(100 + 80 * (random.random((1, 80, 80)) < share), 15) for share in (0.3, 0.35)]
    trained, other = (histogram_of([cell.clip(0, 255).astype(np.uint8)])[0] for cell in cells)
    (bright,) = histogram_of([(cells[0] * 1.4).clip(0, 255).astype(np.uint8)])
    assert difference(other, trained) < DIFFERENT < difference(bright, trained)


def test_a_constant_or_empty_channel_gives_a_histogram_too() -> None:
    constant, empty = histogram_of([np.stack([np.full((4, 4), 7.0), np.full((4, 4), np.nan)])])
    assert sum(constant.counts) == 16
    assert sum(empty.counts) == 0
    assert difference(empty, constant) >= 0
    assert histogram_of([]) == ()


def _of_many(histogram: Histogram) -> Histogram:
    """Return one of so many values that counting them in other bins rounds nothing off that matters."""
    return histogram.model_copy(update={"counts": tuple(1000 * count for count in histogram.counts)})


@given(several=st.lists(histograms.map(_of_many), min_size=1, max_size=4))
def test_a_mixture_holds_all_values_and_lies_between(several: list[Histogram]) -> None:
    both = mixed(several)
    assert sum(both.counts) == sum(sum(histogram.counts) for histogram in several)
    if len(several) == 1:
        assert difference(both, several[0]) < 0.1
