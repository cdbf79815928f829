"""What a logged model takes and gives, without MLflow's loader around it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tracking_runs import CARD

from segcore.card import Normalization, write_config
from segcore.config import RunConfig
from segcore.errors import DataError
from segcore.models.build import build_model
from segcore.tracking import store


@pytest.fixture(scope="module")
def code() -> Any:
    """Import the code file, which sets MLflow's current model."""
    store.load_mlflow("mlflow.pyfunc")
    from segcore.tracking import pyfunc

    return pyfunc


@pytest.fixture
def model(code: Any, tmp_path: Path, config: RunConfig) -> Callable[[int], Any]:
    """Make a loaded model for images of so many channels."""

    def make(channels: int) -> Any:
        card = CARD.model_copy(
            update={
                "channels": channels,
                "class_values": (-1, 7, 300),
                "class_names": ("a", "b", "c"),
                "normalization": Normalization(
                    kind="min-max", offset=(0.0,) * channels, scale=(255.0,) * channels
                ),
            }
        )
        torch.manual_seed(0)
        torch.save(build_model(config.model, channels, 3).state_dict(), tmp_path / "best_model.pth")
        write_config(tmp_path / "config.json", config, card)
        loaded = code.SegcoreModel()
        paths = {"weights": str(tmp_path / "best_model.pth"), "config": str(tmp_path / "config.json")}
        loaded.load_context(SimpleNamespace(artifacts=paths))
        return loaded

    return make


@pytest.mark.parametrize("channels", [1, 3])
def test_planes_are_segmented_alike_in_every_layout(model: Callable[[int], Any], channels: int) -> None:
    loaded = model(channels)
    image_ZCYX = np.random.default_rng(0).integers(0, 255, (2, channels, 37, 50)).astype(np.uint16)
    labels_ZYX = loaded.predict(None, image_ZCYX)
    assert labels_ZYX.shape == (2, 37, 50)
    assert labels_ZYX.dtype == np.int16
    assert set(np.unique(labels_ZYX)) <= {-1, 7, 300}
    assert len(np.unique(labels_ZYX)) > 1
    plane = image_ZCYX[1, 0] if channels == 1 else image_ZCYX[1]
    assert np.array_equal(loaded.predict(None, plane), labels_ZYX[1])
    assert np.array_equal(loaded.predict(None, plane.astype(np.float64)), labels_ZYX[1])
    if channels == 1:
        assert np.array_equal(loaded.predict(None, image_ZCYX[:, 0]), labels_ZYX)


@pytest.mark.parametrize("mode", ["2.5d", "3d"])
def test_a_stack_is_segmented_as_a_whole_where_the_model_looks_at_more_slices(
    code: Any, tmp_path: Path, config: RunConfig, mode: str
) -> None:
    seen = (
        {"mode": mode, "context_slices": 3} if mode == "2.5d" else {"mode": mode, "strides": ((1, 2, 2),) * 2}
    )
    card = CARD.model_copy(update=seen)
    options = config.model_copy(update={"model": config.model.model_copy(update={"layers": 2})})
    torch.manual_seed(0)
    network = build_model(options.model, card.inputs, len(card.class_values), card.strides)
    torch.save(network.state_dict(), tmp_path / "best_model.pth")
    write_config(tmp_path / "config.json", options, card)
    loaded = code.SegcoreModel()
    paths = {"weights": str(tmp_path / "best_model.pth"), "config": str(tmp_path / "config.json")}
    loaded.load_context(SimpleNamespace(artifacts=paths))
    image_ZYX = np.random.default_rng(0).integers(0, 255, (4, 37, 50)).astype(np.uint8)
    labels_ZYX = loaded.predict(None, image_ZYX)
    assert labels_ZYX.shape == image_ZYX.shape
    assert not np.array_equal(loaded.predict(None, image_ZYX[1]), labels_ZYX[1])


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 9), st.integers(1, 9))
def test_every_layout_becomes_planes_with_channels(code: Any, channels: int, z: int, y: int, x: int) -> None:
    image_ZCYX = np.arange(z * channels * y * x).reshape(z, channels, y, x)
    layouts = [image_ZCYX, image_ZCYX[:1]]
    if channels == 1:
        layouts += [image_ZCYX[:, 0], image_ZCYX[0, 0]]
    else:
        layouts.append(image_ZCYX[0])
    for layout in layouts:
        planes = code.as_planes(layout, channels)
        assert planes.shape[1:] == (channels, y, x)
        assert np.array_equal(planes, image_ZCYX[: len(planes)])


@pytest.mark.parametrize(
    ("shape", "channels", "words"),
    [
        ((2, 8, 8), 3, "has 2 channels.*images of 3 channels.*3 Y X or Z 3 Y X"),
        ((4, 2, 8, 8), 1, "has 2 channels.*Y X or Z Y X"),
        ((8, 8), 3, r"has the shape \(8, 8\).*3 Y X"),
        ((1, 1, 1, 8, 8), 1, "has the shape"),
        ((0, 8, 8), 1, "has the shape"),
    ],
)
def test_an_image_that_does_not_fit_is_refused(
    code: Any, shape: tuple[int, ...], channels: int, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        code.as_planes(np.zeros(shape), channels)


def test_what_is_not_a_number_is_refused(code: Any) -> None:
    with pytest.raises(DataError, match="not numbers"):
        code.as_planes(np.array([["a", "b"]]), 1)
