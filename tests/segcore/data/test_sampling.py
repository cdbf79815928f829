"""Patches lie where labels are, on rare classes as often as asked for, and every label can be reached."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from made_volumes import CPU, plain, plain_offsets, random_volume, volume_of

from segcore.data.augment import GEOMETRY, AugmentOptions, draw, sampling_offsets
from segcore.data.patches import PatchPool
from segcore.data.sampling import PatchPlan, Sampler
from segcore.data.volumes import ANCHOR_BLOCK, find_anchors
from segcore.errors import DataError
from segcore.tiling import IGNORE


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scribbled(shape=(3, 90, 70), pixels=12, seed=0):
    """Return a volume with a few annotated pixels in some of its slices."""
    rng = np.random.default_rng(seed)
    label = np.full(shape, IGNORE, np.int16)
    for plane in range(0, shape[0], 2):
        label[plane].flat[rng.choice(label[plane].size, pixels, replace=False)] = rng.integers(0, 3, pixels)
    image = rng.integers(0, 255, (shape[0], 1, *shape[1:])).astype(np.uint8)
    return volume_of(image, label)


@given(
    label=arrays.arrays(
        np.int16, st.tuples(st.integers(1, 70), st.integers(1, 70)), elements=st.integers(-1, 3)
    ),
    limit=st.integers(1, 20),
)
@settings(deadline=None, max_examples=60)
def test_anchors_are_pixels_of_their_class(label, limit):
    anchors = find_anchors(label, 4, limit)
    assert sorted(anchors) == sorted(set(np.unique(label)) - {IGNORE})
    for index, pixels in anchors.items():
        assert (label[pixels[:, 0], pixels[:, 1]] == index).all()
        assert len(np.unique(pixels, axis=0)) == len(pixels)
        assert len(pixels) >= min(limit, (label == index).sum())


@given(seed=st.integers(0, 1000), pixels=st.integers(1, 400))
@settings(deadline=None, max_examples=30)
def test_in_sparse_slices_every_occupied_block_has_an_anchor(seed, pixels):
    label = scribbled((1, 90, 70), pixels, seed).label_ZYX[0]
    for index, found in find_anchors(label, 3, limit=2).items():
        there = {tuple(place // ANCHOR_BLOCK) for place in np.argwhere(label == index)}
        assert {tuple(place // ANCHOR_BLOCK) for place in found} == there


def test_anchors_of_many_pixels_are_spread_over_all_of_them():
    rows, columns = find_anchors(np.zeros((300, 500), np.int16), 1)[0].T
    assert len(rows) == 512
    parts, _, _ = np.histogram2d(rows, columns, bins=(3, 5), range=((0, 300), (0, 500)))
    assert parts.min() > 0.7 * parts.mean()


@pytest.mark.parametrize("mode", ["2d", "2.5d", "3d"])
def test_every_patch_of_a_sparse_volume_shows_annotation_whatever_is_done_to_it(mode):
    volume = scribbled()
    plan = PatchPlan(size=32, mode=mode, slices=3 if mode == "2.5d" else 1, depth=4)
    pool = PatchPool([volume], plain(1), CPU, plan)
    options = dataclasses.replace(AugmentOptions(**dict.fromkeys(GEOMETRY, 1.0)), elastic=0.0)
    for seed in range(40):
        unit_B = torch.arange(len(pool)).repeat(2)
        spot = pool.draw(unit_B, generator(seed))
        inside_B = ((spot.centre_B2 - 15.5 > 0) & (spot.centre_B2 + 15.5 < torch.tensor([89, 69]))).all(1)
        _, label = pool.cut(spot, plain_offsets(len(unit_B), 32))
        assert (label >= 0).flatten(1).any(1).all()
        varied = draw(options, (len(unit_B), *pool.shape), generator(seed))
        points = sampling_offsets(varied, 32, CPU)
        # Between scattered pixels the nearest one may be missed: what counts is that they lie inside.
        reach_B = points.abs().amax((1, 2, 3))
        assert (reach_B[inside_B] > 11).all()


@pytest.mark.parametrize("mode", ["2d", "3d"])
def test_every_annotated_pixel_of_a_sparse_volume_is_reached(mode):
    volume = scribbled(pixels=40)
    pool = PatchPool([volume], plain(1), CPU, PatchPlan(size=32, mode=mode, depth=4))
    seen = np.zeros(volume.label_ZYX.shape, bool)
    for seed in range(150):
        spot = pool.draw(torch.arange(len(pool)), generator(seed))
        for planes, corner in zip(
            spot.plane_BP.tolist(), (spot.centre_B2 - 15.5).long().tolist(), strict=True
        ):
            row, column = corner
            seen[planes, row : row + 32, column : column + 32] = True
    assert seen[volume.label_ZYX >= 0].all()


def test_every_pixel_of_a_dense_volume_is_reached():
    pool = PatchPool([random_volume((6, 40, 36))], plain(2), CPU, PatchPlan(size=32, mode="3d", depth=4))
    seen = np.zeros((6, 40, 36), bool)
    for seed in range(300):
        spot = pool.draw(torch.zeros(4, dtype=torch.long), generator(seed))
        for planes, corner in zip(
            spot.plane_BP.tolist(), (spot.centre_B2 - 15.5).long().tolist(), strict=True
        ):
            assert planes[0] >= 0
            seen[planes[0] : planes[-1] + 1, corner[0] : corner[0] + 32, corner[1] : corner[1] + 32] = True
    assert seen.all()


@pytest.mark.parametrize(
    ("mode", "depth", "units"), [("2d", 1, 7), ("2.5d", 1, 7), ("3d", 4, 1), ("3d", 3, 2)]
)
def test_units_are_annotated_slices_or_blocks_of_them(mode, depth, units):
    label = np.zeros((9, 20, 20), np.int16)
    label[[2, 5]] = IGNORE
    volume = volume_of(np.zeros((9, 1, 20, 20), np.uint8), label)
    plan = PatchPlan(size=16, mode=mode, depth=depth, slices=3 if mode == "2.5d" else 1)
    sampler = Sampler([volume], plan)
    assert len(sampler) == units
    if mode != "3d":
        planes = sampler.draw(torch.arange(units), generator()).plane_BP[:, plan.slices // 2]
        assert planes.tolist() == [0, 1, 3, 4, 6, 7, 8]


def test_volumes_without_annotation_give_no_patch():
    empty = volume_of(np.zeros((2, 1, 20, 20), np.uint8), np.full((2, 20, 20), IGNORE))
    some = random_volume((1, 20, 20), np.uint8, channels=1)
    sampler = Sampler([empty, some], PatchPlan(size=16))
    assert sampler.draw(torch.arange(len(sampler)), generator()).volume_B.tolist() == [1]
    with pytest.raises(DataError, match="annotated"):
        Sampler([empty], PatchPlan(size=16))


def test_rare_classes_are_in_the_middle_as_often_as_asked_for_and_equally_often():
    label = np.zeros((1, 200, 200), np.int16)
    label[0, 100, 50:60] = 1
    label[0, 20:60, 120:180] = 2
    volume = volume_of(np.zeros((1, 1, 200, 200), np.uint8), label)
    for share in (0.0, 0.4, 1.0):
        sampler = Sampler([volume], PatchPlan(size=32, foreground=share))
        centres = sampler.draw(torch.zeros(3000, dtype=torch.long), generator()).centre_B2
        middle = label[0][tuple((centres + 0.5).long().T.numpy())]
        by_chance = (label > 0).mean()
        expected = share + (1 - share) * by_chance
        assert (middle > 0).mean() == pytest.approx(expected, abs=0.05)
        if share:
            assert (middle == 1).sum() / (middle > 0).sum() == pytest.approx(0.5, abs=0.1)


def test_dense_slices_are_drawn_as_if_there_were_no_aims():
    dense = random_volume((1, 60, 60), np.uint8, channels=1)
    bare = dataclasses.replace(dense, anchors={})
    for one, other in zip(
        *(
            Sampler([v], PatchPlan(size=32)).draw(torch.zeros(9, dtype=torch.long), generator()).centre_B2
            for v in (dense, bare)
        ),
        strict=True,
    ):
        assert torch.equal(one, other)


@given(seed=st.integers(0, 500), mode=st.sampled_from(["2d", "2.5d", "3d"]))
@settings(deadline=None, max_examples=30)
def test_what_nobody_annotated_has_no_say_in_where_patches_lie(seed, mode):
    volume = scribbled(seed=seed)
    noise = np.random.default_rng(seed).integers(0, 255, volume.image_ZCYX.shape).astype(np.uint8)
    hidden = volume.label_ZYX[:, None] < 0
    other = dataclasses.replace(volume, image_ZCYX=np.where(hidden, noise, volume.image_ZCYX))
    plan = PatchPlan(size=32, mode=mode, slices=3 if mode == "2.5d" else 1, depth=4, foreground=0.3)
    spots = [Sampler([v], plan) for v in (volume, other)]
    one, two = (sampler.draw(torch.arange(len(sampler)), generator(seed)) for sampler in spots)
    assert torch.equal(one.centre_B2, two.centre_B2)
    assert torch.equal(one.plane_BP, two.plane_BP)
