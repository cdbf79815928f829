"""Targets and decoding against slow, direct forms of what the papers say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn_objects import blobs, ellipse, ellipses, same_objects
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.morphology import h_maxima as skimage_h_maxima

from segcore.postprocess.boundary import EDGE, h_maxima
from segcore.postprocess.flows import FlowDecoding, FlowHead
from segcore.postprocess.following import flow_errors, follow
from segcore.postprocess.heads import build_head
from segcore.postprocess.heat import flows_of
from segcore.postprocess.objects import clean, depths, numbered
from segcore.postprocess.rays import build_rays, ray_lengths
from segcore.postprocess.suppression import Candidates, draw, suppress


def _walked(labels: np.ndarray, start: tuple[int, ...], vector: np.ndarray) -> float:
    """Walk as StarDist does: px by px along the ray until the label is another one."""
    step, place = 0, np.array(start, float)
    while True:
        place = place + vector
        step += 1
        at = tuple(np.floor(place + 0.5).astype(int))
        outside = any(not 0 <= index < size for index, size in zip(at, labels.shape, strict=True))
        if outside or labels[at] != labels[start]:
            return step - 0.5


@pytest.mark.parametrize("dimensions", [2, 3])
def test_rays_are_as_long_as_a_walk_along_them(dimensions: int) -> None:
    """Equal but for the px by which a digital line may lie beside the ray; on average they are the same."""
    labels = ellipse((29, 33, 37)[-dimensions:], (13, 16, 17)[-dimensions:], (9, 12, 11)[-dimensions:])
    numbers = labels.astype(np.int32)
    rays = build_rays(32, dimensions)
    lengths = ray_lengths(numbers, rays)
    differences = []
    for start in list(zip(*np.nonzero(labels), strict=True))[:: 7 if dimensions == 2 else 151]:
        for at, vector in enumerate(rays.vectors):
            step = vector / np.abs(vector).max()
            walked = _walked(numbers, start, step) / np.abs(vector).max()
            differences.append(lengths[(at, *start)] - walked)
    assert np.abs(np.mean(differences)) < 0.1
    assert np.quantile(np.abs(differences), 0.98) < 2.5
    assert (lengths[:, ~labels] == 0).all()


def test_rays_along_the_axes_are_exact() -> None:
    labels = np.zeros((20, 30), np.int32)
    labels[4:15, 6:22] = 1
    right, down, left, up = ray_lengths(labels, build_rays(4, 2))[:, 8, 10]
    assert (right, down, left, up) == pytest.approx((11.5, 6.5, 4.5, 4.5))


@given(count=st.integers(12, 200), dimensions=st.sampled_from([2, 3]), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=15)
def test_a_shape_holds_what_its_size_says(count: int, dimensions: int, seed: int) -> None:
    rays = build_rays(count, dimensions)
    random = np.random.default_rng(seed)
    lengths = 10 + random.uniform(-1, 1, count)
    points = random.uniform(-11, 11, (40_000, dimensions)).astype(np.float32)
    inside = rays.contains(lengths, points)
    assert inside.mean() * 22**dimensions == pytest.approx(rays.sizes(lengths), rel=0.06)
    distance = np.linalg.norm(points, axis=1)
    assert inside[distance < 6].all()
    assert not inside[distance > 11].any()


def test_of_equal_shapes_the_likelier_stays() -> None:
    rays = build_rays(32, 2)
    centres = np.array([[20, 20], [21, 20], [20, 38], [60, 60]])
    kept = suppress(Candidates(centres, np.full((4, 32), 10.0), np.array([0.6, 0.9, 0.7, 0.5])), rays, 0.4)
    assert kept.centres.tolist() == [[21, 20], [20, 38], [60, 60]]
    assert kept.certainties.tolist() == [0.9, 0.7, 0.5]
    labels = draw(kept, rays, (64, 64))
    assert labels[21, 20] == 1
    assert labels.max() == 3


def test_overlap_decides_what_stays() -> None:
    """Two discs of radius 10 whose centres are 8 px apart have half of their area in common."""
    rays = build_rays(64, 2)
    shapes = Candidates(np.array([[20, 20], [20, 28]]), np.full((2, 64), 10.0), np.array([0.9, 0.8]))
    assert len(suppress(shapes, rays, 0.55).centres) == 2
    assert len(suppress(shapes, rays, 0.45).centres) == 1


def _heated(mask: np.ndarray) -> np.ndarray:
    """Return the flow of one object as Cellpose's `masks_to_flows` computes it, pixel by pixel."""
    places = np.nonzero(mask)
    far = sum((place - np.median(place)) ** 2 for place in places)
    sources = [tuple(place[at] for place in places) for at in np.flatnonzero(far == far.min())]
    heat = np.zeros(mask.shape)
    kernel = np.ones((3,) * mask.ndim)
    if mask.ndim == 3:
        kernel = ndimage.generate_binary_structure(3, 1).astype(float)
    for _ in range(4 * sum(mask.shape)):
        for source in sources:
            heat[source] += 1
        heat = ndimage.convolve(heat, kernel / kernel.sum(), mode="constant") * mask
    heat = np.log1p(heat)
    flow = np.stack(
        [ndimage.correlate1d(heat, [-1, 0, 1], axis, mode="constant") for axis in range(mask.ndim)]
    )
    flow *= mask
    return flow / (1e-60 + np.sqrt((flow**2).sum(0)))


