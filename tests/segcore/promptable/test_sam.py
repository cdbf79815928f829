"""SAM and SAM 2, as transformers writes and reads them: places, pictures, masks and what goes wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from known_objects import SIDE, write_sam, write_sam2, write_sam2_video, write_sam3

from segcore.config import HardwareConfig
from segcore.devices import Hardware, choose
from segcore.errors import DataError, ModelError
from segcore.promptable.cache import EmbeddingCache
from segcore.promptable.everything import find_everything
from segcore.promptable.promptable import KINDS as KNOWN
from segcore.promptable.promptable import Everything, Prompt
from segcore.promptable.sam import KINDS, Sam, colours, load_sam

WRITERS = {"sam": write_sam, "sam2": write_sam2, "sam3": write_sam3}


@pytest.fixture(scope="module")
def hardware() -> Hardware:
    return choose(HardwareConfig(device="cpu", precision="fp32"))


@pytest.fixture(scope="module", params=list(WRITERS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a tiny network of each kind."""
    writer: Callable[[Path], Path] = WRITERS[request.param]
    return writer(tmp_path_factory.mktemp("networks") / request.param)


@pytest.fixture(scope="module")
def network(folder: Path, hardware: Hardware) -> Sam:
    return load_sam(str(folder), hardware)


def _plane(rows: int = 50, columns: int = 90, channels: int = 0) -> np.ndarray:
    shape = (channels, rows, columns) if channels else (rows, columns)
    return np.random.default_rng(0).integers(0, 4000, shape).astype(np.uint16)


@pytest.mark.parametrize("shape", [(50, 90), (130, 31), (64, 64)])
def test_masks_have_the_size_of_the_plane(network: Sam, shape: tuple[int, int]) -> None:
    embedding = network.embed(_plane(*shape))
    assert embedding.size == shape
    assert max(embedding.share) == 1
    for prompt, count in (
        (Prompt(((3, 4),), (1,)), 3),
        (Prompt(((3, 4), (20, 25)), (1, 0)), 1),
        (Prompt(box=(2, 3, 20, 25)), 1),
        (Prompt(((3, 4),), (1,), (2, 3, 20, 25)), 1),
    ):
        found = network.mask(embedding, prompt)
        assert found.masks.shape == (count, *shape)
        assert found.masks.dtype == bool
        assert (np.diff(found.scores) <= 0).all()
        again = np.stack([network.enlarged(embedding, logits) > 0 for logits in found.logits])
        assert np.array_equal(found.masks, again)
    better = network.mask(embedding, Prompt(((3, 4),), (1,), logits=found.logits[0]))
    assert better.masks.shape == (1, *shape)


def test_many_points_are_answered_as_one_by_one(network: Sam) -> None:
    embedding = network.embed(_plane())
    points = np.array([[1.0, 2.0], [30.0, 80.0], [49.0, 0.0]])
    together = network.at_points(embedding, points)
    for at, point in enumerate(points):
        for whole, single in zip(together, network.at_points(embedding, point[None]), strict=True):
            np.testing.assert_allclose(whole[at], single[0], rtol=1e-4, atol=1e-4)
    found = find_everything(network, embedding, Everything(side=4, iou=0.0, stability=0.0, overlap=1.0))
    assert found.labels.shape == embedding.size


@pytest.mark.parametrize("folder", ["sam", "sam2"], indirect=True)  # those of SAM 3 are those of SAM 2
def test_points_and_pictures_are_those_of_the_library(network: Sam, folder: Path) -> None:
    from transformers import Sam2ImageProcessor, Sam2Processor, SamImageProcessor, SamProcessor

    square = {"height": SIDE, "width": SIDE}
    processor = (
        SamProcessor(SamImageProcessor(size={"longest_edge": SIDE}, pad_size=square))
        if folder.name == "sam"
        else Sam2Processor(Sam2ImageProcessor(size=square))
    )
    plane = np.random.default_rng(0).integers(0, 256, (3, 50, 90)).astype(np.uint8)
    given = processor(
        images=plane.transpose(1, 2, 0), input_points=[[[[80.0, 30.0], [2.0, 1.0]]]], return_tensors="pt"
    )
    embedding = network.embed(plane)
    places = network._places(embedding, np.array([[[30.0, 80.0], [1.0, 2.0]]]))
    torch.testing.assert_close(places, given["input_points"].float(), atol=0.05, rtol=0)
    seen, _ = network._seen(torch.from_numpy(colours(plane)))
    assert seen.shape == given["pixel_values"].shape
    assert (seen - given["pixel_values"]).abs().mean() < 0.05


