"""Polygons and runs cover what their rule says, in whatever part of the plane they are looked at."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from segcore.data import outlines
from segcore.data.coco_outlines import outline
from segcore.data.outlines import Polygons, Runs

SIDE = 40
PLANE = (0, SIDE)
coordinates = st.floats(-10, SIDE + 10, allow_nan=False, width=32)
corners = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=12)

patiently = settings(deadline=None, max_examples=60)


@st.composite
def stars(draw: st.DrawFn) -> np.ndarray:
    """Draw a polygon around the middle of the plane that does not cross itself and lies within the plane."""
    count = draw(st.integers(3, 16))
    radii = draw(st.lists(st.floats(3, 19), min_size=count, max_size=count))
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False) + draw(st.floats(0, 1))
    return SIDE / 2 + np.stack([radii * np.sin(angles), radii * np.cos(angles)], 1)


@st.composite
def windows(draw: st.DrawFn) -> tuple[int, int]:
    start = draw(st.integers(0, SIDE))
    return start, draw(st.integers(start, SIDE))


def polygons(*parts: tuple[object, ...]) -> Polygons:
    return Polygons(tuple(tuple(np.array(ring, float) for ring in part) for part in parts))


def covered(shape: Polygons | Runs) -> np.ndarray:
    return shape.covers(PLANE, PLANE)


def length(ring: np.ndarray) -> float:
    return float(np.hypot(*(np.roll(ring, -1, 0) - ring).T).sum())


@patiently
@given(stars())
def test_the_pixels_covered_are_the_area_within_rounding_at_the_border(ring: np.ndarray) -> None:
    shape = polygons((ring,))
    assert abs(covered(shape).sum() - shape.area) <= length(ring)


@patiently
@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 20), st.integers(1, 20))
def test_a_rectangle_of_whole_numbers_covers_its_pixels(top: int, left: int, height: int, width: int) -> None:
    ring = [(top, left), (top + height, left), (top + height, left + width), (top, left + width)]
    expected = np.zeros((SIDE, SIDE), bool)
    expected[top : top + height, left : left + width] = True
    assert np.array_equal(covered(polygons((ring,))), expected)


@patiently
@given(stars())
def test_a_pixel_is_covered_if_its_centre_lies_inside(ring: np.ndarray) -> None:
    inside = covered(polygons((ring,)))
    for row, column in itertools.product(range(0, SIDE, 3), repeat=2):
        starts, ends = ring, np.roll(ring, -1, 0)
        y, x = row + 0.5, column + 0.5
        crosses = (starts[:, 0] <= y) != (ends[:, 0] <= y)
        with np.errstate(divide="ignore", invalid="ignore"):
            at = starts[:, 1] + (y - starts[:, 0]) * (ends - starts)[:, 1] / (ends - starts)[:, 0]
        if np.abs(at[crosses] - x).min(initial=1) > 1e-6:
            assert inside[row, column] == (np.count_nonzero(at[crosses] < x) % 2 == 1)


@patiently
@given(corners, windows(), windows())
def test_a_part_of_the_plane_shows_that_part_of_the_polygon(
    ring: list[tuple[float, float]], rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    shape = polygons((ring,))
    assert np.array_equal(shape.covers(rows, columns), covered(shape)[slice(*rows), slice(*columns)])


@pytest.mark.parametrize("at_once", [1, 7, 300])
def test_pieces_of_the_work_are_not_seen(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    polygon = polygons((rng.uniform(-5, SIDE + 5, (30, 2)),))
    ends = np.sort(rng.choice(SIDE * SIDE, 40, replace=False))
    runs = Runs(ends[0::2], ends[1::2], SIDE)
    expected = [covered(polygon), covered(runs)]
    monkeypatch.setattr(outlines, "_AT_ONCE", at_once)
    assert np.array_equal([covered(polygon), covered(runs)], expected)


@patiently
@given(corners)
def test_nothing_is_covered_outside_the_box(ring: list[tuple[float, float]]) -> None:
    shape = polygons((ring,))
    outside = covered(shape)
    rows, columns = shape.box.rows, shape.box.columns
    outside[max(rows[0], 0) : max(rows[1], 0), max(columns[0], 0) : max(columns[1], 0)] = False
    assert not outside.any()


@patiently
@given(stars(), st.floats(0.2, 0.8))
def test_polygons_with_a_common_edge_share_no_pixel_and_leave_none(ring: np.ndarray, share: float) -> None:
    middle = np.array([SIDE / 2, SIDE / 2]) * [share, 1]
    parts = [polygons(([ring[at], ring[(at + 1) % len(ring)], middle],)) for at in range(len(ring))]
    odd = np.logical_xor.reduce([covered(part) for part in parts])
    assert np.array_equal(odd, covered(polygons((ring,))))


@patiently
@given(stars())
def test_a_hole_is_left_out(ring: np.ndarray) -> None:
    hole = SIDE / 2 + (ring - SIDE / 2) * 0.5
    with_hole = covered(polygons((ring, hole)))
    assert np.array_equal(with_hole, covered(polygons((ring,))) & ~covered(polygons((hole,))))


@patiently
@given(stars(), stars())
def test_parts_are_joined_even_where_they_overlap(one: np.ndarray, other: np.ndarray) -> None:
    both = covered(polygons((one,), (other,)))
    assert np.array_equal(both, covered(polygons((one,))) | covered(polygons((other,))))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@patiently
@given(stars())
def test_polygons_cover_what_the_coco_tools_draw_but_for_the_border(ring: np.ndarray) -> None:
    runs = coco_mask.frPyObjects([ring[:, ::-1].ravel().tolist()], SIDE, SIDE)
    expected = coco_mask.decode(coco_mask.merge(runs)).astype(bool)
    differing = np.argwhere(covered(polygons((ring,))) != expected) + 0.5
    starts, steps = ring, np.roll(ring, -1, 0) - ring
    for point in differing:
        along = ((point - starts) * steps).sum(1) / (steps**2).sum(1)
        nearest = starts + along.clip(0, 1)[:, None] * steps
        assert np.hypot(*(point - nearest).T).min() < 1.1


@patiently
@given(st.integers(0, 2**32), st.floats(0, 1), windows(), windows())
def test_runs_cover_what_the_coco_tools_encoded(
    seed: int, share: float, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    pixels = np.random.default_rng(seed).random((SIDE, SIDE)) < share
    encoded = coco_mask.encode(np.asfortranarray(pixels, np.uint8))
    shape = outline({"size": [SIDE, SIDE], "counts": encoded["counts"].decode()}, SIDE, SIDE)
    assert np.array_equal(shape.covers(rows, columns), pixels[slice(*rows), slice(*columns)])
    assert shape.area == pixels.sum()
