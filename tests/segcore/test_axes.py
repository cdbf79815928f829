"""Axis names."""

import pytest

from segcore.axes import canonical_axes, parse_axes, sizes_text
from segcore.errors import DataError


@pytest.mark.parametrize(
    ("axes", "shape", "complaint"),
    [
        ("ZYQ", (3, 4, 5), "Q is not one of"),
        ("ZZYX", (3, 3, 4, 5), "only once"),
        ("ZCX", (3, 4, 5), "must be among them"),
        ("ZYX", (4, 5), "name 3 axes, but the image has 2: 4 × 5"),
    ],
)
def test_wrong_axes_are_refused_with_the_rule_and_a_remedy(axes, shape, complaint):
    with pytest.raises(DataError) as caught:
        parse_axes(axes, shape)
    assert complaint in caught.value.message
    assert "ZYX" in caught.value.remedy


def test_case_and_spaces_do_not_matter():
    assert parse_axes(" tzyx", (1, 2, 3, 4)) == "TZYX"


@pytest.mark.parametrize(
    ("letters", "canonical", "notes"),
    [
        ("ZYX", "ZYX", 0),
        ("QYX", "ZYX", 1),
        ("IYX", "ZYX", 1),
        ("QQYX", "TZYX", 2),
        ("ZQYX", "ZTYX", 1),
        ("YXS", "YXC", 1),
        ("SYX", "CYX", 1),
        ("IYXS", "ZYXC", 2),
    ],
)
def test_letters_of_formats_become_ours_and_every_assumption_is_noted(letters, canonical, notes):
    axes, told = canonical_axes(letters, (2, 3, 4, 5)[: len(letters)])
    assert axes == canonical
    assert len(told) == notes


def test_axes_that_cannot_be_told_apart_are_refused():
    with pytest.raises(DataError, match="not named"):
        canonical_axes("QQQYX", (2, 3, 4, 5, 6))


def test_sizes_are_written_for_people():
    assert sizes_text((30, 512, 512), "ZYX") == "30 × 512 × 512, ZYX"
