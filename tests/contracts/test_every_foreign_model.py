"""What every kind of file of another program keeps to: its own numbers, any size, tiles, clear errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from segcore.cli import main
from segcore.config import TrainingConfig, build_config
from segcore.devices import Hardware
from segcore.errors import ModelError, SegcoreError
from segcore.inference.run import segment
from segcore.models.saved import LoadedModel, find_model, hash_of, load_model
from segcore.models.segmenter import pad_behind
from segcore.predictor import Predictor
from segcore.training.run import train
from tests.foreign_models import FORMATS, KERAS, STEP, Made, make, needed, noise, say

CPU = Hardware(torch.device("cpu"), torch.bfloat16, channels_last=True)
"""In bf16, because a network of another program computes in float32 all the same."""
NEAR = 1e-4
TOLD = {"size_step": STEP, "halo": 24}
"""What need not be tried, where that is not what a test is about."""
SMALL = {"patch_size": 32, "patches_per_image": 2}
WINDOW = (48, 64)
PLAIN, COLOURS, SINGLE = (1, 2, "", ()), (3, 4, "softmax", ()), (1, 1, "sigmoid", WINDOW)
"""Channels, maps, what comes last, and the one size that is taken."""
ENGINES = [suffix for suffix in FORMATS if suffix != "h5"]
"""An HDF5 file differs from a Keras archive in how it is read only."""
Maker = Callable[..., Made]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Return what writes networks; every kind is written once."""

    @cache
    def once(suffix: str, kind: tuple[Any, ...]) -> Made:
        return make(tmp_path_factory.mktemp(suffix), suffix, *kind)

    return lambda suffix, kind=PLAIN: once(suffix, kind)


def load(path: Path) -> LoadedModel:
    return load_model(*find_model(path), CPU)


def predictor(path: Path, tile_size: int | None = None) -> Predictor:
    model = load(path)
    return Predictor(model.network, model.card, CPU, tile_size)


def alone(network: Made, image: np.ndarray, end: str = "") -> np.ndarray:
    """Return the probabilities that the network itself answers for an image, filled up as ours are."""
    maps = network.direct(pad_behind(torch.from_numpy(image)[None], (STEP, STEP)))[0].detach()
    maps = maps[:, : image.shape[1], : image.shape[2]]
    if end == "sigmoid":
        return torch.cat([1 - maps, maps]).numpy()
    return (maps if end == "softmax" else maps.softmax(0)).numpy()


@pytest.mark.parametrize("kind", [PLAIN, COLOURS], ids=["plain", "colours"])
@pytest.mark.parametrize("suffix", FORMATS)
def test_odd_sizes_are_predicted_as_by_the_network_itself(
    made: Maker, suffix: str, kind: tuple[Any, ...]
) -> None:
    network, (channels, maps, end, _) = made(suffix, kind), kind
    applied = predictor(say(network.path, maps, **needed(suffix, channels, **TOLD)))
    for sizes in ((33, 47), (STEP, 71)):
        image = noise(channels, *sizes)
        found = applied.probabilities(image)
        assert found.shape == (maps, *sizes)
        assert np.abs(found - alone(network, image, end)).max() < NEAR


@pytest.mark.parametrize("suffix", ENGINES)
def test_tiles_give_the_whole_image(made: Maker, suffix: str) -> None:
    """Step and reach are found by trying, memory by measuring: some 24 maps of float32 live at once."""
    path = say(made(suffix).path, 2, **needed(suffix))
    image, whole = noise(1, 230, 150), predictor(path)
    tiled = Predictor(whole.network, whole.card, CPU, tile_size=64)
    assert len(tiled.tiles(230, 150)) > 1
    assert whole.network.is_local
    assert whole.network.divisors == (STEP, STEP)
    assert 24 * 4 < whole.network.bytes_per_pixel(4) < 150 * 4
    assert (whole.logits(image) - tiled.logits(image)).abs().max() < NEAR


@pytest.mark.parametrize("suffix", ENGINES)
def test_a_network_of_one_size_and_one_map_takes_any_size_and_tells_two_classes(
    made: Maker, suffix: str
) -> None:
    network = made(suffix, SINGLE)
    size = {"input_size": WINDOW} if suffix == "pt" else {}
    path = say(network.path, 1, **needed(suffix, **size))
    applied = predictor(path)
    exact, small, large = noise(1, *WINDOW), noise(1, 30, 64), noise(1, 101, 207)
    assert np.abs(applied.probabilities(exact) - alone(network, exact, "sigmoid")).max() < NEAR
    filled = np.pad(small, ((0, 0), (0, 18), (0, 0)), "edge")
    answer = alone(network, filled, "sigmoid")[:, :30]
    assert np.abs(applied.probabilities(small) - answer).max() < NEAR
    whole, tiled = applied.probabilities(large), Predictor(applied.network, applied.card, CPU, tile_size=64)
    assert len(tiled.tiles(101, 207)) > 1
    assert np.abs(whole - tiled.probabilities(large)).max() < NEAR
    corner = alone(network, large[:, : WINDOW[0], : WINDOW[1]], "sigmoid")
    assert np.abs(whole[:, :20, :30] - corner[:, :20, :30]).max() < NEAR