def test_kept_embeddings_answer_as_fresh_ones(network: Sam, tmp_path: Path) -> None:
    cache, plane, prompt = EmbeddingCache(tmp_path), _plane(channels=2), Prompt(((10, 20),), (1,))
    fresh = network.mask(network.embed(plane), prompt)
    cache.embed(network, plane)
    kept = network.mask(cache.embed(network, plane), prompt)
    assert np.array_equal(fresh.logits, kept.logits)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_network_for_videos_answers_as_the_one_for_images(tmp_path: Path, hardware: Hardware) -> None:
    folder = write_sam2_video(tmp_path)
    assert json.loads((folder / "config.json").read_text())["model_type"] == "sam2_video"
    prompt, answers = Prompt(((10, 20),), (1,)), []
    for place in (folder, folder / "images"):
        network = load_sam(str(place), hardware)
        answers.append(network.mask(network.embed(_plane()), prompt).logits)
    np.testing.assert_allclose(*answers, rtol=1e-4, atol=1e-4)


def test_a_short_format_sees_the_same_and_is_kept_apart(network: Sam, folder: Path) -> None:
    other = load_sam(str(folder), choose(HardwareConfig(device="cpu", precision="bf16")))
    assert other.key != network.key
    for exact, short in zip(network.embed(_plane()).features, other.embed(_plane()).features, strict=True):
        exact, short = exact.astype(np.float32), short.astype(np.float32)
        assert np.abs(exact - short).mean() < 0.03 * np.abs(exact).max()
        assert not np.array_equal(exact, short)


def test_other_weights_have_another_key(
    network: Sam, folder: Path, hardware: Hardware, tmp_path: Path
) -> None:
    other = shutil.copytree(folder, tmp_path / "other")
    options = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**options, "initializer_range": 0.5}))
    assert load_sam(str(other), hardware).key != network.key
    assert load_sam(str(folder), hardware).key == network.key


def test_what_cannot_be_loaded_is_named(
    folder: Path, hardware: Hardware, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants as constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="switched off"):
        load_sam("someone/some-network", hardware)
    with pytest.raises(ModelError, match=r"config\.json"):
        load_sam(str(tmp_path), hardware)
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes(b"cut off")
    with pytest.raises(ModelError, match="cannot be read"):
        load_sam(str(broken), hardware)
    (broken / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="bert"):
        load_sam(str(broken), hardware)
    (broken / "config.json").write_text("[")
    with pytest.raises(ModelError, match="cannot be read"):
        load_sam(str(broken), hardware)


NUMBERS = st.sampled_from([np.uint8, np.uint16, np.int16, np.float32])


@settings(max_examples=40, deadline=None)
@given(st.data(), NUMBERS, st.integers(1, 5))
def test_any_plane_becomes_a_picture(data: st.DataObject, dtype: type, channels: int) -> None:
    plane = data.draw(arrays.arrays(dtype, (channels, 5, 7)))
    picture = colours(plane)
    assert picture.shape == (3, 5, 7)
    assert picture.dtype == np.float32
    assert np.isfinite(picture).all()
    assert 0 <= picture.min() <= picture.max() <= 1
    if channels == 1:
        assert (picture == picture[0]).all()
        assert np.array_equal(colours(plane[0]), picture)
    if channels == 2:
        assert not picture[2].any()


def test_brightness_and_contrast_make_no_difference() -> None:
    plane = np.random.default_rng(0).random((2, 20, 30)).astype(np.float32)
    np.testing.assert_allclose(colours(plane), colours(plane * 1000 + 300), atol=1e-3)
    for wrong in (np.zeros((2, 2, 4, 4)), np.zeros((0, 5)), np.zeros(5)):
        with pytest.raises(DataError, match="cannot be seen"):
            colours(wrong)


def test_every_kind_can_be_chosen_on_the_page() -> None:
    assert set(KNOWN) == set(KINDS)
