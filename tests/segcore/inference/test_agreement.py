"""Training, evaluation and segmentation of the same slices give the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from segcore.config import RunConfig, build_config
from segcore.inference.evaluate import evaluate
from segcore.inference.run import segment
from segcore.training.run import train


@pytest.fixture
def trained(tmp_path: Path, listener) -> tuple[RunConfig, float]:
    """Train on blobs; return a configuration that applies the model to them, and the validation Dice."""
    random = np.random.default_rng(0)
    coarse = random.random((4, 10, 9)) > 0.5
    labels = 255 * coarse.repeat(8, 1).repeat(8, 2).astype(np.uint8)[:, :77, :70]
    images = np.clip(labels * 0.4 + random.normal(60, 20, labels.shape), 0, 255).astype(np.uint8)
    for name, stack in (("images", images), ("labels", labels)):
        tifffile.imwrite(tmp_path / f"{name}.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    config = build_config(
        {
            "data": {
                "images": str(tmp_path / "images.tif"),
                "labels": str(tmp_path / "labels.tif"),
                "patch_size": 32,
                "patches_per_image": 4,
                "validation_slices": "1,3",
            },
            "model": {"features": 4, "layers": 2},
            "training": {"epochs": 2},
            "hardware": {"device": "cpu"},
            "inference": {"model": str(tmp_path / "run")},
        }
    )
    (tmp_path / "run").mkdir()
    outcome = train(config, tmp_path / "run", listener)
    return config, outcome.metrics["val_dice"]


def test_training_evaluation_and_segmentation_agree(
    trained: tuple[RunConfig, float], tmp_path: Path, listener
) -> None:
    config, val_dice = trained
    scores = evaluate(config, listener)
    assert scores["val_dice"] == pytest.approx(val_dice, abs=1e-6)
    result = tmp_path / "result"
    result.mkdir()
    segment(config, result, listener, lambda: False)
    found = tifffile.imread(result / "segmentation.tif")[[1, 3]]
    true = tifffile.imread(tmp_path / "labels.tif")[[1, 3]]
    dice = [
        2 * ((found == value) & (true == value)).sum() / ((found == value).sum() + (true == value).sum())
        for value in (0, 255)
    ]
    assert np.mean(dice) == pytest.approx(val_dice, abs=1e-6)
