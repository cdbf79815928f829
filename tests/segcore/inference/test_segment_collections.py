"""Segmentation of many images, of volumes and of slices seen together; what cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segcore.card import ModelCard, Normalization, read_config, write_config
from segcore.config import HardwareConfig, RunConfig, build_config
from segcore.data.histograms import histogram_of
from segcore.data.open import open_source
from segcore.data.planes import Planes
from segcore.devices import choose
from segcore.errors import DataError
from segcore.inference.results import file_names
from segcore.inference.run import segment
from segcore.models.saved import find_model, load_model, save_weights
from segcore.models.unet import UNet
from segcore.prediction import Division, Prediction
from segcore.predictor import Predictor, to_labels

MakeConfig = Callable[..., RunConfig]
FP32 = choose(HardwareConfig(device="cpu", precision="fp32"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Make a folder of folders with images of different sizes and one name."""
    random = np.random.default_rng(0)
    for name, shape in {"a/cell.png": (40, 33), "c/cell.bmp": (20, 60), "b/cell.png": (64, 64)}.items():
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, shape).astype(np.uint8)).save(path)
    return tmp_path / "images"


def _save(folder: Path, card: ModelCard, network: UNet, **options: dict[str, object]) -> None:
    folder.mkdir(exist_ok=True)
    save_weights(network, folder / "best_model.pth")
    write_config(
        folder / "config.json", build_config({"model": {"features": 4, "layers": 2}, **options}), card
    )


def test_every_image_of_a_folder_gets_a_segmentation_of_its_size(
    make_config: MakeConfig, images: Path, tmp_path: Path, listener
) -> None:
    result = tmp_path / "result"
    outcome = segment(
        make_config(data={"images": str(images)}, inference={"probabilities": True}), result, listener
    )
    metadata = json.loads((result / "metadata.json").read_text())
    assert len(metadata["images"]) == 3
    assert metadata["failed"] == []
    total: dict[str, int] = {}
    for entry in metadata["images"]:
        written = tifffile.imread(result / entry["segmentation"])
        assert written.shape == Planes(open_source(entry["input"])).label_shape
        values, counts = np.unique(written, return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist(), strict=True):
            total[str(value)] = total.get(str(value), 0) + count
    assert {value: count for value, count in outcome.metrics["class_pixels"].items() if count} == total
    assert len(list(result.rglob("probabilities/**/*.tif"))) == 3
    assert [(event.done, event.total) for event in listener.of("progress")] == [(1, 3), (2, 3), (3, 3)]


def test_images_are_repaired_as_all_those_of_the_training_were(
    make_config: MakeConfig, model_folder: Path, image_file: Path, tmp_path: Path, listener
) -> None:
    segment(make_config(), tmp_path / "plain", listener)
    card = read_config(model_folder / "config.json")[1]
    assert card is not None
    recipe = ["images.invert", "[other.tif] images.invert", "labels.flip Y", "slices.drop 0"]
    config = build_config({"model": {"features": 4, "layers": 2}, "data": {"recipe": recipe}})
    write_config(model_folder / "config.json", config, card)
    image = tifffile.imread(image_file)
    tifffile.imwrite(image_file, 255 - image, imagej=True, metadata={"axes": "ZYX"})
    segment(make_config(), tmp_path / "inverted", listener)
    plain, inverted = (
        tifffile.imread(tmp_path / name / "segmentation.tif") for name in ("plain", "inverted")
    )
    np.testing.assert_array_equal(plain, inverted)
    assert any("inverted" in event.text for event in listener.of("note"))


def test_a_damaged_image_is_told_and_the_others_are_done(
    make_config: MakeConfig, images: Path, tmp_path: Path, listener
) -> None:
    (images / "a" / "cell.png").write_bytes((images / "a" / "cell.png").read_bytes()[:100])
    segment(make_config(data={"images": str(images)}), tmp_path / "result", listener)
    metadata = json.loads((tmp_path / "result" / "metadata.json").read_text())
    assert len(metadata["images"]) == 2
    assert [failed["name"] for failed in metadata["failed"]] == ["a/cell.png"]
    errors = [event for event in listener.of("note") if event.level == "error"]
    assert "a/cell.png" in errors[0].text


