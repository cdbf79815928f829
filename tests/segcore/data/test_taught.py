"""Taught volumes: the teacher's word where nobody annotated, and his shares behind the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segcore.card import Normalization
from segcore.data.augment import AugmentOptions, draw, sampling_offsets
from segcore.data.patches import DiskPool, PatchPool
from segcore.data.sampling import PatchPlan
from segcore.data.taught import FULL, behind, taught_volume, unlabelled
from segcore.data.volumes import Volume
from segcore.tiling import IGNORE

CLASSES = 3
CPU = torch.device("cpu")


class Said:
    """A teacher's answer in memory."""

    def __init__(self, share_ZKYX: np.ndarray, soft: bool = True) -> None:
        self.share_ZKYX, self.soft = share_ZKYX, soft

    def classes(self, plane: int, rows: slice, columns: slice) -> np.ndarray:
        """Return class indices."""
        share_KYX = self.share_ZKYX[plane, :, rows, columns]
        return np.where(share_KYX.any(0), share_KYX.argmax(0), IGNORE).astype(np.int16)

    def shares(self, plane: int, rows: slice, columns: slice) -> np.ndarray | None:
        """Return shares."""
        return self.share_ZKYX[plane, :, rows, columns] if self.soft else None


def said(depth: int = 3, height: int = 40, width: int = 44) -> Said:
    """Return an answer that is certain everywhere, but for the last rows, where there is none."""
    rng = np.random.default_rng(0)
    index_ZYX = rng.integers(0, CLASSES, (depth, height, width))
    share_ZKYX = np.zeros((depth, CLASSES, height, width), np.uint8)
    np.put_along_axis(share_ZKYX, index_ZYX[:, None], FULL, 1)
    share_ZKYX[:, :, -4:] = 0
    return Said(share_ZKYX)


def volume(dtype: str = "uint8", depth: int = 3, height: int = 40, width: int = 44) -> Volume:
    rng = np.random.default_rng(1)
    label_ZYX = np.array(unlabelled((depth, height, width)))
    label_ZYX[0, :10] = 2
    counts_ZK = np.zeros((depth, CLASSES), np.int64)
    counts_ZK[0, 2] = 10 * width
    image = rng.integers(0, 200, (depth, 2, height, width)).astype(dtype)
    return Volume(image_ZCYX=image, label_ZYX=label_ZYX, counts_ZK=counts_ZK)


def test_annotation_wins_and_the_teacher_fills_the_rest() -> None:
    answer = said()
    taught = taught_volume(volume(), answer, CLASSES, shares=False)
    label_ZYX = taught.label_ZYX[:, :, :]
    assert (label_ZYX[0, :10] == 2).all()
    his = np.stack([answer.classes(plane, slice(0, 40), slice(0, 44)) for plane in range(3)])
    his[0, :10] = 2
    assert np.array_equal(label_ZYX, his)
    assert np.array_equal(taught.label_ZYX[1:3, 5:9, 3:7], his[1:3, 5:9, 3:7])
    counts = [[(label_YX == index).sum() for index in range(CLASSES)] for label_YX in his]
    assert np.array_equal(taught.counts_ZK, counts)
    assert taught.annotated == (0, 1, 2)
    for (plane, index), pixel_N2 in taught.anchors.items():
        assert (his[plane][tuple(pixel_N2.T)] == index).all()


def test_a_volume_that_is_a_part_asks_for_its_own_place() -> None:
    answer = said()
    part = Volume(
        image_ZCYX=volume().image_ZCYX[1:, :, 8:],
        label_ZYX=unlabelled((2, 32, 44)),
        counts_ZK=np.zeros((2, CLASSES), np.int64),
        first=1,
        row=8,
    )
    taught = taught_volume(part, answer, CLASSES, shares=True)
    for plane in range(2):
        expected = answer.classes(1 + plane, slice(8, 40), slice(0, 44))
        assert np.array_equal(taught.label_ZYX[plane : plane + 1, :, :][0], expected)
        image_CYX = taught.image_ZCYX[plane : plane + 1, :, :, :][0]
        assert np.array_equal(image_CYX[2:], answer.share_ZKYX[1 + plane, :, 8:])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("mode", ["2d", "2.5d", "3d"])
def test_image_and_shares_are_cut_at_the_same_points_from_memory_and_disk(dtype: str, mode: str) -> None:
    plain, answer = volume(dtype), said()
    taught = taught_volume(plain, answer, CLASSES, shares=True)
    assert taught.image_ZCYX.shape == (3, 2 + CLASSES, 40, 44)
    own = Normalization(kind="percentile", offset=(100.0, 90.0), scale=(80.0, 70.0), clip=(-3.0, 3.0))
    wide = behind(own, CLASSES, plain.image_ZCYX.dtype)
    slices = 3 if mode == "2.5d" else 1
    plan = PatchPlan(size=16, mode=mode, slices=slices, depth=3 if mode == "3d" else 1)
    generator = torch.Generator().manual_seed(0)
    pools = [kind([taught], wide, CPU, plan) for kind in (PatchPool, DiskPool)]
    spot = pools[0].draw(torch.full((4,), int(mode == "2d")), generator)
    variation = draw(AugmentOptions(), (4, *pools[0].shape), generator, stacked=mode != "2d")
    offsets = sampling_offsets(variation, 16, CPU)
    (image, label), (again, label_again) = (pool.cut(spot, offsets) for pool in pools)
    assert torch.equal(image, again)
    assert torch.equal(label, label_again)
    alone, _ = PatchPool([plain], own, CPU, plan).cut(spot, offsets)
    if mode == "2.5d":
        several = image.unflatten(1, (slices, -1))
        seen, share = several[:, :, :2].flatten(1, 2), several[:, slices // 2, 2:]
    else:
        seen, share = image[:, :2], image[:, 2:]
    torch.testing.assert_close(seen, alone)
    assert share.min() >= 0
    assert share.max() <= 1 + 1e-6
    # Where interpolation leaves a class certain, and nobody annotated, it is the label.
    certain = share.amax(1) > 1 - 1e-6
    assert certain.any()
    annotated = (spot.plane_BP == 0).any() if mode != "3d" else True
    if not annotated:
        assert torch.equal(share.argmax(1)[certain], label[certain])


def test_a_teacher_without_shares_leaves_them_blind() -> None:
    answer = said()
    answer.soft = False
    taught = taught_volume(volume("uint16"), answer, CLASSES, shares=True)
    assert not taught.image_ZCYX[:, 2:, :, :].any()
    assert np.array_equal(taught.image_ZCYX[:, :2, :, :], volume("uint16").image_ZCYX)


def test_labels_of_nobody_take_no_memory() -> None:
    label = unlabelled((1000, 10_000, 10_000))
    assert (label[500:501, :2, :2] == IGNORE).all()
    assert label.strides == (0, 0, 0)