@pytest.mark.parametrize("dimensions", [2, 3])
def test_flows_are_those_of_the_heat_of_one_object(dimensions: int) -> None:
    """More rounds turn the flows by a few degrees at most: how many there are does not matter."""
    shape = (15, 27, 31)[-dimensions:]
    first = ellipse(shape, (6, 11, 10)[-dimensions:], (5, 8, 6)[-dimensions:])
    second = ellipse(shape, (8, 12, 23)[-dimensions:], (6, 9, 6)[-dimensions:]) & ~first
    flow = flows_of(first.astype(np.int32) + 2 * second)
    for mask in (first, second):
        cosine = (flow * _heated(mask)).sum(0)[mask]
        assert np.quantile(cosine, 0.02) > 0.98
        assert (cosine > 0.98).sum() >= mask.sum() - 4  # but at the middle, where the slope is 0
    assert (flow[:, ~(first | second)] == 0).all()


@given(labels=ellipses())
@settings(deadline=None, max_examples=10)
def test_flows_have_length_one_and_do_not_know_other_objects(labels: np.ndarray) -> None:
    numbers, count = numbered(labels)
    flow = flows_of(numbers)
    length = np.sqrt((flow**2).sum(0))
    assert ((np.abs(length - 1) < 1e-5) | (length == 0)).all()
    assert (length[numbers == 0] == 0).all()
    for number in range(1, count + 1):
        alone = flows_of((numbers == number).astype(np.int32))
        np.testing.assert_allclose(alone[:, numbers == number], flow[:, numbers == number], atol=1e-5)


def test_doubled_steps_end_where_single_steps_end() -> None:
    numbers = blobs(120, 20, 3, (6, 16))
    flow, inside = flows_of(numbers), numbers > 0
    starts = np.stack(np.nonzero(inside), -1).astype(np.float64)
    places = starts.copy()
    for _ in range(160):
        step = [ndimage.map_coordinates(part, places.T, order=1, mode="nearest") for part in flow * inside]
        places = np.clip(places + np.stack(step, -1), 0, np.array(inside.shape) - 1)
    ends = follow(flow, inside, 160)
    apart = np.sqrt(((ends - places) ** 2).sum(1))
    assert np.quantile(apart, 0.99) < 1.5


def test_what_does_not_flow_to_its_middle_is_dropped() -> None:
    labels = np.zeros((50, 100), np.int32)
    labels[10:40, 10:40], labels[10:40, 60:90] = 1, 2
    head = FlowHead()
    maps = head.encode(labels)
    maps[1:, :, 50:] = maps[1:, :, 50:][::-1]  # turned by a right angle, so to no middle
    maps[1, :, 50:] *= -1
    errors = flow_errors(labels, maps[1:], flows_of(labels))
    assert errors[1] == pytest.approx(0, abs=1e-6)
    assert errors[2] > 0.4
    found = head.decode(maps, FlowDecoding(error=0.4))
    assert found[:, :50].max() == 1
    assert (found[:, 50:] == 0).all()


