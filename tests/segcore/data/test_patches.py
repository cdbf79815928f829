"""Patches are cut where they were drawn, from image and label alike."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_volumes import CPU, plain, plain_offsets, plane_of, random_volume, volume_of

from segcore.card import Normalization
from segcore.data.neighbours import mirrored, neighbours
from segcore.data.normalize import apply_normalization
from segcore.data.patches import PatchPool
from segcore.data.sampling import PatchPlan, PatchSpot, batches, epoch_units


def make_pool(sizes, dtype=np.uint16, normalization=None, size=16):
    volumes = [random_volume((1, *shape), dtype, seed=number) for number, shape in enumerate(sizes)]
    return PatchPool(volumes, normalization or plain(2), CPU, PatchPlan(size=size)), [
        (volume.image_ZCYX[0], volume.label_ZYX[0]) for volume in volumes
    ]


@given(
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32, np.int32]),
    sizes=st.lists(st.tuples(st.integers(16, 40), st.integers(16, 40)), min_size=1, max_size=3),
    size=st.integers(1, 16),
    seed=st.integers(0, 10_000),
)
@settings(deadline=None, max_examples=40)
def test_without_augmentation_a_patch_is_a_slice_of_the_region(dtype, sizes, size, seed):
    pool, pairs = make_pool(sizes, dtype, size=size)
    generator = torch.Generator().manual_seed(seed)
    region_B = torch.randint(0, len(sizes), (4,), generator=generator)
    spot = pool.draw(region_B, generator)
    image_BCYX, label_BYX = pool.cut(spot, plain_offsets(4, size))
    for index, region in enumerate(region_B.tolist()):
        row, column = (spot.centre_B2[index] - (size - 1) / 2).long().tolist()
        window = (slice(row, row + size), slice(column, column + size))
        assert row >= 0
        assert column >= 0
        np.testing.assert_array_equal(
            image_BCYX[index].numpy(), pairs[region][0][:, *window].astype(np.float32)
        )
        np.testing.assert_array_equal(label_BYX[index].numpy(), pairs[region][1][window])


def test_first_and_last_position_are_drawn():
    pool, _ = make_pool([(10, 9)], size=8)
    spot = pool.draw(torch.zeros(2000, dtype=torch.long), torch.Generator().manual_seed(0))
    corner = spot.centre_B2 - 3.5
    assert set(corner[:, 0].tolist()) == {0.0, 1.0, 2.0}
    assert set(corner[:, 1].tolist()) == {0.0, 1.0}


def test_a_region_smaller_than_the_patch_is_mirrored_not_left_empty():
    pool, pairs = make_pool([(5, 7)])
    spot = pool.draw(torch.zeros(1, dtype=torch.long), torch.Generator().manual_seed(0))
    image_BCYX, label_BYX = pool.cut(spot, plain_offsets(1, 16))
    assert set(np.unique(image_BCYX[0, 0])) == set(np.unique(pairs[0][0][0]))
    assert set(np.unique(label_BYX)) <= set(np.unique(pairs[0][1]))


def test_points_between_pixels_are_interpolated_for_images_and_nearest_for_labels():
    image = np.array([[[0, 10], [20, 30]]], np.uint8)
    pool = PatchPool([plane_of(image, [[0, 1], [2, 3]])], plain(1), CPU, PatchPlan(size=1))
    spot = PatchSpot(torch.tensor([0]), torch.tensor([[0]]), torch.tensor([[0.75, 0.25]]))
    image_BCYX, label_BYX = pool.cut(spot, torch.zeros(1, 1, 1, 2))
    assert image_BCYX.item() == pytest.approx(0.75 * 20 + 0.25 * 10)
    assert label_BYX.item() == 2


def test_normalization_is_applied_with_its_clip():
    normalization = Normalization(kind="x", offset=(100.0, 0.0), scale=(50.0, 1.0), clip=(-1.0, 2.0))
    pool, pairs = make_pool([(16, 16)], np.uint16, normalization)
    spot = pool.draw(torch.zeros(1, dtype=torch.long), torch.Generator())
    image_BCYX, _ = pool.cut(spot, plain_offsets(1, 16))
    expected = np.clip((pairs[0][0][0].astype(np.float64) - 100) / 50, -1, 2)
    np.testing.assert_allclose(image_BCYX[0, 0].numpy(), expected, rtol=1e-5)


@given(regions=st.integers(1, 7), per_region=st.integers(1, 9), batch=st.sampled_from([1, 2, 4, 8, 32]))
@settings(deadline=None, max_examples=40)
def test_an_epoch_shows_every_region_equally_often_in_full_batches(regions, per_region, batch):
    region_N = epoch_units(regions, per_region, torch.Generator().manual_seed(1))
    assert torch.bincount(region_N, minlength=regions).tolist() == [per_region] * regions
    parts = list(batches(region_N, batch))
    assert {len(part) for part in parts} == {batch}
    assert len(parts) == -(-regions * per_region // batch)
    assert torch.equal(torch.cat(parts)[: len(region_N)], region_N)


def test_missing_grey_values_are_what_inference_makes_of_them():
    normalization = Normalization(kind="x", offset=(100.0,), scale=(50.0,), clip=(-3.0, 3.0))
    image = np.full((1, 16, 16), 120, np.float32)
    image[0, 3, :3] = np.nan, np.inf, -np.inf
    pool = PatchPool([plane_of(image, np.zeros((16, 16)))], normalization, CPU, PatchPlan(size=16))
    spot = pool.draw(torch.zeros(1, dtype=torch.long), torch.Generator())
    image_BCYX, _ = pool.cut(spot, plain_offsets(1, 16))
    np.testing.assert_allclose(image_BCYX[0].numpy(), apply_normalization(image, normalization), rtol=1e-5)


PLANS = {
    "2d": PatchPlan(size=12),
    "2.5d": PatchPlan(size=12, mode="2.5d", slices=5, spacing=2),
    "3d": PatchPlan(size=12, mode="3d", depth=4),
}


@given(mode=st.sampled_from(sorted(PLANS)), depth=st.integers(1, 7), seed=st.integers(0, 10_000))
@settings(deadline=None, max_examples=40)
def test_a_patch_has_the_slices_of_its_mode(mode, depth, seed):
    volume, plan = random_volume((depth, 20, 17)), PLANS[mode]
    pool = PatchPool([volume], plain(2), CPU, plan)
    generator = torch.Generator().manual_seed(seed)
    unit_B = torch.randint(0, len(pool), (3,), generator=generator)
    spot = pool.draw(unit_B, generator)
    image, label = pool.cut(spot, plain_offsets(3, 12))
    assert image.shape[1:] == pool.shape
    for index, planes in enumerate(spot.plane_BP.tolist()):
        row, column = (spot.centre_B2[index] - 5.5).long().tolist()
        window = (slice(row, row + 12), slice(column, column + 12))
        if mode == "3d":
            start = planes[0]
            assert depth < 4 or planes == list(range(start, start + 4))
            expected = np.stack([volume.image_ZCYX[z][:, *window] for z in planes], 1)
            marked = np.stack([volume.label_ZYX[z][window] for z in planes])
        else:
            middle = int(unit_B[index])
            assert planes == list(neighbours(middle, depth, plan.slices, plan.spacing))
            expected = np.concatenate([volume.image_ZCYX[z][:, *window] for z in planes])
            marked = volume.label_ZYX[middle][window]
        np.testing.assert_array_equal(image[index].numpy(), expected.astype(np.float32))
        np.testing.assert_array_equal(label[index].numpy(), marked)


def test_a_block_deeper_than_the_volume_is_mirrored():
    pool = PatchPool([random_volume((3, 12, 12))], plain(2), CPU, PatchPlan(size=12, mode="3d", depth=8))
    (planes,) = pool.draw(torch.tensor([0]), torch.Generator()).plane_BP.tolist()
    assert planes == [mirrored(plane, 3) for plane in range(-3, 5)]


@pytest.mark.parametrize("mode", ["2.5d", "3d"])
def test_slices_in_reverse_order_are_a_mirrored_volume(mode):
    volume, plan = random_volume((9, 14, 14)), PLANS[mode]
    pool = PatchPool([volume], plain(2), CPU, plan)
    spot = pool.draw(torch.tensor([0, len(pool) - 1]), torch.Generator().manual_seed(3))
    image, label = pool.cut(spot, plain_offsets(2, 12))
    turned, other = pool.cut(spot.turned(torch.tensor([True, False])), plain_offsets(2, 12))
    shape = image[0].shape if mode == "3d" else (5, 2, 12, 12)
    axis = 1 if mode == "3d" else 0
    assert torch.equal(turned[0].view(shape), image[0].view(shape).flip(axis))
    assert torch.equal(other[0], label[0].flip(0) if mode == "3d" else label[0])
    assert torch.equal(turned[1], image[1])


@pytest.mark.parametrize("mode", sorted(PLANS))
def test_every_volume_may_have_a_normalisation_of_its_own(mode):
    norms = [
        Normalization(kind="x", offset=(10.0, 300.0), scale=(2.0, 50.0)),
        Normalization(kind="x", offset=(7.0, 1.0), scale=(9.0, 4.0)),
    ]
    volumes = [random_volume((5, 12, 12), np.uint16, seed=number) for number in range(2)]
    own = [
        volume_of(volume.image_ZCYX, volume.label_ZYX, normalization=norm)
        for volume, norm in zip(volumes, norms, strict=True)
    ]
    together = PatchPool(own, norms[0], CPU, PLANS[mode])
    for number, norm in enumerate(norms):
        alone = PatchPool([volumes[number]], norm, CPU, PLANS[mode])
        spot = alone.draw(torch.arange(len(alone)), torch.Generator().manual_seed(1))
        there = PatchSpot(spot.volume_B + number, spot.plane_BP, spot.centre_B2)
        offsets = plain_offsets(len(alone), 12)
        for one, other in zip(alone.cut(spot, offsets), together.cut(there, offsets), strict=True):
            assert torch.equal(one, other)


def test_images_of_different_types_keep_their_grey_values():
    for kinds in ([np.uint8, np.uint16], [np.uint16, np.float32], [np.uint8, np.int32]):
        volumes = [random_volume((1, 12, 12), kind, seed=number) for number, kind in enumerate(kinds)]
        pool = PatchPool(volumes, plain(2), CPU, PLANS["2d"])
        image, _ = pool.cut(pool.draw(torch.arange(2), torch.Generator()), plain_offsets(2, 12))
        for patch, volume in zip(image, volumes, strict=True):
            np.testing.assert_array_equal(patch.numpy(), volume.image_ZCYX[0].astype(np.float32))
