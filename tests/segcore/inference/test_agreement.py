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

MODES: dict[str, dict[str, object]] = {
    "2d": {},
    "2.5d": {"mode": "2.5d", "context_slices": 3, "context_spacing": 2},
    "3d": {"mode": "3d", "patch_depth": 4, "pixel_size": "2,1,1"},
    "per image": {"normalize_per": "image"},
}


@pytest.fixture(params=MODES)
def trained(request: pytest.FixtureRequest, tmp_path: Path, listener) -> tuple[RunConfig, float]:
    """Train on blobs; return a configuration that applies the model to them, and the validation Dice."""
    random = np.random.default_rng(0)
    coarse = random.random((11, 10, 9)) > 0.5
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
                "patches_per_image": 1,
                "validation_slices": "5-6",
            }
            | MODES[request.param],
            "model": {"features": 2, "layers": 2},
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
    segment(config, result, listener)
    found = tifffile.imread(result / "segmentation.tif")[[5, 6]]
    true = tifffile.imread(tmp_path / "labels.tif")[[5, 6]]
    dice = [
        2 * ((found == value) & (true == value)).sum() / ((found == value).sum() + (true == value).sum())
        for value in (0, 255)
    ]
    assert np.mean(dice) == pytest.approx(val_dice, abs=1e-6)
