"""Of a plane of any size only strips are in memory when it is read from disk: with the same counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from segcore.config import DataConfig
from segcore.data.dataset import load_training_data
from segcore.tiling import IGNORE


@pytest.mark.parametrize("share", [0.02, 1.0])
def test_strips_count_what_whole_planes_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, (2, 210, 90)).astype(np.uint8)
    labels[random.random(labels.shape) > share] = 255
    tifffile.imwrite(tmp_path / "images.tif", random.integers(0, 200, labels.shape).astype(np.uint8))
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    data = DataConfig(
        images=str(tmp_path / "images.tif"),
        labels=str(tmp_path / "labels.tif"),
        unlabelled_value=255,
        loading="disk",
        validation_slices="1",
    )
    whole = load_training_data(data)
    monkeypatch.setattr("segcore.data.planes.STRIP_PIXELS", 90 * 64)
    strips = load_training_data(data)
    assert strips.normalization == whole.normalization
    (volume,), (expected,) = strips.train, whole.train
    assert (volume.counts_ZK == expected.counts_ZK).all()
    assert set(volume.anchors) == set(expected.anchors)
    label_YX = volume.label_ZYX[0:1, :, :][0]
    for (_, index), pixel_N2 in volume.anchors.items():
        assert (label_YX[tuple(pixel_N2.T)] == index).all()
    if share < 1:
        assert np.count_nonzero(label_YX != IGNORE) == volume.counts_ZK.sum()
        assert max(pixel_N2[:, 0].max() for pixel_N2 in volume.anchors.values()) > 128
