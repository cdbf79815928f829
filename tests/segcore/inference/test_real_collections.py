"""Real folders, volumes and channels: training, evaluation and segmentation give the same numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segcore.config import build_config
from segcore.data.open import open_source
from segcore.data.planes import Planes
from segcore.inference.evaluate import evaluate
from segcore.inference.run import segment
from segcore.training.run import train

SETS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "imc_5channel_pancreas": ("images", "masks", {}),
    "two_channel_3d_fluorescence": ("raw.tif", "labels_ch1.tif", {"mode": "3d", "patch_depth": 8}),
    "confocal3d_ovule_cells": ("raw.tif", "labels.tif", {"mode": "2.5d", "context_spacing": 2}),
}


@pytest.mark.realdata
@pytest.mark.parametrize("name", SETS)
def test_a_real_set_goes_through_all_steps(
    name: str, real_data: Callable[[str], Path], tmp_path: Path, listener
) -> None:
    images, labels, options = SETS[name]
    folder = real_data(name)
    data = {
        "images": str(folder / images), "labels": str(folder / labels), "labels_as": "foreground",
        "patch_size": 32, "patches_per_image": 1, **options,
    }  # fmt: skip
    small = {"model": {"features": 2, "layers": 2}, "hardware": {"device": "cpu"}}
    trained = build_config({**small, "data": data, "training": {"epochs": 1, "batch_size": 4}})
    outcome = train(trained, tmp_path / "run")
    applied = build_config(
        {**small, "data": {"images": data["images"]}, "inference": {"model": str(tmp_path / "run")}}
    )
    scores = evaluate(applied.model_copy(update={"data": trained.data}), listener, part="validation")
    assert scores["val_dice"] == pytest.approx(outcome.metrics["val_dice"], abs=1e-6)
    segment(applied, tmp_path / "result", listener)
    entries = json.loads((tmp_path / "result" / "metadata.json").read_text())["images"]
    for entry in entries:
        written = Planes(open_source(str(tmp_path / "result" / entry["segmentation"])))
        image = Planes(open_source(entry["input"]))
        assert (written.count, written.height, written.width) == (image.count, image.height, image.width)
        assert set(np.unique(written.read(0))) <= {0, 1}
