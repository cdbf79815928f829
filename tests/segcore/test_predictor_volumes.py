"""Prediction of volumes and of slices seen together: blocks equal the whole; statistics are a channel's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segcore.card import ModelCard, Normalization
from segcore.config import HardwareConfig
from segcore.data.normalize import apply_normalization
from segcore.devices import Hardware, choose
from segcore.errors import DataError
from segcore.models.unet import UNet
from segcore.predictor import Predictor

STATISTICS = Normalization(kind="z-score", offset=(100.0, 50.0), scale=(40.0, 60.0), clip=(-5.0, 5.0))
CARD = ModelCard(
    channels=2,
    class_values=(0, 100, 255),
    class_names=("a", "b", "c"),
    normalization=STATISTICS,
    axes="ZCYX",
    dtype="uint8",
)
FP32 = choose(HardwareConfig(device="cpu", precision="fp32"))


class _SmallMachine(Hardware):
    """A CPU with 15 MB left."""

    def free_memory(self) -> int:
        return 15_000_000


def _network(strides: tuple[tuple[int, int, int], ...] = ((1, 2, 2), (2, 2, 2)), inputs: int = 2) -> UNet:
    torch.manual_seed(3)
    network = UNet(inputs, 3, 3, 2, strides)
    with torch.no_grad():
        for _ in range(3):  # running statistics that are not 0 and 1
            network(torch.randn(2, inputs, *(8, 16, 16)[3 - network.dimensions :]))
    return network


def _volume(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, (2, *shape)).astype(np.uint8)


@given(planes=st.integers(1, 30), height=st.integers(1, 60), width=st.integers(1, 60))
@settings(deadline=None, max_examples=5)
def test_blocks_give_the_whole_volume(planes: int, height: int, width: int) -> None:
    network, image = _network(), _volume(planes, height, width)
    whole = Predictor(network, CARD, FP32)
    tiled = Predictor(network, CARD, FP32, tile_size=16)
    assert len(whole.tiles(planes, height, width)) == 1
    torch.testing.assert_close(tiled.logits(image), whole.logits(image), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(60, 40, 40), (8, 100, 100), (200, 20, 20)])
def test_a_volume_that_does_not_fit_goes_through_in_blocks_that_do(shape: tuple[int, int, int]) -> None:
    network, image = _network(), _volume(*shape)
    small = Predictor(network, CARD, _SmallMachine(FP32.device, FP32.dtype, FP32.channels_last))
    tiles = small.tiles(*shape)
    assert len(tiles) > 1
    sizes = [np.prod([part.stop - part.start for part in tile.read]) for tile in tiles]
    assert max(sizes) * network.bytes_per_pixel(4) <= 7_500_000
    assert small.is_exact(*shape)
    expected = Predictor(network, CARD, FP32).logits(image)
    torch.testing.assert_close(small.logits(image), expected, rtol=1e-4, atol=1e-4)


def test_statistics_are_those_of_the_channel_in_every_plane() -> None:
    predictor, image = Predictor(_network(), CARD, FP32), _volume(4, 12, 12)
    planes = [apply_normalization(image[:, plane], STATISTICS) for plane in range(4)]
    with torch.inference_mode():
        expected = predictor.network.eval()(torch.from_numpy(np.stack(planes, 1))[None])[0]
    torch.testing.assert_close(predictor.logits(image), expected, rtol=1e-4, atol=1e-4)


def test_slices_seen_together_share_the_statistics_of_their_channel() -> None:
    predictor, image = Predictor(_network((), 6), CARD, FP32), _volume(3, 12, 12)
    slices = image.transpose(1, 0, 2, 3)
    ready = np.concatenate([apply_normalization(one, STATISTICS) for one in slices])
    with torch.inference_mode():
        expected = predictor.network.eval()(torch.from_numpy(ready)[None])[0]
    found = predictor.logits(slices.reshape(6, 12, 12))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_the_statistics_of_an_image_go_before_those_of_the_model() -> None:
    predictor, image = Predictor(_network(), CARD, FP32), _volume(4, 12, 12)
    own = Normalization(kind="z-score", offset=(90.0, 40.0), scale=(20.0, 30.0), clip=(-5.0, 5.0))
    other = Predictor(predictor.network, CARD.model_copy(update={"normalization": own}), FP32)
    assert torch.equal(predictor.logits(image, normalization=own), other.logits(image))
    assert not torch.equal(predictor.logits(image), other.logits(image))


def test_a_plane_is_no_volume() -> None:
    with pytest.raises(DataError, match="axes"):
        Predictor(_network(), CARD, FP32).logits(_volume(12, 12))


def test_where_memory_is_very_short_blocks_see_less_instead_of_taking_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, image = _network(), _volume(20, 60, 60)
    tiny = _SmallMachine(FP32.device, FP32.dtype, FP32.channels_last)
    predictor = Predictor(network, CARD, tiny)
    exact = len(predictor.tiles(20, 60, 60))
    monkeypatch.setattr(_SmallMachine, "free_memory", lambda _: 3_750_000)
    assert not predictor.is_exact(20, 60, 60)
    tiles = predictor.tiles(20, 60, 60)
    assert exact < len(tiles) < 200
    sizes = [np.prod([part.stop - part.start for part in tile.read]) for tile in tiles]
    assert max(sizes) * network.bytes_per_pixel(4) <= 1_875_000
    found, expected = predictor.logits(image), Predictor(network, CARD, FP32).logits(image)
    assert (found.argmax(0) == expected.argmax(0)).float().mean() > 0.95
