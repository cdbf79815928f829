"""What is logged of a family predicts, by the code file beside the weights, what the engine predicts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from segcore.card import ModelCard, Normalization, write_config
from segcore.config import HardwareConfig, build_config
from segcore.devices import choose
from segcore.families import FAMILIES
from segcore.models.build import build_model
from segcore.models.saved import save_weights
from segcore.predictor import Predictor
from segcore.tracking import store

KINDS = ("unet-residual", "segformer-b0", "sensor3d")
"""Ours, a library's, and one that sees several slices; the U-Net is tested with the code file itself."""
VALUES = np.array([-1, 7, 300])


@pytest.fixture(scope="module")
def code() -> Any:
    """Import the code file, which sets MLflow's current model."""
    store.load_mlflow("mlflow.pyfunc")
    from segcore.tracking import pyfunc

    return pyfunc


@pytest.mark.parametrize("name", KINDS)
def test_a_logged_model_predicts_as_the_engine_does(code: Any, name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    slices = 1 if "2d" in FAMILIES[name].modes else 3
    mode = "2d" if slices == 1 else "2.5d"
    small = {"family": name, "features": 8, "layers": 2, "encoder": "mobilenet_v2"}
    config = build_config({"model": small, "data": {"mode": mode, "context_slices": 3}})
    card = ModelCard(
        channels=1,
        mode=mode,
        context_slices=slices,
        class_values=tuple(VALUES.tolist()),
        class_names=("a", "b", "c"),
        normalization=Normalization(kind="min-max", offset=(0.0,), scale=(255.0,)),
        axes="ZYX",
        dtype="uint8",
    )
    network = build_model(config.model, slices, 3, slices=slices).eval()
    save_weights(network, tmp_path / "best_model.pth")
    write_config(tmp_path / "config.json", config, card)
    logged = code.SegcoreModel()
    paths = {"weights": str(tmp_path / "best_model.pth"), "config": str(tmp_path / "config.json")}
    logged.load_context(SimpleNamespace(artifacts=paths))
    image_ZYX = np.random.default_rng(0).integers(0, 255, (3, 35, 50)).astype(np.uint8)
    labels_ZYX = logged.predict(None, image_ZYX)
    assert (labels_ZYX.shape, labels_ZYX.dtype) == ((3, 35, 50), np.int16)
    seen = image_ZYX if slices == 3 else image_ZYX[1:2]
    expected = VALUES[Predictor(network, card, choose(HardwareConfig())).labels(seen)]
    # Planes may go through the network together: rounding decides where two classes are as likely.
    assert (labels_ZYX[1] == expected).mean() > 0.99
