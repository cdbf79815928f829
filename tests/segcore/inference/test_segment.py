"""Segmentation: result, metadata, progress, stopping, and models that do not fit the image."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from segcore.card import ModelCard, PixelSize
from segcore.config import RunConfig
from segcore.data.open import open_source
from segcore.data.planes import Planes
from segcore.data.suitability import check_image
from segcore.devices import choose
from segcore.errors import ConfigError, DataError, JobError, ModelError
from segcore.events import Request, unasked
from segcore.files import sha256
from segcore.inference import image as image_module
from segcore.inference.run import segment
from segcore.models.saved import find_model, load_model
from segcore.predictor import Predictor

MakeConfig = Callable[..., RunConfig]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "result"
    path.mkdir()
    return path


def test_the_result_is_the_prediction_in_the_original_label_values(
    make_config: MakeConfig, folder: Path, model_folder: Path, image_file: Path, listener
) -> None:
    config = make_config()
    outcome = segment(config, folder, listener)
    hardware = choose(config.hardware)
    model = load_model(*find_model(model_folder), hardware)
    predictor = Predictor(model.network, model.card, hardware)
    result = tifffile.imread(folder / "segmentation.tif")
    for plane, image in zip(result, tifffile.imread(image_file), strict=True):
        assert (plane == np.array([0, 100, 255], np.uint8)[predictor.labels(image[None])]).all()
    assert not outcome.stopped
    values, counts = np.unique(result, return_counts=True)
    expected = {"0": 0, "100": 0, "255": 0} | dict(zip(map(str, values), counts.tolist(), strict=True))
    assert outcome.metrics["class_pixels"] == expected
    assert len(values) > 1


def test_the_result_has_axes_and_pixel_size_of_the_input(
    make_config: MakeConfig, folder: Path, listener
) -> None:
    segment(make_config(), folder, listener)
    source = open_source(folder / "segmentation.tif")
    assert (source.axes, source.shape, source.dtype) == ("ZYX", (3, 40, 33), np.uint8)
    assert source.pixel_size == PixelSize(z=0.5, y=0.1, x=0.1)


def test_tiles_give_the_same_result(make_config: MakeConfig, folder: Path, tmp_path: Path, listener) -> None:
    whole, tiled = make_config(), make_config(inference={"tile_size": 64})
    image = np.random.default_rng(1).integers(0, 256, (1, 150, 130)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "large.tif", image, imagej=True)
    data = {"images": str(tmp_path / "large.tif")}
    fp32 = {"device": "cpu", "precision": "fp32"}
    results = []
    for number, config in enumerate((whole, tiled)):
        place = folder / str(number)
        place.mkdir()
        values = config.model_dump() | {"data": config.data.model_dump() | data, "hardware": fp32}
        segment(RunConfig.model_validate(values), place, listener)
        results.append(tifffile.imread(place / "segmentation.tif"))
    assert (results[0] != results[1]).mean() < 1e-3
    assert any(event.unit == "tile" for event in listener.of("progress"))


def test_probabilities_are_written_on_request(make_config: MakeConfig, folder: Path, listener) -> None:
    segment(make_config(inference={"probabilities": True}), folder, listener)
    probabilities = open_source(folder / "probabilities.tif")
    assert (probabilities.axes, probabilities.shape) == ("ZCYX", (3, 3, 40, 33))
    values = tifffile.imread(folder / "probabilities.tif")
    np.testing.assert_allclose(values.sum(1), 1, rtol=1e-5)
    labels = tifffile.imread(folder / "segmentation.tif")
    assert (np.array([0, 100, 255])[values.argmax(1)] == labels).all()


def test_metadata_tell_how_to_do_it_again(
    make_config: MakeConfig, folder: Path, model_folder: Path, image_file: Path, listener
) -> None:
    segment(make_config(), folder, listener, unasked, reference="models:/cells@champion")
    assert json.loads((folder / "metadata.json").read_text())["model"] == "models:/cells@champion"
    outcome = segment(make_config(), folder, listener)
    metadata = json.loads((folder / "metadata.json").read_text())
    assert metadata["model"] == str(model_folder)
    assert metadata["model_sha256"] == sha256(model_folder / "best_model.pth")
    assert metadata["input_sha256"] == sha256(image_file)
    assert metadata["class_pixels"] == outcome.metrics["class_pixels"]
    assert sum(metadata["class_pixels"].values()) == 3 * 40 * 33
    assert metadata["seconds"] > 0
    assert {"segcore-studio", "torch", "python"} <= set(metadata["versions"])


def test_progress_counts_every_slice_to_the_end(make_config: MakeConfig, folder: Path, listener) -> None:
    segment(make_config(), folder, listener)
    progress = listener.of("progress")
    assert {(event.total, event.unit) for event in progress} == {(3, "slice")}
    done = [event.done for event in progress]
    assert done == sorted(set(done))
    assert done[-1] == 3
    assert progress[-1].seconds_left == 0
    assert [event.text.split()[0] for event in listener.of("stage")] == ["loading", "segmenting"]
    assert not listener.of("note")


def test_a_stop_leaves_no_result(make_config: MakeConfig, folder: Path, listener) -> None:
    config = make_config(inference={"probabilities": True})
    outcome = segment(config, folder, listener, lambda: Request.STOP)
    assert outcome.request is Request.STOP
    assert list(folder.iterdir()) == []


def test_a_loaded_model_can_be_given(
    make_config: MakeConfig, folder: Path, model_folder: Path, listener
) -> None:
    config = make_config(inference={"model": None})
    with pytest.raises(ConfigError, match=r"inference\.model is missing"):
        segment(config, folder, listener)
    outcome = segment(config, folder, listener, unasked, load_model(*find_model(model_folder)))
    assert outcome.metrics["slices"] == 3


def test_an_image_with_other_channels_is_refused(
    make_config: MakeConfig, folder: Path, tmp_path: Path, listener
) -> None:
    path = tmp_path / "rgb.tif"
    tifffile.imwrite(path, np.zeros((3, 20, 20), np.uint8), imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(ModelError, match="trained on 1 channel, the image has 3"):
        segment(make_config(data={"images": str(path)}), folder, listener)
    assert list(folder.iterdir()) == []


def test_what_is_no_image_is_refused(make_config: MakeConfig, folder: Path, tmp_path: Path, listener) -> None:
    path = tmp_path / "letter.tif"
    path.write_text("hello")
    with pytest.raises(DataError):
        segment(make_config(data={"images": str(path)}), folder, listener)
    with pytest.raises(ConfigError, match=r"data\.images is missing"):
        segment(make_config(data={"images": None}), folder, listener)


def test_a_disk_too_small_is_told_before_the_first_slice(
    make_config: MakeConfig, folder: Path, listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_small(place: Path, needed: int) -> None:
        raise JobError(f"{needed} bytes")

    monkeypatch.setattr(image_module, "check_space", too_small)
    with pytest.raises(JobError, match="bytes") as refused:
        segment(make_config(inference={"probabilities": True}), folder, listener)
    assert int(refused.value.message.split()[0]) >= 3 * 40 * 33 * (1 + 3 * 4)
    assert not listener.of("progress")


def test_other_pixels_than_in_training_are_warned_of(card: ModelCard, image_file: Path) -> None:
    planes = Planes(open_source(image_file))
    assert check_image(planes, card) == []
    close = card.model_copy(update={"pixel_size": PixelSize(y=0.104, x=0.104)})
    assert check_image(planes, close) == []
    (size_warning,) = check_image(planes, card.model_copy(update={"pixel_size": PixelSize(y=0.2, x=0.2)}))
    assert "0.1 instead of 0.2" in size_warning
    (type_warning,) = check_image(planes, card.model_copy(update={"dtype": "uint16"}))
    assert "uint16" in type_warning


def test_memory_does_not_grow_with_the_stack(
    make_config: MakeConfig, folder: Path, tmp_path: Path, listener
) -> None:
    peaks = []
    for count in (7, 28):  # the short stack also warms everything up
        path = tmp_path / f"{count}.tif"
        stack = np.random.default_rng(0).integers(0, 256, (count, 400, 400)).astype(np.uint8)
        tifffile.imwrite(path, stack, imagej=True, metadata={"axes": "ZYX"})
        tracemalloc.start()
        segment(make_config(data={"images": str(path)}), folder, listener)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The further slices take more than twice that; how many are on their way at once differs by chance.
    assert peaks[1] - peaks[0] < 400 * 400 * 8