def test_only_damaged_images_are_an_error_and_leave_nothing(
    make_config: MakeConfig, images: Path, tmp_path: Path, listener
) -> None:
    for path in images.rglob("*.*"):
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError):
        segment(make_config(data={"images": str(images)}), tmp_path / "result", listener)
    assert list((tmp_path / "result").iterdir()) == []


def test_a_stop_between_images_leaves_no_result(
    make_config: MakeConfig, images: Path, tmp_path: Path, listener
) -> None:
    asked = iter([False, False, True])
    outcome = segment(
        make_config(data={"images": str(images)}), tmp_path / "result", listener, lambda: next(asked)
    )
    assert outcome.stopped
    assert list((tmp_path / "result").iterdir()) == []


names = st.lists(
    st.sampled_from(["a", "A", "b.c", "x y", "..", "ü", "a:b", "stack.h5::raw", "a.png", "a.tif", "a.png-2"]),
    min_size=1,
    max_size=3,
).map("/".join)


@given(names=st.lists(names, min_size=1, max_size=8, unique=True))
def test_no_two_results_have_one_name_and_none_leaves_the_folder(names: list[str]) -> None:
    found = file_names(names)
    assert len({name.casefold() for name in found}) == len(names)
    for name in found:
        assert name.endswith(".tif")
        assert ".." not in PurePosixPath(name).parts
        assert not PurePosixPath(name).is_absolute()