@pytest.mark.parametrize("suffix", ENGINES)
def test_an_image_is_segmented_with_its_own_grey_values(made: Maker, suffix: str, tmp_path: Path) -> None:
    network = made(suffix)
    fixed = {"normalization": {"kind": "fixed", "offset": 10, "scale": 4}}
    image = noise(1, 36, 40) * 4 + 10
    applied = predictor(say(network.path, 2, **needed(suffix, **TOLD, **fixed)))
    assert np.abs(applied.probabilities(image) - alone(network, (image - 10) / 4)).max() < NEAR
    own = {"normalization": {"kind": "min-max", "range": [0, 1]}, "class_values": [3, 7]}
    say(network.path, 2, **needed(suffix, **TOLD, **own))
    tifffile.imwrite(tmp_path / "image.tif", image[0])
    options = {
        "data": {"images": str(tmp_path / "image.tif")},
        "inference": {"model": str(network.path)},
        "hardware": {"device": "cpu"},
    }
    segment(build_config(options), tmp_path / "result")
    answer = alone(network, (image - image.min()) / (image.max() - image.min()))
    sure = np.abs(answer[0] - answer[1]) > NEAR
    expected = np.array([3, 7])[answer.argmax(0)]
    found = tifffile.imread(tmp_path / "result" / "segmentation.tif")
    assert (found[sure] == expected[sure]).all()


@pytest.mark.parametrize("suffix", FORMATS)
def test_what_does_not_fit_is_told(made: Maker, suffix: str, tmp_path: Path) -> None:
    network = made(suffix)
    path = tmp_path / network.path.name
    path.write_bytes(network.path.read_bytes())

    def problem(**changes: object) -> str:
        say(path, 2, **(needed(suffix, **TOLD) | changes))
        with pytest.raises(SegcoreError) as error:
            load(path)
        assert error.value.remedy
        return error.value.message

    with pytest.raises(ModelError, match="has no description"):
        find_model(path)
    assert "normalization is missing" in problem(normalization=None)
    assert "class_names is missing" in problem(class_names=None)
    assert "names 3 classes" in problem(class_names=["a", "b", "c"])
    assert "channels" in problem(channels=3)
    assert "output is sigmoid, the file itself says logits" in problem(output="sigmoid")
    assert "colour is not" in problem(colour="red")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert "damaged" in problem()


@pytest.mark.parametrize("suffix", ENGINES)
def test_a_description_is_written_and_can_be_used(
    made: Maker, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = made(suffix, COLOURS)
    path = tmp_path / network.path.name
    path.write_bytes(network.path.read_bytes())
    words = ["describe", str(path), "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["open"] == ["normalization", "class_names"]
    written = json.loads(path.with_suffix(".json").read_text())
    assert (written["channels"], written["output"]) == (3, "probabilities")
    assert written["channels_last"] == (suffix in KERAS)
    assert written["size_step"] == [STEP, STEP]
    assert main(words) == 2  # what is there is not replaced unasked
    written |= {"normalization": {"kind": "none"}, "class_names": ["outside", "wall", "lumen", "dirt"]}
    path.with_suffix(".json").write_text(json.dumps(written))
    applied, image = predictor(path), noise(3, 50, 41)
    assert np.abs(applied.probabilities(image) - alone(network, image, "softmax")).max() < NEAR
    assert applied.card.class_names == ("outside", "wall", "lumen", "dirt")
    assert applied.network.receptive_radii == tuple(written["halo"])


def test_another_description_is_another_model(made: Maker) -> None:
    path = say(made("pt2").path, 2)
    before = hash_of(*find_model(path))
    say(path, 2, normalization={"kind": "fixed", "scale": 255})
    assert hash_of(*find_model(path)) != before


def test_it_teaches_a_network_of_this_program(made: Maker, tmp_path: Path) -> None:
    path = say(made("pt").path, 2, **needed("pt", **TOLD))
    stack = np.stack([noise(1, 64, 64, seed=seed)[0] for seed in range(3)])
    for name, pixels in (("raw.tif", stack), ("labels.tif", (stack > 0).astype(np.uint8))):
        tifffile.imwrite(tmp_path / name, pixels, imagej=True, metadata={"axes": "ZYX"})
    config = build_config(
        {
            "data": {"images": str(tmp_path / "raw.tif"), "labels": str(tmp_path / "labels.tif"), **SMALL},
            "model": {"features": 2, "layers": 2},
            "training": {"epochs": 1, "teacher": str(path)},
            "hardware": {"device": "cpu"},
        }
    )
    train(config, tmp_path / "student")
    results = json.loads((tmp_path / "student" / "results.json").read_text())
    assert results["teaching"]
    with pytest.raises(ModelError, match="can be applied, but not trained further"):
        train(config.model_copy(update={"training": TrainingConfig(start_from=str(path))}), tmp_path / "on")


def test_a_stack_is_segmented_on_the_command_line(
    made: Maker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = made("pt")
    path = say(network.path, 2, class_values=[3, 7], **needed("pt", **TOLD))
    stack = np.stack([noise(1, 61, 50, seed=seed)[0] for seed in range(2)])
    tifffile.imwrite(tmp_path / "raw.tif", stack, imagej=True, metadata={"axes": "ZYX"})
    target = tmp_path / "labels.tif"
    words = ["predict", "--inference.model", str(path), "--data.images", str(tmp_path / "raw.tif")]
    places = ["--output", str(target), "--workspace", str(tmp_path / "work")]
    assert main([*words, *places, "--hardware.device", "cpu"]) == 0, capsys.readouterr().err
    answers = [alone(network, plane[None]) for plane in stack]
    expected = np.stack([np.array([3, 7])[answer.argmax(0)] for answer in answers])
    assert (tifffile.imread(target) == expected).mean() > 0.999
