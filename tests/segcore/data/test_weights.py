"""Class weights keep the size of the loss and give rare classes their due."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segcore.data.weights import KINDS, class_weights, pixels_beside
from segcore.errors import ConfigError

PIXELS = st.dictionaries(st.integers(-5, 300), st.integers(0, 10**9), min_size=1, max_size=8)


@given(PIXELS, st.sampled_from(KINDS[:-1]))
def test_the_mean_over_all_pixels_is_one(pixels: dict[int, int], kind: str) -> None:
    weights = class_weights(pixels, kind)
    total = sum(pixels.values())
    assert list(weights) == list(pixels)
    if total:
        assert sum(weights[value] * count for value, count in pixels.items()) / total == pytest.approx(1)


@given(PIXELS, st.sampled_from(("inverse", "square-root", "median-frequency")))
def test_a_rarer_class_never_weighs_less(pixels: dict[int, int], kind: str) -> None:
    weights = class_weights(pixels, kind)
    order = sorted((count, -weights[value]) for value, count in pixels.items() if count)
    assert [weight for _, weight in order] == sorted(weight for _, weight in order)


@given(PIXELS)
def test_square_roots_lie_between_none_and_inverse(pixels: dict[int, int]) -> None:
    shares = [count for count in pixels.values() if count]
    if len(shares) < 2:
        return

    def spread(kind: str) -> float:
        found = [weight for value, weight in class_weights(pixels, kind).items() if pixels[value]]
        return max(found) / min(found)

    assert spread("square-root") >= 1 - 1e-9
    assert spread("square-root") ** 2 == pytest.approx(spread("inverse"))


def test_median_frequency_looks_at_the_images_that_show_a_class() -> None:
    rows = [{0: 50, 1: 50}, {0: 100}, {0: 100}]
    pixels = {0: 250, 1: 50}
    beside = pixels_beside(rows)
    assert beside == {0: 300, 1: 100}
    weights = class_weights(pixels, "median-frequency", beside=beside)
    assert weights[1] / weights[0] == pytest.approx((250 / 300) / (50 / 100))
    assert class_weights(pixels, "inverse")[1] / class_weights(pixels, "inverse")[0] == pytest.approx(5)


def test_weights_by_hand_are_taken_as_they_are() -> None:
    assert class_weights({0: 10, 255: 1}, "by-hand", [1, 8]) == {0: 1.0, 255: 8.0}


@pytest.mark.parametrize("values", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, float("nan")]])
def test_weights_by_hand_that_do_not_fit_are_refused(values: list[float]) -> None:
    with pytest.raises(ConfigError, match="class_weight_values") as caught:
        class_weights({0: 10, 255: 1}, "by-hand", values)
    assert caught.value.remedy
