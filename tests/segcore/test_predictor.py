"""Prediction: tiles equal the whole, statistics belong to the data set, the network is left as it was."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segcore.card import ModelCard, Normalization
from segcore.config import HardwareConfig
from segcore.devices import Hardware, choose
from segcore.errors import DataError
from segcore.models.unet import UNet
from segcore.predictor import Predictor

CARD = ModelCard(
    channels=2,
    class_values=(0, 100, 255),
    class_names=("a", "b", "c"),
    normalization=Normalization(kind="z-score", offset=(100.0, 50.0), scale=(40.0, 60.0), clip=(-5.0, 5.0)),
    axes="ZCYX",
    dtype="uint8",
)
FP32 = choose(HardwareConfig(device="cpu", precision="fp32"))


def _network() -> UNet:
    torch.manual_seed(3)
    network = UNet(2, 3, 3, 2)
    with torch.no_grad():
        for _ in range(3):  # running statistics that are not 0 and 1
            network(torch.randn(2, 2, 32, 32))
    return network


def _image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (2, height, width)).astype(np.uint8)


class _SmallMachine(Hardware):
    """A CPU with 2 MB left."""

    def free_memory(self) -> int:
        return 2_000_000


@given(height=st.integers(1, 90), width=st.integers(1, 90), tile=st.sampled_from([20, 32]))
@settings(deadline=None, max_examples=10)
def test_tiled_prediction_is_whole_prediction(height: int, width: int, tile: int) -> None:
    network, image = _network(), _image(height, width)
    whole = Predictor(network, CARD, FP32)
    tiled = Predictor(network, CARD, FP32, tile_size=tile)
    assert len(whole.tiles(height, width)) == 1
    torch.testing.assert_close(tiled.logits(image), whole.logits(image), rtol=1e-4, atol=1e-4)


def test_too_small_a_halo_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    network, image = _network(), _image(96, 96)
    whole = Predictor(network, CARD, FP32).logits(image)
    monkeypatch.setattr(network, "receptive_radii", (4, 4))
    tiled = Predictor(network, CARD, FP32, tile_size=32).logits(image)
    assert (tiled - whole).abs().max() > 1e-3


def test_a_plane_that_does_not_fit_into_memory_is_tiled_to_the_same_result() -> None:
    network, image = _network(), _image(300, 210)
    small = Predictor(network, CARD, _SmallMachine(**dataclasses.asdict(FP32)))
    tiles = small.tiles(300, 210)
    assert len(tiles) > 1
    per_pixel = network.bytes_per_pixel(4)
    areas = [np.prod([part.stop - part.start for part in tile.read]) for tile in tiles]
    assert max(areas) * per_pixel <= 1_000_000
    torch.testing.assert_close(
        small.logits(image), Predictor(network, CARD, FP32).logits(image), rtol=1e-4, atol=1e-4
    )


def test_memory_below_one_tile_still_gives_aligned_tiles() -> None:
    network = _network()
    predictor = Predictor(network, CARD, _SmallMachine(**dataclasses.asdict(FP32)))
    network.bytes_per_pixel = lambda itemsize: 10**6  # type: ignore[method-assign]
    assert {tile.rows.stop - tile.rows.start for tile in predictor.tiles(8, 8)} == {4}


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training: bool) -> None:
    network = _network().train(training)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    Predictor(network, CARD, FP32).logits(_image(20, 20))
    assert network.training is training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_labels_are_the_most_probable_classes() -> None:
    predictor, image = Predictor(_network(), CARD, FP32), _image(33, 20)
    probabilities = predictor.probabilities(image)
    labels = predictor.labels(image)
    np.testing.assert_allclose(probabilities.sum(0), 1, rtol=1e-5)
    assert (labels == probabilities.argmax(0)).all()
    assert labels.dtype == np.uint8
    assert len(np.unique(labels)) > 1


def test_the_models_statistics_are_used_not_those_of_the_image() -> None:
    predictor, image = Predictor(_network(), CARD, FP32), _image(20, 20)
    normalised = (image - np.array([100, 50])[:, None, None]) / np.array([40, 60])[:, None, None]
    with torch.inference_mode():
        expected = predictor.network.eval()(torch.from_numpy(normalised.astype(np.float32))[None])[0]
    torch.testing.assert_close(predictor.logits(image), expected, rtol=1e-4, atol=1e-4)
    brighter = predictor.logits(np.minimum(image, 200) + 50)
    assert (brighter - expected).abs().max() > 1e-2


def test_half_precision_gives_nearly_the_same_probabilities() -> None:
    bf16 = choose(HardwareConfig(device="cpu", precision="bf16"))
    network, image = _network(), _image(64, 64)
    fine = Predictor(network, CARD, FP32).probabilities(image)
    coarse = Predictor(network, CARD, bf16)
    assert coarse.logits(image).dtype is torch.float32
    np.testing.assert_allclose(coarse.probabilities(image), fine, atol=0.1)


def test_the_same_plane_gives_the_same_bits() -> None:
    predictor, image = Predictor(_network(), CARD, choose(HardwareConfig(device="cpu"))), _image(64, 80)
    assert torch.equal(predictor.logits(image), predictor.logits(image))


def test_another_number_of_channels_is_refused() -> None:
    with pytest.raises(DataError, match="channels"):
        Predictor(_network(), CARD, FP32).logits(_image(20, 20)[:1])


def test_prediction_can_be_broken_off_between_tiles_and_restores_the_network() -> None:
    network = _network().train()
    seen: list[tuple[int, int]] = []

    def on_tile(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Predictor(network, CARD, FP32, tile_size=32).logits(_image(96, 64), on_tile)
    assert seen == [(1, 6), (2, 6), (3, 6)]
    assert network.training


def test_validation_losses_can_be_computed_from_the_logits() -> None:
    logits = Predictor(_network(), CARD, FP32).logits(_image(16, 16))
    target = torch.zeros(1, 16, 16, dtype=torch.long)
    assert torch.nn.functional.cross_entropy(logits[None], target) > 0
