"""Fixtures of the training tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Six planes of bright discs on a dark ground; labels are 0 and 255."""
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[:64, :64]
    labels = np.zeros((6, 64, 64), np.uint8)
    for plane in labels:
        for _ in range(3):
            row, column, radius = rng.integers(8, 56), rng.integers(8, 56), rng.integers(6, 12)
            plane[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = 255
    raw = (60 + 0.4 * labels + rng.normal(0, 12, labels.shape)).clip(0, 255).astype(np.uint8)
    tifffile.imwrite(tmp_path / "raw.tif", raw, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "labels.tif", labels, imagej=True, metadata={"axes": "ZYX"})
    return tmp_path