def test_losses_are_those_of_the_papers() -> None:
    labels = blobs(48, 4, 5)
    random = torch.Generator().manual_seed(0)
    bce, mse = torch.nn.BCEWithLogitsLoss(), torch.nn.MSELoss()
    flows = build_head("flows")
    target = torch.from_numpy(flows.encode(labels))[None]
    output = torch.randn((1, 3, 48, 48), generator=random)
    expected = mse(output[:, 1:], 5 * target[:, 1:]) / 2 + bce(output[:, 0], target[:, 0])
    assert flows.loss(output, target).item() == pytest.approx(expected.item(), rel=1e-5)

    stars = build_head("stars")
    target = torch.from_numpy(stars.encode(labels))[None]
    output = torch.randn((1, 33, 48, 48), generator=random)
    depth, error = target[:, 0], (output[:, 1:] - target[:, 1:]).abs().mean(1)
    outside = output[:, 1:].abs().mean(1)[depth == 0].mean()
    distance = (depth * error).sum() / depth.sum() + 1e-4 * outside
    expected = bce(output[:, 0], depth) + 0.2 * distance
    assert stars.loss(output, target).item() == pytest.approx(expected.item(), rel=1e-5)

    boundary = build_head("boundary")
    target = torch.from_numpy(boundary.encode(labels))[None]
    output = torch.randn((1, 4, 48, 48), generator=random)
    expected = torch.nn.functional.cross_entropy(output[:, :3], target[:, 0].long())
    expected = expected + mse(output[:, 3], target[:, 1])
    assert boundary.loss(output, target).item() == pytest.approx(expected.item(), rel=1e-5)


@given(labels=ellipses())
@settings(deadline=None, max_examples=10)
def test_depth_is_the_distance_to_what_is_not_the_object(labels: np.ndarray) -> None:
    numbers, count = numbered(labels)
    depth = depths(numbers)
    for number in range(1, count + 1):
        own = numbers == number
        distance = ndimage.distance_transform_edt(own)
        np.testing.assert_allclose(depth[own], (distance / distance.max())[own], rtol=1e-5)


def test_slices_further_apart_make_depth_grow_along_them() -> None:
    numbers = np.zeros((9, 21, 21), np.int32)
    numbers[2:7, 4:17, 4:17] = 1
    plain, apart = depths(numbers), depths(numbers, (3, 1, 1))
    assert plain[2, 10, 10] == pytest.approx(1 / 3)
    assert apart[2, 10, 10] == pytest.approx(3 / 7)
    assert build_head("boundary", 3, anisotropy=3.0).encode(numbers)[1, 2, 10, 10] == pytest.approx(3 / 7)


@given(labels=ellipses())
@settings(deadline=None, max_examples=10)
def test_edges_touch_something_else(labels: np.ndarray) -> None:
    kind = build_head("boundary").encode(labels)[0]
    cross = ndimage.generate_binary_structure(2, 1)
    low = ndimage.minimum_filter(labels, footprint=cross, mode="nearest")
    high = ndimage.maximum_filter(labels, footprint=cross, mode="nearest")
    assert np.array_equal(kind == EDGE, (labels > 0) & (low != high))


@given(seed=st.integers(0, 50))
@settings(deadline=None, max_examples=10)
def test_h_maxima_are_those_of_skimage(seed: int) -> None:
    height = ndimage.gaussian_filter(np.random.default_rng(seed).random((40, 40)), 2)
    height = np.round((height - height.min()) / np.ptp(height) * 64) / 64
    tops, count = h_maxima(height, 0.25)
    expected = skimage_h_maxima(height, 0.25, np.ones((3, 3)))  # of equally high peaks of a top all
    assert set(np.unique(tops[expected > 0])) == set(range(1, count + 1))


def test_cleaning_fills_holes_and_drops_what_is_small() -> None:
    labels = np.zeros((30, 30), np.int32)
    labels[2:12, 2:12] = 5
    labels[5:8, 5:8] = 0  # a hole
    labels[2:12, 14:24] = 7
    labels[5:9, 17:21] = 0  # a hole with another object in it
    labels[6:8, 18:20] = 9
    labels[20:26, 0:6] = 3
    labels[22:24, 0:3] = 0  # open to the border of the image
    expected = labels.copy()
    expected[5:8, 5:8] = 5
    assert same_objects(clean(labels), expected)
    assert same_objects(clean(labels, fill=False), labels)
    without = expected.copy()
    without[5:9, 17:21] = 7  # once the small one is gone it is a hole like any other
    assert same_objects(clean(labels, least=5), without)
