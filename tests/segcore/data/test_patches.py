"""Patches are cut where they were drawn, from image and label alike."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segcore.card import Normalization
from segcore.data.augment import AugmentOptions, draw, sampling_offsets
from segcore.data.normalize import apply_normalization
from segcore.data.patches import PatchPool, PatchSpot, batches, epoch_regions

CPU = torch.device("cpu")
IDENTITY = Normalization(kind="none", offset=(0.0, 0.0), scale=(1.0, 1.0))


def make_pool(sizes, dtype=np.uint16, normalization=IDENTITY):
    rng = np.random.default_rng(0)
    high = 255 if dtype == np.uint8 else 60000
    pairs = []
    for height, width in sizes:
        image = rng.integers(0, high, (2, height, width)).astype(dtype)
        pairs.append((image, (image[0] % 3).astype(np.int64)))
    return PatchPool(pairs, normalization, CPU), pairs


def plain_offsets(count, size):
    generator = torch.Generator().manual_seed(0)
    return sampling_offsets(draw(AugmentOptions.off(), (count, 2, size), generator), size, CPU)


@given(
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32, np.int32]),
    sizes=st.lists(st.tuples(st.integers(16, 40), st.integers(16, 40)), min_size=1, max_size=3),
    size=st.integers(1, 16),
    seed=st.integers(0, 10_000),
)
@settings(deadline=None, max_examples=40)
def test_without_augmentation_a_patch_is_a_slice_of_the_region(dtype, sizes, size, seed):
    pool, pairs = make_pool(sizes, dtype)
    generator = torch.Generator().manual_seed(seed)
    region_B = torch.randint(0, len(sizes), (4,), generator=generator)
    spot = pool.draw(region_B, size, generator)
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
    pool, _ = make_pool([(10, 9)])
    spot = pool.draw(torch.zeros(2000, dtype=torch.long), 8, torch.Generator().manual_seed(0))
    corner = spot.centre_B2 - 3.5
    assert set(corner[:, 0].tolist()) == {0.0, 1.0, 2.0}
    assert set(corner[:, 1].tolist()) == {0.0, 1.0}


def test_a_region_smaller_than_the_patch_is_mirrored_not_left_empty():
    pool, pairs = make_pool([(5, 7)])
    spot = pool.draw(torch.zeros(1, dtype=torch.long), 16, torch.Generator().manual_seed(0))
    image_BCYX, label_BYX = pool.cut(spot, plain_offsets(1, 16))
    assert set(np.unique(image_BCYX[0, 0])) == set(np.unique(pairs[0][0][0]))
    assert set(np.unique(label_BYX)) <= set(np.unique(pairs[0][1]))


def test_points_between_pixels_are_interpolated_for_images_and_nearest_for_labels():
    image = np.array([[[0, 10], [20, 30]]], np.uint8)
    pool = PatchPool(
        [(image, np.array([[0, 1], [2, 3]]))], Normalization(kind="none", offset=(0,), scale=(1,)), CPU
    )
    spot = PatchSpot(torch.tensor([0]), torch.tensor([[0.75, 0.25]]))
    image_BCYX, label_BYX = pool.cut(spot, torch.zeros(1, 1, 1, 2))
    assert image_BCYX.item() == pytest.approx(0.75 * 20 + 0.25 * 10)
    assert label_BYX.item() == 2


def test_normalization_is_applied_with_its_clip():
    normalization = Normalization(kind="x", offset=(100.0, 0.0), scale=(50.0, 1.0), clip=(-1.0, 2.0))
    pool, pairs = make_pool([(16, 16)], np.uint16, normalization)
    spot = pool.draw(torch.zeros(1, dtype=torch.long), 16, torch.Generator())
    image_BCYX, _ = pool.cut(spot, plain_offsets(1, 16))
    expected = np.clip((pairs[0][0][0].astype(np.float64) - 100) / 50, -1, 2)
    np.testing.assert_allclose(image_BCYX[0, 0].numpy(), expected, rtol=1e-5)


@given(regions=st.integers(1, 7), per_region=st.integers(1, 9), batch=st.sampled_from([1, 2, 4, 8, 32]))
@settings(deadline=None, max_examples=40)
def test_an_epoch_shows_every_region_equally_often_in_full_batches(regions, per_region, batch):
    region_N = epoch_regions(regions, per_region, torch.Generator().manual_seed(1))
    assert torch.bincount(region_N, minlength=regions).tolist() == [per_region] * regions
    parts = list(batches(region_N, batch))
    assert {len(part) for part in parts} == {batch}
    assert len(parts) == -(-regions * per_region // batch)
    assert torch.equal(torch.cat(parts)[: len(region_N)], region_N)


def test_missing_grey_values_are_what_inference_makes_of_them():
    normalization = Normalization(kind="x", offset=(100.0,), scale=(50.0,), clip=(-3.0, 3.0))
    image = np.full((1, 16, 16), 120, np.float32)
    image[0, 3, :3] = np.nan, np.inf, -np.inf
    pool = PatchPool([(image, np.zeros((16, 16), np.int64))], normalization, CPU)
    spot = pool.draw(torch.zeros(1, dtype=torch.long), 16, torch.Generator())
    image_BCYX, _ = pool.cut(spot, plain_offsets(1, 16))
    np.testing.assert_allclose(image_BCYX[0].numpy(), apply_normalization(image, normalization), rtol=1e-5)
