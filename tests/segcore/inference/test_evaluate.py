"""Evaluation: the scores of the prediction, by the same route as the segmentation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from segcore.card import read_config, write_config
from segcore.config import RunConfig, build_config
from segcore.errors import ConfigError, DataError
from segcore.inference.evaluate import evaluate
from segcore.inference.run import segment
from segcore.metrics.overlap import Confusion
from segcore.models.saved import save_weights
from segcore.models.unet import UNet

MakeConfig = Callable[..., RunConfig]


@pytest.fixture
def segmentation(make_config: MakeConfig, tmp_path: Path, listener) -> Path:
    folder = tmp_path / "result"
    folder.mkdir()
    segment(make_config(), folder, listener, lambda: False)
    return folder / "segmentation.tif"


def test_the_models_own_segmentation_scores_one(
    make_config: MakeConfig, segmentation: Path, listener
) -> None:
    scores = evaluate(make_config(data={"labels": str(segmentation)}), listener)
    assert scores["val_dice"] == scores["mean_iou"] == 1
    assert scores["slices"] == 3
    assert set(scores["val_dice_per_class"]) <= {"0", "100", "255"}


def test_scores_are_those_of_the_written_segmentation(
    make_config: MakeConfig, segmentation: Path, tmp_path: Path, listener
) -> None:
    labels = np.random.default_rng(5).choice(np.array([0, 100, 255], np.uint8), (3, 40, 33))
    tifffile.imwrite(tmp_path / "labels.tif", labels, imagej=True, metadata={"axes": "ZYX"})
    data = {"labels": str(tmp_path / "labels.tif"), "validation_slices": "1-2"}
    scores = evaluate(make_config(data=data), listener)
    confusion = Confusion(3)
    values = np.array([0, 100, 255])
    for index in (1, 2):
        prediction = np.searchsorted(values, tifffile.imread(segmentation)[index])
        target = np.searchsorted(values, labels[index])
        confusion.update(torch.from_numpy(prediction), torch.from_numpy(target))
    expected = confusion.scores((0, 100, 255))
    assert scores["slices"] == 2
    assert scores["val_dice"] == pytest.approx(expected.mean_dice, abs=1e-9)
    assert scores["val_dice_per_class"] == pytest.approx(expected.dice, abs=1e-9)
    assert scores["val_iou_per_class"] == pytest.approx(expected.iou, abs=1e-9)
    assert [event.done for event in listener.of("progress")][-2:] == [1, 2]


def test_values_the_model_does_not_know_are_refused(
    make_config: MakeConfig, tmp_path: Path, listener
) -> None:
    tifffile.imwrite(
        tmp_path / "labels.tif", np.full((3, 40, 33), 7, np.uint8), imagej=True, metadata={"axes": "ZYX"}
    )
    with pytest.raises(DataError, match="7"):
        evaluate(make_config(data={"labels": str(tmp_path / "labels.tif")}), listener)


def test_labels_of_another_shape_and_missing_labels_are_refused(
    make_config: MakeConfig, tmp_path: Path, listener
) -> None:
    tifffile.imwrite(
        tmp_path / "labels.tif", np.zeros((2, 40, 33), np.uint8), imagej=True, metadata={"axes": "ZYX"}
    )
    with pytest.raises(DataError, match="differ in shape"):
        evaluate(make_config(data={"labels": str(tmp_path / "labels.tif")}), listener)
    with pytest.raises(ConfigError, match=r"data\.labels are both needed"):
        evaluate(make_config(), listener)


def test_a_model_of_the_foreground_reads_numbered_objects_as_such(
    make_config: MakeConfig, model_folder: Path, tmp_path: Path, listener
) -> None:
    card = read_config(model_folder / "config.json")[1]
    assert card is not None
    card = card.model_copy(update={"class_values": (0, 1), "class_names": ("0", "1")})
    config = build_config({"model": {"features": 4, "layers": 2}, "data": {"labels_as": "foreground"}})
    write_config(model_folder / "config.json", config, card)
    save_weights(UNet(1, 2, 4, 2), model_folder / "best_model.pth")
    labels = np.random.default_rng(5).choice(np.array([0, 1, 2, 77], np.uint8), (3, 40, 33))
    tifffile.imwrite(tmp_path / "labels.tif", labels, imagej=True, metadata={"axes": "ZYX"})
    scores = evaluate(make_config(data={"labels": str(tmp_path / "labels.tif")}), listener)
    assert set(scores["val_dice_per_class"]) <= {"0", "1"}
