"""Numbers of objects travel from label files into patches as they are; their classes are counted beside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segcore.config import DataConfig
from segcore.data.augment import AugmentOptions, draw, sampling_offsets
from segcore.data.dataset import TrainingData, load_training_data
from segcore.data.manifest import count_values, encode_labels, object_numbers
from segcore.data.patches import DiskPool, PatchPool
from segcore.data.sampling import PatchPlan
from segcore.data.volumes import class_indices
from segcore.errors import DataError
from segcore.tiling import IGNORE

CPU = torch.device("cpu")
FAR = 70_000
"""A number that no 16 bits hold."""


@pytest.fixture
def numbered_stack(tmp_path: Path) -> Path:
    """Three planes with a square object in each quarter, of which one has a number beyond 16 bits."""
    labels = np.zeros((3, 64, 64), np.int32)
    for plane in range(3):
        for number, (row, column) in enumerate(((4, 4), (4, 36), (36, 4), (36, 36))):
            labels[plane, row : row + 20, column : column + 20] = FAR if number == 3 else number + 1
    images = (labels > 0) * 100 + np.random.default_rng(0).integers(0, 20, labels.shape)
    how = {"photometric": "minisblack", "metadata": {"axes": "ZYX"}}
    tifffile.imwrite(tmp_path / "images.tif", images.astype(np.uint8), **how)
    tifffile.imwrite(tmp_path / "labels.tif", labels, **how)
    return tmp_path


def loaded(folder: Path, objects: bool = True, **options: object) -> TrainingData:
    """Read the stack; the last plane validates."""
    values = {
        "images": str(folder / "images.tif"),
        "labels": str(folder / "labels.tif"),
        "labels_as": "objects",
        "validation_slices": "2",
        **options,
    }
    return load_training_data(DataConfig(**values), objects=objects)


@settings(deadline=None, max_examples=30)
@given(
    values=st.lists(st.integers(-5, 2**31 - 1), min_size=1, max_size=9),
    dtype=st.sampled_from(["int32", "int64", "float64"]),
)
def test_numbers_stay_and_their_class_is_one(values: list[int], dtype: str) -> None:
    plane = np.array([values], dtype)
    numbers = object_numbers(plane[None])
    assert numbers.dtype == np.int32
    assert numbers.tolist() == [[max(value, 0) for value in values]]
    assert count_values(plane, "objects") == count_values(plane, "foreground")
    np.testing.assert_array_equal(encode_labels(plane, (0, 1), "objects"), np.minimum(numbers, 1))


def test_numbers_that_are_too_large_are_refused() -> None:
    with pytest.raises(DataError, match="2147483648"):
        object_numbers(np.array([[2**31]], np.uint32))


@pytest.mark.parametrize("loading", ["memory", "disk"])
def test_volumes_hold_numbers_and_count_classes(numbered_stack: Path, loading: str) -> None:
    data = loaded(numbered_stack, loading=loading, foreground_patches=0.5)
    assert data.class_values == (0, 1)
    for volume in (*data.train, *data.validation):
        label_ZYX = np.asarray(volume.label_ZYX[slice(None), slice(None), slice(None)])
        assert label_ZYX.dtype == np.int32
        assert set(np.unique(label_ZYX)) == {0, 1, 2, 3, FAR}
        assert (volume.counts_ZK == [64 * 64 - 1600, 1600]).all()
        for (plane, index), pixel_N2 in volume.anchors.items():
            assert (class_indices(label_ZYX[plane])[tuple(pixel_N2.T)] == index).all()


def test_without_objects_the_same_labels_are_one_class(numbered_stack: Path) -> None:
    data = loaded(numbered_stack, objects=False)
    label_ZYX = data.train[0].label_ZYX[0:1, :, :]
    assert label_ZYX.dtype == np.int16
    assert set(np.unique(label_ZYX)) == {0, 1}


@pytest.mark.parametrize("pool", [PatchPool, DiskPool])
def test_a_patch_holds_the_numbers_whatever_is_done_to_it(numbered_stack: Path, pool: type) -> None:
    data = loaded(numbered_stack, loading="disk" if pool is DiskPool else "memory")
    patches = pool(data.train, data.normalization, CPU, PatchPlan(size=32))
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(6):
        spot = patches.draw(torch.zeros(4, dtype=torch.long), generator)
        done = draw(AugmentOptions(rotation=1.0, scale=1.0, elastic=1.0), (4, 1, 32, 32), generator)
        _, label_BYX = patches.cut(spot, sampling_offsets(done, 32, CPU))
        assert label_BYX.dtype == torch.int64
        seen |= set(label_BYX.unique().tolist())
    assert seen == {0, 1, 2, 3, FAR}


def test_what_nobody_annotated_has_no_number(numbered_stack: Path) -> None:
    data = loaded(numbered_stack, unlabelled_value=2)
    label_YX = data.train[0].label_ZYX[0]
    assert set(np.unique(label_YX)) == {IGNORE, 0, 1, 3, FAR}
    assert data.train[0].counts_ZK.sum() == 64 * 64 - 400
