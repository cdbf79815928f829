"""Evaluation: the scores of the prediction, by the same route as the segmentation."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from segcore.card import ModelCard, read_config, write_config
from segcore.config import RunConfig, build_config
from segcore.data.collection import open_collection
from segcore.data.dataset import data_hash
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
    segment(make_config(), folder, listener)
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
    assert scores["val_precision_per_class"] == pytest.approx(expected.precision, abs=1e-9)
    assert scores["val_recall_per_class"] == pytest.approx(expected.recall, abs=1e-9)
    assert scores["val_accuracy"] == pytest.approx(expected.accuracy, abs=1e-9)
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


def _own_training(
    model_folder: Path, card: ModelCard, data: dict[str, object], split: dict[str, object]
) -> None:
    """Let the model be one that was trained on these files, divided so."""
    config = build_config({"model": {"features": 4, "layers": 2}, "data": data})
    collection = open_collection(config.data)
    known = card.model_copy(update={"data_hash": data_hash(collection)})
    write_config(model_folder / "config.json", config, known)
    (model_folder / "split.json").write_text(json.dumps(split))


def _slices(*numbers: int) -> list[dict[str, object]]:
    return [{"image": "image.tif", "slices": [number, number + 1], "rows": [0, 40]} for number in numbers]


def test_the_test_part_of_the_training_is_what_counts_by_default(
    make_config: MakeConfig,
    segmentation: Path,
    model_folder: Path,
    image_file: Path,
    card: ModelCard,
    listener,
) -> None:
    labels = tifffile.imread(segmentation)
    labels[:2] = 100  # only the last slice is right
    tifffile.imwrite(segmentation, labels, imagej=True, metadata={"axes": "ZYX"})
    data = {"images": str(image_file), "labels": str(segmentation)}
    split = {"train": _slices(0), "validation": _slices(1), "test": _slices(2)}
    _own_training(model_folder, card, data, split)
    scores = evaluate(make_config(data=data), listener)
    assert (scores["part"], scores["slices"], scores["val_dice"]) == ("test", 1, 1.0)
    scores = evaluate(make_config(data=data), listener, part="validation")
    assert (scores["part"], scores["slices"]) == ("validation", 1)
    assert scores["val_dice"] < 1
    assert evaluate(make_config(data=data), listener, part="all")["slices"] == 3
    without = evaluate(make_config(data={"images": None}), listener)
    assert (without["part"], without["val_dice"]) == ("test", 1)


def test_the_images_of_the_training_come_with_their_mask(
    make_config: MakeConfig,
    segmentation: Path,
    model_folder: Path,
    image_file: Path,
    card: ModelCard,
    tmp_path: Path,
    listener,
) -> None:
    labels = tifffile.imread(segmentation)
    mask = np.zeros(labels.shape, np.uint8)
    mask[:, :20] = 1
    labels[mask == 0] = 100  # where nobody annotated
    tifffile.imwrite(segmentation, labels, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "mask.tif", mask, imagej=True, metadata={"axes": "ZYX"})
    data = {"images": str(image_file), "labels": str(segmentation)}
    split = {"train": _slices(0), "validation": _slices(1, 2), "test": []}
    _own_training(model_folder, card, data | {"mask": str(tmp_path / "mask.tif")}, split)
    scores = evaluate(make_config(data=data), listener, part="validation")
    assert (scores["slices"], scores["val_dice"]) == (2, 1)


def test_the_images_of_the_training_come_with_its_further_sets(
    make_config: MakeConfig,
    segmentation: Path,
    model_folder: Path,
    image_file: Path,
    card: ModelCard,
    tmp_path: Path,
    listener,
) -> None:
    for path, name in ((image_file, "more.tif"), (segmentation, "more-labels.tif")):
        shutil.copy(path, tmp_path / name)
    more = {"images": str(tmp_path / "more.tif"), "labels": str(tmp_path / "more-labels.tif")}
    data = {"images": str(image_file), "labels": str(segmentation), "sets": [more | {"use": "validation"}]}
    names = [entry.item.name for entry in open_collection(build_config({"data": data}).data).entries]
    split: dict[str, object] = {
        part: [{"image": name, "slices": [0, 3], "rows": [0, 40]}]
        for part, name in zip(("train", "validation"), names, strict=True)
    }
    _own_training(model_folder, card, data, split | {"test": []})
    # The command line writes out every path it was given, and that there are no further sets.
    given = make_config(data={"images": None})
    given = given.model_copy(update={"data": given.data.with_addresses(str)})
    scores = evaluate(given, listener, part="validation")
    assert (scores["slices"], scores["images"], scores["val_dice"]) == (3, 1, 1)


def test_other_images_have_no_parts(
    make_config: MakeConfig,
    segmentation: Path,
    model_folder: Path,
    image_file: Path,
    card: ModelCard,
    listener,
) -> None:
    data = {"images": str(image_file), "labels": str(segmentation)}
    split = {"train": _slices(0), "validation": _slices(1, 2), "test": []}
    _own_training(model_folder, card, data, split)
    with pytest.raises(ConfigError, match="kept nothing for the test"):
        evaluate(make_config(data=data), listener, part="test")
    labels = tifffile.imread(segmentation)
    tifffile.imwrite(segmentation, labels[:, ::-1], imagej=True, metadata={"axes": "ZYX"})
    assert evaluate(make_config(data=data), listener)["part"] == "all"
    with pytest.raises(ConfigError, match="no validation part"):
        evaluate(make_config(data=data), listener, part="validation")


def test_a_kept_epoch_and_a_lost_split(
    make_config: MakeConfig,
    segmentation: Path,
    model_folder: Path,
    image_file: Path,
    card: ModelCard,
    listener,
) -> None:
    data = {"images": str(image_file), "labels": str(segmentation)}
    split = {"train": _slices(0), "validation": _slices(1, 2), "test": []}
    _own_training(model_folder, card, data, split)
    kept = model_folder / "checkpoints" / "epoch-0001.pth"
    kept.parent.mkdir()
    shutil.copy(model_folder / "best_model.pth", kept)
    config = make_config(data=data, inference={"model": str(kept)})
    assert evaluate(config, listener, part="validation")["slices"] == 2
    assert not any("learned" in note.text for note in listener.of("note"))
    (model_folder / "split.json").unlink()
    assert evaluate(config, listener)["part"] == "all"
    assert any("learned" in note.text for note in listener.of("note"))
    with pytest.raises(ConfigError, match="no validation part"):
        evaluate(config, listener, part="validation")


def test_only_annotated_pixels_count(
    make_config: MakeConfig, segmentation: Path, tmp_path: Path, listener
) -> None:
    labels = tifffile.imread(segmentation)
    hidden = np.random.default_rng(0).random(labels.shape) < 0.7
    labels[hidden] = 7
    labels[1] = 7
    tifffile.imwrite(tmp_path / "sparse.tif", labels, imagej=True, metadata={"axes": "ZYX"})
    data = {"labels": str(tmp_path / "sparse.tif"), "unlabelled_value": 7}
    scores = evaluate(make_config(data=data), listener)
    assert (scores["val_dice"], scores["slices"]) == (1, 2)
    labels[:] = 7
    tifffile.imwrite(tmp_path / "sparse.tif", labels, imagej=True, metadata={"axes": "ZYX"})
    with pytest.raises(DataError, match="annotated"):
        evaluate(make_config(data=data), listener)


def test_all_images_of_a_folder_are_scored_together(
    make_config: MakeConfig, model_folder: Path, tmp_path: Path, listener
) -> None:
    random = np.random.default_rng(0)
    for number, shape in enumerate([(40, 33), (20, 50)]):
        image = random.integers(0, 256, shape).astype(np.uint8)
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / "images" / f"{number}.tif", image)
    segment(make_config(data={"images": str(tmp_path / "images")}), tmp_path / "result", listener)
    for path in (tmp_path / "result" / "segmentation").iterdir():
        shutil.copy(path, tmp_path / "labels" / path.name)
    data = {"images": str(tmp_path / "images"), "labels": str(tmp_path / "labels")}
    scores = evaluate(make_config(data=data), listener)
    assert (scores["val_dice"], scores["images"], scores["slices"]) == (1, 2, 2)
