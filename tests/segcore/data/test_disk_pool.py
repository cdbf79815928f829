"""Patches from disk are those from memory, and only what they show is read."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from made_volumes import CPU, random_volume, volume_of

from segcore.card import Normalization
from segcore.data.augment import AugmentOptions, draw, sampling_offsets
from segcore.data.patches import DiskPool, PatchPool
from segcore.data.sampling import PatchPlan
from segcore.data.volumes import Volume
from segcore.tiling import IGNORE

PLANS = {
    "2d": PatchPlan(size=16),
    "2.5d": PatchPlan(size=16, mode="2.5d", slices=3, spacing=2),
    "3d": PatchPlan(size=16, mode="3d", depth=4),
}
NORMALIZATION = Normalization(kind="x", offset=(100.0, 30.0), scale=(50.0, 7.0), clip=(-3.0, 3.0))


class Counted:
    """An array that counts the pixels that are read."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.shape, self.dtype = array.shape, array.dtype
        self.largest = 0

    def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
        """Return a part."""
        assert len(region) == len(self.shape)
        part = np.array(self._array[region])
        self.largest = max(self.largest, part.size)
        return part


@pytest.mark.parametrize("mode", sorted(PLANS))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_patches_from_disk_are_those_from_memory_to_the_bit(mode, dtype):
    volumes = [random_volume((7, 40 + 9 * number, 61), dtype, seed=number) for number in range(2)]
    if dtype == np.float32:
        volumes[0].image_ZCYX[2, 0, 5, :9] = np.nan
    sparse = np.full((7, 40, 61), IGNORE, np.int16)
    sparse[1::3, 10:14, 20:40] = 1
    volumes.append(volume_of(volumes[0].image_ZCYX, sparse, normalization=NORMALIZATION))
    lazy = [
        Volume(
            Counted(v.image_ZCYX),
            Counted(v.label_ZYX),
            v.counts_ZK,
            anchors=v.anchors,
            normalization=v.normalization,
        )
        for v in volumes
    ]
    pools = [
        kind(part, NORMALIZATION, CPU, PLANS[mode]) for kind, part in ((PatchPool, volumes), (DiskPool, lazy))
    ]
    results = []
    for pool in pools:
        generator = torch.Generator().manual_seed(2)
        for _ in range(6):
            unit_B = torch.randint(0, len(pool), (5,), generator=generator)
            spot = pool.draw(unit_B, generator)
            done = draw(AugmentOptions(), (5, *pool.shape), generator, stacked=mode != "2d")
            results.append(pool.cut(spot.turned(done.reversed_B), sampling_offsets(done, 16, CPU)))
    for one, other in zip(results[:6], results[6:], strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])
    # Rotated, enlarged and bent, a patch of 16 px needs no more than about twice its sides.
    window = (2 * 16 + 16) ** 2
    planes = {"2d": 1, "2.5d": 1, "3d": 4}[mode]
    assert all(0 < v.image_ZCYX.largest <= 2 * planes * window for v in lazy)


def test_memory_is_bounded_by_the_windows_of_a_batch(tmp_path: Path):
    depth, side = 40, 1024
    image = np.lib.format.open_memmap(tmp_path / "image.npy", "w+", np.uint16, (depth, 1, side, side))
    label = np.lib.format.open_memmap(tmp_path / "label.npy", "w+", np.int16, (depth, side, side))
    counts = np.tile(np.array([[side * side, 0, 0]]), (depth, 1))
    pool = DiskPool(
        [Volume(image, label, counts)],
        Normalization(kind="none", offset=(0.0,), scale=(1.0,)),
        CPU,
        PatchPlan(size=64, mode="3d", depth=8),
    )
    generator = torch.Generator().manual_seed(0)
    tracemalloc.start()
    try:
        for _ in range(4):
            spot = pool.draw(torch.zeros(4, dtype=torch.long), generator)
            done = draw(AugmentOptions(), (4, *pool.shape), generator, stacked=True)
            pool.cut(spot, sampling_offsets(done, 64, CPU))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    windows = 4 * 8 * (2 * 64 + 32) ** 2 * 4
    assert peak < 3 * windows < image.nbytes / 8


def test_what_cannot_be_read_is_told():
    class Broken(Counted):
        """An array whose file is gone."""

        def __getitem__(self, region: tuple[slice, ...]) -> np.ndarray:
            """Fail."""
            raise OSError("gone")

    made = random_volume((1, 20, 20))
    pool = DiskPool(
        [Volume(Broken(made.image_ZCYX), made.label_ZYX, made.counts_ZK)], NORMALIZATION, CPU, PLANS["2d"]
    )
    spot = pool.draw(torch.zeros(1, dtype=torch.long), torch.Generator())
    with pytest.raises(OSError, match="gone"):
        pool.cut(spot, torch.zeros(1, 16, 16, 2))