def test_slabs_of_a_time_lapse_of_volumes_give_what_whole_volumes_give(
    card: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strides = ((1, 2, 2), (2, 2, 2))
    torch.manual_seed(0)
    solid = card.model_copy(update={"mode": "3d", "strides": strides})
    _save(tmp_path / "model", solid, UNet(1, 3, 4, 2, strides))
    model = load_model(*find_model(tmp_path / "model"), FP32)
    stack = np.random.default_rng(0).integers(0, 256, (2, 30, 20, 20)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "movie.tif", stack, imagej=True, metadata={"axes": "TZYX"})
    images = Planes(open_source(str(tmp_path / "movie.tif")))
    whole = Predictor(model.network, model.card, FP32)
    assert len(Prediction(whole, images).blocks) == 2
    radii = whole.network.receptive_radii
    prediction = Prediction(whole, images, division=Division((10, 8, 12), radii))
    assert len(prediction.blocks) == 2 * 3 * 3 * 2
    found = torch.empty(3, 60, 20, 20)
    for group in prediction.stream(prediction.groups()):
        for block, logits in group:
            found[:, block.planes[0] : block.planes[-1] + 1, slice(*block.rows), slice(*block.columns)] = (
                logits
            )
    for time in range(2):
        expected = whole.logits(stack[time][None])
        torch.testing.assert_close(found[:, 30 * time : 30 * time + 30], expected, rtol=1e-4, atol=1e-4)


def test_neighbours_are_taken_from_the_same_volume_and_mirrored_at_its_ends(
    card: ModelCard, tmp_path: Path, listener
) -> None:
    torch.manual_seed(0)
    seen = card.model_copy(update={"mode": "2.5d", "context_slices": 3, "context_spacing": 2})
    _save(tmp_path / "model", seen, UNet(3, 3, 4, 2))
    stack = np.random.default_rng(0).integers(0, 256, (2, 4, 24, 20)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "movie.tif", stack, imagej=True, metadata={"axes": "TZYX"})
    config = build_config(
        {
            "data": {"images": str(tmp_path / "movie.tif")},
            "inference": {"model": str(tmp_path / "model")},
            "hardware": {"device": "cpu", "precision": "fp32"},
        }
    )
    segment(config, tmp_path / "result", listener)
    written = tifffile.imread(tmp_path / "result" / "segmentation.tif")
    predictor = Predictor(load_model(*find_model(tmp_path / "model"), FP32).network.eval(), seen, FP32)
    for time, plane, together in [(0, 0, (2, 0, 2)), (1, 3, (1, 3, 1)), (1, 2, (0, 2, 2))]:
        expected = to_labels(predictor.logits(stack[time][list(together)]))
        assert (written[time, plane] == np.array([0, 100, 255])[expected]).all()


def test_every_image_gets_its_own_statistics_where_the_model_wants_them(
    make_config: MakeConfig, card: ModelCard, model_folder: Path, tmp_path: Path, listener
) -> None:
    own = Normalization(kind="min-max", offset=(128.0,), scale=(128.0,), clip=(-3.0, 3.0), per="image")
    write_config(
        model_folder / "config.json",
        build_config({"model": {"features": 4, "layers": 2}}),
        card.model_copy(update={"normalization": own}),
    )
    stack = np.random.default_rng(0).integers(0, 100, (3, 40, 33)).astype(np.uint8)
    results = []
    for name, image in {"dark": stack, "bright": stack + 100}.items():
        tifffile.imwrite(tmp_path / f"{name}.tif", image, imagej=True, metadata={"axes": "ZYX"})
        segment(make_config(data={"images": str(tmp_path / f"{name}.tif")}), tmp_path / name, listener)
        results.append(tifffile.imread(tmp_path / name / "segmentation.tif"))
    assert (results[0] == results[1]).all()
    assert len(np.unique(results[0])) > 1


def test_grey_values_unlike_those_of_the_training_are_told_and_written(
    make_config: MakeConfig, card: ModelCard, model_folder: Path, image_file: Path, tmp_path: Path, listener
) -> None:
    trained = histogram_of([tifffile.imread(image_file)[:1] // 2])
    write_config(
        model_folder / "config.json",
        build_config({"model": {"features": 4, "layers": 2}}),
        card.model_copy(update={"histograms": trained}),
    )
    segment(make_config(), tmp_path / "result", listener)
    (warning,) = [event for event in listener.of("note") if "grey values" in event.text]
    assert warning.level == "warning"
    written = json.loads((tmp_path / "result" / "metadata.json").read_text())["grey_values"]
    assert written["differences"][0] > 0.5
    assert sum(written["new"][0]["counts"]) == 3 * 40 * 33
    assert written["trained"][0]["counts"] == list(trained[0].counts)


def test_the_channels_of_the_training_are_chosen_from_an_image_that_has_more(
    make_config: MakeConfig, card: ModelCard, model_folder: Path, tmp_path: Path, listener
) -> None:
    options = {"model": {"features": 4, "layers": 2}, "data": {"channels": "1"}}
    write_config(model_folder / "config.json", build_config(options), card)
    image = np.random.default_rng(0).integers(0, 256, (3, 40, 33)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "many.tif", image, imagej=True, metadata={"axes": "CYX"})
    tifffile.imwrite(tmp_path / "one.tif", image[1:2], imagej=True)
    results = []
    for name, data in {"many": {}, "one": {"channels": "0"}}.items():
        config = make_config(data={"images": str(tmp_path / f"{name}.tif")} | data)
        segment(config, tmp_path / name, listener)
        results.append(tifffile.imread(tmp_path / name / "segmentation.tif").squeeze())
    assert (results[0] == results[1]).all()


def test_of_many_images_every_remark_is_made_once_and_the_set_is_compared_as_a_whole(
    make_config: MakeConfig, card: ModelCard, model_folder: Path, tmp_path: Path, listener
) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "mixed").mkdir()
    dark_and_bright = [
        random.integers(low, low + 100, (1, 30, 30)).astype(np.uint16) for low in (0, 0, 150, 150)
    ]
    for number, image in enumerate(dark_and_bright):
        tifffile.imwrite(tmp_path / "mixed" / f"{number}.tif", image[0])
    trained = card.model_copy(update={"histograms": histogram_of(dark_and_bright)})
    write_config(model_folder / "config.json", build_config({"model": {"features": 4, "layers": 2}}), trained)
    segment(make_config(data={"images": str(tmp_path / "mixed")}), tmp_path / "result", listener)
    (note,) = [event.text for event in listener.of("note")]
    assert note.startswith("4 of 4 images (0.tif")
    assert "uint16" in note
    metadata = json.loads((tmp_path / "result" / "metadata.json").read_text())
    assert all(image["grey_values"]["differences"][0] > 0.5 for image in metadata["images"])
