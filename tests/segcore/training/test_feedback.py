"""Visual feedback: the right part, the prediction of the whole slice, one picture per epoch, and no harm."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from trainings import config_for

from segcore.config import build_config
from segcore.data.dataset import TrainingData, load_training_data
from segcore.data.neighbours import neighbours
from segcore.devices import choose
from segcore.events import Event, NoteEvent
from segcore.jobs.feedback import LARGEST, UNANNOTATED, Window, read_scene, shots, want
from segcore.models.unet import UNet
from segcore.predictor import Predictor
from segcore.training.described import model_card
from segcore.training.feedback import Feedback, choose_window


@pytest.fixture
def wide(tmp_path: Path) -> TrainingData:
    """Two planes of 300 × 420 px: two classes meet in a corner of the second, which validates."""
    rng = np.random.default_rng(5)
    labels = np.zeros((2, 300, 420), np.uint8)
    labels[0, :, ::2] = 1
    labels[1, 40:60, 350:400] = 1
    labels[1, 70:80, 350:400] = 2
    labels[1, 200:290, 5:150] = 1
    labels[0, 0, 0] = 2
    raw = rng.integers(0, 60000, labels.shape).astype(np.uint16)
    tifffile.imwrite(tmp_path / "raw.tif", raw, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "labels.tif", labels, imagej=True, metadata={"axes": "ZYX"})
    return data_of(tmp_path, validation_slices="1")


def data_of(folder: Path, **options: Any) -> TrainingData:
    paths = {"images": str(folder / "raw.tif"), "labels": str(folder / "labels.tif"), "patch_size": 32}
    return load_training_data(build_config({"data": {**paths, **options}, "model": {"layers": 2}}).data)


def predictor_of(data: TrainingData, seed: int = 0) -> Predictor:
    torch.manual_seed(seed)
    strides = ((1, 2, 2), (2, 2, 2)) if data.mode == "3d" else ()
    card = model_card(data, 1, strides)
    network = UNet(card.inputs, len(data.class_values), 4, 2, strides)
    return Predictor(network, card, choose(config_for(Path()).hardware))


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def test_the_part_chosen_is_where_most_classes_meet(wide: TrainingData) -> None:
    window = choose_window(wide)
    assert window.plane == 1
    assert (window.height, window.width) == (256, 256)
    shown = wide.validation[0].label_ZYX[0][window.row :, window.column :][:256, :256]
    assert set(np.unique(shown)) == {0, 1, 2}
    assert choose_window(wide) == window


def test_the_prediction_of_a_part_is_that_of_the_whole_slice(wide: TrainingData, tmp_path: Path) -> None:
    predictor = predictor_of(wide)
    Feedback(tmp_path, wide, predictor, "1,101,203,77,90").save(1)
    (shot,) = shots(tmp_path)
    whole = predictor.labels(wide.validation[0].image_ZCYX[0])[101:178, 203:293]
    assert len(np.unique(whole)) > 1
    np.testing.assert_array_equal(picture(shot.path), whole)
    label_YX = wide.validation[0].label_ZYX[0]
    np.testing.assert_array_equal(picture(shot.folder / "label.png"), label_YX[101:178, 203:293])
    scene = read_scene(shot.folder)
    assert scene is not None
    assert scene.window == Window.parse("1,101,203,77,90")
    assert scene.class_values == wide.class_values
    assert not scene.trained


def test_the_image_is_saved_with_robust_contrast(wide: TrainingData, tmp_path: Path) -> None:
    raw = tifffile.imread(tmp_path / "raw.tif")
    raw[1, 150, 250] = 65535  # one hot pixel must not make the rest dark
    tifffile.imwrite(tmp_path / "raw.tif", raw, imagej=True, metadata={"axes": "ZYX"})
    Feedback(tmp_path, wide, predictor_of(wide), "1,101,203,77,90").save(1)
    grey = picture(shots(tmp_path)[0].folder / "image.png")
    assert grey.shape == (77, 90)
    assert np.percentile(grey, 99) > 240
    assert np.percentile(grey, 1) < 15


def test_rows_of_a_single_plane_are_shown_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random((160, 96)) > 0.5).astype(np.uint8)
    tifffile.imwrite(tmp_path / "raw.tif", rng.integers(0, 255, (160, 96)).astype(np.uint8))
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    data = data_of(tmp_path)
    border = data.split.validation[0].rows[0]
    assert choose_window(data).row >= border
    predictor = predictor_of(data)
    Feedback(tmp_path / "run", data, predictor, f"0,{border - 20},10,40,40").save(1)
    (shot,) = shots(tmp_path / "run")
    whole = predictor.labels(tifffile.imread(tmp_path / "raw.tif")[None])
    part = np.s_[border - 20 : border + 20, 10:50]
    np.testing.assert_array_equal(picture(shot.path), whole[part])
    np.testing.assert_array_equal(picture(shot.folder / "label.png"), labels[part])
    assert read_scene(shot.folder).trained  # type: ignore[union-attr]


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """Eleven planes of 80 × 70 px."""
    rng = np.random.default_rng(5)
    raw = rng.integers(0, 255, (11, 80, 70)).astype(np.uint8)
    for name, stack in (("raw.tif", raw), ("labels.tif", (raw > 128).astype(np.uint8))):
        tifffile.imwrite(tmp_path / name, stack, imagej=True, metadata={"axes": "ZYX"})
    return tmp_path


@pytest.mark.parametrize("plane", [0, 5, 10])
@pytest.mark.parametrize("mode", ["2.5d", "3d"])
def test_the_prediction_of_a_part_is_that_of_the_whole_volume(deep: Path, mode: str, plane: int) -> None:
    data = data_of(deep, mode=mode, patch_depth=8, validation_slices="4-6")
    predictor = predictor_of(data)
    predictor.hardware = replace(predictor.hardware, dtype=torch.float32)
    Feedback(deep / "run", data, predictor, f"{plane},10,20,40,30").save(1)
    (shot,) = shots(deep / "run")
    raw = tifffile.imread(deep / "raw.tif")
    if mode == "3d":
        whole = predictor.logits(raw[None])[:, plane]
    else:
        whole = predictor.logits(raw[[*neighbours(plane, 11, 3)]])
    part = whole[:, 10:50, 20:50].sort(0).values
    # Where two classes are as good as equal, the order of sums may decide.
    clear = (part[-1] - part[-2] > 1e-4).numpy()
    assert clear.mean() > 0.99
    expected = whole.argmax(0).numpy()[10:50, 20:50]
    np.testing.assert_array_equal(picture(shot.path)[clear], expected[clear])


def test_what_is_kept_for_the_test_is_not_shown(wide: TrainingData, tmp_path: Path) -> None:
    split = replace(wide.split, train=(), test=wide.split.train)
    told: list[Event] = []
    Feedback(tmp_path, replace(wide, split=split), predictor_of(wide), "0,0,0,64,64", told.append).save(1)
    (note,) = told
    assert isinstance(note, NoteEvent)
    assert "kept for the test" in note.text
    assert read_scene(shots(tmp_path)[0].folder).window.plane == 1  # type: ignore[union-attr]


def test_another_part_is_taken_up_at_the_next_epoch(wide: TrainingData, tmp_path: Path) -> None:
    feedback = Feedback(tmp_path, wide, predictor_of(wide), "1,0,0,64,64")
    feedback.save(1)
    want(tmp_path, Window.parse("0,8,16,32,48"))
    feedback.save(2)
    want(tmp_path, None)
    feedback.save(3)
    parts = [read_scene(shot.folder).window for shot in shots(tmp_path)]  # type: ignore[union-attr]
    assert parts == [Window.parse("1,0,0,64,64"), Window.parse("0,8,16,32,48"), choose_window(wide)]
    assert [picture(shot.path).shape for shot in shots(tmp_path)] == [(64, 64), (32, 48), (256, 256)]
    for shot in shots(tmp_path):
        assert picture(shot.folder / "image.png").shape == picture(shot.path).shape
    # A run that is taken up shows what was asked for last.
    want(tmp_path, Window.parse("0,8,16,32,48"))
    Feedback(tmp_path, wide, predictor_of(wide), "1,0,0,64,64").save(4)
    assert shots(tmp_path)[-1].folder.name == "0-8-16-32-48"


def test_epochs_done_again_are_shown_once_and_anew(wide: TrainingData, tmp_path: Path) -> None:
    feedback = Feedback(tmp_path, wide, predictor_of(wide), "1,0,0,64,64")
    for epoch in (1, 2, 3):
        feedback.save(epoch)
    before = {shot.epoch: picture(shot.path) for shot in shots(tmp_path)}
    want(tmp_path, Window.parse("0,8,16,32,48"))
    again = Feedback(tmp_path, wide, predictor_of(wide, seed=1), "1,0,0,64,64")
    again.save(2)
    assert [(shot.epoch, shot.folder.name) for shot in shots(tmp_path)] == [
        (1, "1-0-0-64-64"), (2, "0-8-16-32-48"),
    ]  # fmt: skip
    np.testing.assert_array_equal(picture(shots(tmp_path)[0].path), before[1])
    want(tmp_path, None)
    Feedback(tmp_path, wide, predictor_of(wide, seed=1), "1,0,0,64,64").save(2)
    assert len(shots(tmp_path)) == 2


def test_a_part_that_does_not_exist_is_told_and_another_shown(wide: TrainingData, tmp_path: Path) -> None:
    told: list[Event] = []
    feedback = Feedback(tmp_path, wide, predictor_of(wide), "7,0,0,64,64", told.append)
    feedback.save(1)
    feedback.save(2)
    assert [read_scene(shot.folder).window for shot in shots(tmp_path)] == [choose_window(wide)] * 2  # type: ignore[union-attr]
    (note,) = told
    assert isinstance(note, NoteEvent)
    assert "slices 0 to 1" in note.text
    # Too large, or over the edge: what can be shown is shown.
    want(tmp_path, Window.parse("0,250,400,9999,9999"))
    feedback.save(3)
    assert shots(tmp_path)[-1].folder.name == "0-0-0-300-420"
    assert len(told) == 1


def test_no_picture_is_worth_the_training(wide: TrainingData, tmp_path: Path) -> None:
    told: list[Event] = []
    folder = tmp_path / "run"
    folder.write_text("not a folder")
    feedback = Feedback(folder, wide, predictor_of(wide), "1,0,0,64,64", told.append)
    feedback.save(1)
    feedback.save(2)
    assert len(told) == 1
    folder.unlink()
    feedback.save(3)
    assert [shot.epoch for shot in shots(folder)] == [3]


def test_500_epochs_stay_a_few_megabytes(wide: TrainingData, tmp_path: Path) -> None:
    blobs = np.kron(np.random.default_rng(0).integers(0, 3, (16, 16)), np.ones((16, 16))).astype(np.uint8)
    predictor = predictor_of(wide)
    answer = torch.from_numpy(np.eye(3)[np.pad(blobs, ((0, 99), (0, 99)))]).permute(2, 0, 1)
    predictor.logits = lambda image, **_: answer[:, : image.shape[1], : image.shape[2]]  # type: ignore[method-assign]
    Feedback(tmp_path, wide, predictor).save(1)
    assert 500 * shots(tmp_path)[0].path.stat().st_size < 5e6


def test_unannotated_pixels_are_told_apart(wide: TrainingData, tmp_path: Path) -> None:
    labels = tifffile.imread(tmp_path / "labels.tif")
    labels[1, :10] = 9
    tifffile.imwrite(tmp_path / "labels.tif", labels, imagej=True, metadata={"axes": "ZYX"})
    data = data_of(tmp_path, validation_slices="1", unlabelled_value=9)
    Feedback(tmp_path, data, predictor_of(data), "1,0,0,64,64").save(1)
    label = picture(shots(tmp_path)[0].folder / "label.png")
    assert (label[:10] == UNANNOTATED).all()
    assert (label[10:] < 3).all()


@pytest.mark.parametrize("text", ["0,0,0,1,1", "3,-9,-9,700,20", "0,290,410,30,30", "0,5,5,600,600"])
def test_a_part_is_always_inside_its_slice(text: str) -> None:
    for height, width in ((300, 420), (8, 2000), (512, 16)):
        part = Window.parse(text).fitted(height, width)
        assert 0 <= part.row <= part.row + part.height <= height
        assert 0 <= part.column <= part.column + part.width <= width
        assert part.height <= LARGEST
        assert part.fitted(height, width) == part


def test_damaged_wishes_and_scenes_are_passed_over(wide: TrainingData, tmp_path: Path) -> None:
    folder = tmp_path / "previews" / "feedback"
    folder.mkdir(parents=True)
    (folder / "wanted.json").write_text('{"regi')
    Feedback(tmp_path, wide, predictor_of(wide), "1,0,0,64,64").save(1)
    (shot,) = shots(tmp_path)
    content = json.loads((shot.folder / "scene.json").read_text())
    assert content["window"]["height"] == 64
    (shot.folder / "scene.json").write_text("{")
    assert read_scene(shot.folder) is None
