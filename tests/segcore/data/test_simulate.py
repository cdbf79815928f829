"""Simulated images: repeatable, with exact masks, and not to be solved by a threshold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from segcore.data.open import open_source
from segcore.data.planes import Planes
from segcore.data.simulate import simulate, simulate_plane
from segcore.errors import ConfigError


def stacks(paths: tuple[Path, Path]) -> tuple[np.ndarray, np.ndarray]:
    planes = [Planes(open_source(path)) for path in paths]
    raw, labels = (np.stack([part.read(index)[0] for index in range(part.count)]) for part in planes)
    return raw, labels


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    first = simulate(tmp_path / "a", "3class", 2, 64, 7)
    again = simulate(tmp_path / "b", "3class", 2, 64, 7)
    other = simulate(tmp_path / "c", "3class", 2, 64, 8)
    for one, two, three in zip(first, again, other, strict=True):
        assert one.read_bytes() == two.read_bytes()
        assert one.read_bytes() != three.read_bytes()


def test_a_slice_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    few = stacks(simulate(tmp_path / "a", "2class", 1, 64, 0))
    many = stacks(simulate(tmp_path / "b", "2class", 3, 64, 0))
    for one, more in zip(few, many, strict=True):
        assert np.array_equal(one[0], more[0])
        assert not np.array_equal(more[0], more[1])


@pytest.mark.parametrize(("kind", "values"), [("2class", [0, 1]), ("3class", [0, 1, 2])])
def test_files_hold_a_calibrated_stack_and_its_classes(tmp_path: Path, kind: str, values: list[int]) -> None:
    raw, labels = simulate(tmp_path, kind, 3, 128, 0)
    source = open_source(raw)
    assert (source.axes, source.shape, source.dtype) == ("ZYX", (3, 128, 128), np.uint16)
    assert source.pixel_size.x == pytest.approx(0.325, rel=1e-4)
    assert source.pixel_size.z == pytest.approx(1.0)
    marks = stacks((raw, labels))[1]
    assert marks.dtype == np.uint8
    assert np.unique(marks).tolist() == values
    assert sorted(path.name for path in tmp_path.iterdir()) == ["labels.tif", "raw.tif"]


def test_nuclei_lie_inside_cells_and_kinds_share_their_cells() -> None:
    _, two = simulate_plane("2class", 256, np.random.default_rng(3))
    _, three = simulate_plane("3class", 256, np.random.default_rng(3))
    assert np.array_equal(two > 0, three > 0)
    around = ndimage.binary_dilation(three == 2, iterations=1) & (three == 0)
    assert around.mean() < 0.002


def test_some_cells_touch() -> None:
    planes = [simulate_plane("3class", 256, np.random.default_rng(seed))[1] for seed in range(3)]
    cells = sum(ndimage.label(plane > 0)[1] for plane in planes)
    nuclei = sum(ndimage.label(plane == 2)[1] for plane in planes)
    assert nuclei > 1.15 * cells


@pytest.mark.parametrize("kind", ["2class", "3class"])
def test_masks_follow_the_light_but_no_threshold_finds_them(kind: str) -> None:
    planes = [simulate_plane(kind, 256, np.random.default_rng(seed)) for seed in range(4)]
    raw, labels = (np.stack(parts) for parts in zip(*planes, strict=True))
    cells = labels > 0
    assert raw[cells].mean() > 1.5 * raw[~cells].mean()
    best = max(
        2 * ((raw > level) & cells).sum() / ((raw > level).sum() + cells.sum())
        for level in range(100, 800, 10)
    )
    assert 0.6 < best < 0.9


@pytest.mark.parametrize(
    ("kind", "images", "size", "seed"),
    [("4class", 1, 64, 0), ("2class", 0, 64, 0), ("2class", 1, 32, 0), ("2class", 1, 64, -1)],
)
def test_values_out_of_range_write_nothing(
    tmp_path: Path, kind: str, images: int, size: int, seed: int
) -> None:
    with pytest.raises(ConfigError) as caught:
        simulate(tmp_path / "out", kind, images, size, seed)
    assert caught.value.remedy
    assert not (tmp_path / "out").exists()
