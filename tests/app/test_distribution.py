"""Distribution: charts of grey values share their axis, keep the shares, and never leave their frame."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from app.distribution import HEIGHT, WIDTH, Curve, channels_html, chart_html, limits, normalizations_html
from segcore.card import Histogram

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False)


@st.composite
def histograms(draw: st.DrawFn) -> Histogram:
    low = draw(NUMBERS)
    counts = draw(st.lists(st.integers(0, 10**9), max_size=300))
    return Histogram(low=low, high=low + draw(st.floats(1e-3, 1e6)), counts=tuple(counts))


@settings(deadline=None, max_examples=60)
@given(found=st.lists(histograms(), min_size=1, max_size=3))
def test_every_point_of_a_chart_lies_in_its_frame(found: list[Histogram]) -> None:
    low, high = limits(found)
    assert low < high
    html = chart_html("a", [Curve(one, "b", filled=at % 2 == 0) for at, one in enumerate(found)])
    for text in re.findall(r'points="([^"]+)"', html):
        for point in text.split():
            x, y = map(float, point.split(","))
            assert -0.1 <= x <= WIDTH + 0.1
            assert -0.1 <= y <= HEIGHT + 0.1


def test_a_few_hot_pixels_do_not_press_all_others_together() -> None:
    counts = [0] * 1000
    counts[2], counts[3], counts[999] = 10**6, 10**6, 3
    low, high = limits([Histogram(low=0, high=1000, counts=tuple(counts))])
    assert (low, high) == (2, 4)


def test_names_are_text_and_both_sets_are_told_apart() -> None:
    one = Histogram(low=0, high=4, counts=(1, 2, 3, 4))
    html = channels_html([one, one], ["<b>DNA", "actin"], [one, one])
    assert "<b>DNA" not in html
    assert html.count("<polygon") == html.count("<polyline") == 2
    assert "these images" in html
    assert channels_html([]) == ""


def test_only_the_normalisation_in_use_is_marked() -> None:
    one = Histogram(low=0, high=4, counts=(1, 2, 3, 4))
    html = normalizations_html({"percentile": [one], "none": [one]}, "none")
    assert html.count('aria-current="true"') == 1
    assert "none ✓" in html
