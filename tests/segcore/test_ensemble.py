"""Averages over models and orientations: the mean; tiles give the whole; what does not fit is named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from segcore.card import ModelCard, Normalization, PixelSize
from segcore.config import HardwareConfig
from segcore.devices import choose
from segcore.ensemble import Averaged
from segcore.errors import ModelError
from segcore.models.segmenter import Segmenter
from segcore.models.unet import UNet
from segcore.postprocess.heads import HEADS, describe_head
from segcore.predictor import Predictor

CARD = ModelCard(
    channels=1,
    class_values=(0, 255),
    class_names=("a", "b"),
    normalization=Normalization(kind="z-score", offset=(100.0,), scale=(40.0,)),
    axes="ZYX",
    dtype="uint8",
)
FP32 = choose(HardwareConfig(device="cpu", precision="fp32"))


def _predictor(
    seed: int, layers: int = 2, card: ModelCard = CARD, tile: int | None = None, features: int = 2
) -> Predictor:
    torch.manual_seed(seed)
    strides = ((1, 2, 2), (2, 2, 2)) if card.mode == "3d" else ()
    return Predictor(UNet(1, 2, features, layers, strides).eval(), card, FP32, tile)


def _image(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, 256, (1, *shape), np.uint8)


def test_an_ensemble_is_the_mean_of_what_its_models_say_each_with_its_own_statistics() -> None:
    other = CARD.model_copy(
        update={"normalization": Normalization(kind="none", offset=(9.0,), scale=(80.0,))}
    )
    members = [_predictor(1), _predictor(2, card=other), _predictor(3, layers=3, features=3)]
    image = _image(48, 40)
    expected = np.mean([member.probabilities(image) for member in members], 0)
    np.testing.assert_allclose(Averaged(members).probabilities(image), expected, rtol=1e-4, atol=1e-5)


def test_flips_are_the_mean_over_four_orientations() -> None:
    predictor, image = _predictor(1), _image(32, 24)  # sizes that need no filling up
    turned = [((), image), ((1,), image[:, ::-1]), ((2,), image[:, :, ::-1]), ((1, 2), image[:, ::-1, ::-1])]
    each = [np.flip(predictor.probabilities(np.ascontiguousarray(one)), axes) for axes, one in turned]
    found = Averaged([predictor], flips=True).probabilities(image)
    np.testing.assert_allclose(found, np.mean(each, 0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(61, 90), (33, 40)])
def test_tiles_give_the_whole_in_every_orientation(shape: tuple[int, int]) -> None:
    whole = Averaged([_predictor(1), _predictor(2, layers=3)], flips=True)
    tiled = Averaged([_predictor(1, tile=32), _predictor(2, layers=3, tile=32)], flips=True)
    image = _image(*shape)
    assert len(tiled.tiles(*shape)) > 1
    torch.testing.assert_close(tiled.logits(image), whole.logits(image), rtol=1e-3, atol=1e-4)


def test_volumes_are_flipped_in_their_planes() -> None:
    card = CARD.model_copy(update={"mode": "3d"})
    predictor, image = _predictor(1, card=card), _image(5, 16, 12)
    averaged = Averaged([predictor], flips=True)
    (found,) = averaged.apply([image])
    (mirrored,) = averaged.apply([np.ascontiguousarray(image[..., ::-1])])
    torch.testing.assert_close(found, mirrored.flip(-1), rtol=1e-4, atol=1e-4)


def test_logits_are_logarithms_of_probabilities_even_where_one_is_zero() -> None:
    predictor = _predictor(1)
    with torch.no_grad():
        predictor.network.head.bias.copy_(torch.tensor([500.0, -500.0]))
    logits = Averaged([predictor, predictor]).logits(_image(16, 16))
    assert logits.isfinite().all()
    torch.testing.assert_close(logits.exp().sum(0), torch.ones(16, 16))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"class_values": (0, 1)}, "class values"),
        ({"context_slices": 3}, "slices seen together"),
        ({"mode": "3d"}, "mode"),
        ({"normalization": CARD.normalization.model_copy(update={"per": "image"})}, "statistics"),
    ],
)
def test_models_that_do_not_fit_are_refused_by_what_differs(change: dict[str, object], named: str) -> None:
    with pytest.raises(ModelError, match=named):
        Averaged([_predictor(1), _predictor(2, card=CARD.model_copy(update=change))])


class _Narrow(Segmenter):
    """Shrinks more than the U-Net here, but looks only one pixel far."""

    divisors, receptive_radii, is_local = (16, 16), (1, 1), True

    def __init__(self) -> None:
        super().__init__(1, 2)
        self.convolution = torch.nn.Conv2d(1, 2, 3, padding=1)

    def bytes_per_pixel(self, itemsize: int) -> int:
        return 10**4

    def aligned(self, image: Tensor) -> Tensor:
        assert not any(size % 16 for size in image.shape[2:])
        return self.convolution(image)


def test_tiles_suit_every_one_of_unlike_networks() -> None:
    def mixed(tile: int | None) -> Averaged:
        torch.manual_seed(5)
        return Averaged([Predictor(_Narrow().eval(), CARD, FP32, tile), _predictor(1, tile=tile)])

    whole, tiled, image = mixed(None), mixed(32), _image(61, 90)
    seen = _predictor(1).network.receptive_radii
    assert (tiled.network.divisors, tiled.network.receptive_radii) == ((16, 16), seen)
    assert tiled.network.bytes_per_pixel(4) == 10**4
    assert len(tiled.tiles(61, 90)) > 1
    assert tiled.is_exact(61, 90)
    torch.testing.assert_close(tiled.logits(image), whole.logits(image), rtol=1e-3, atol=1e-4)
    tiled.members[0].network.is_local = False
    assert not Averaged(tiled.members).is_exact(61, 90)


@pytest.mark.parametrize("name", HEADS)
def test_maps_of_a_head_are_averaged_as_the_head_turns_them(name: str) -> None:
    described = describe_head(name, False, PixelSize(), 20.0)
    card = CARD.model_copy(update={"class_values": (0, 1), "head": described})
    torch.manual_seed(1)
    predictor = Predictor(UNet(1, described.maps, 2, 2).eval(), card, FP32)
    image, head = _image(48, 40), predictor.head
    assert head is not None
    expected = []
    for axes in ((), (0,), (1,), (0, 1)):
        turned = np.ascontiguousarray(np.flip(image, tuple(axis + 1 for axis in axes)))
        maps = predictor.maps(predictor.logits(turned))
        for axis in axes:
            maps = head.flip(maps, axis)
        expected.append(maps)
    whole = Averaged([predictor], flips=True)
    found = whole.maps(whole.logits(image))
    np.testing.assert_allclose(found, np.mean(expected, 0), rtol=1e-4, atol=1e-4)
    with pytest.raises(ModelError, match="what is learned"):
        Averaged([predictor, _predictor(2, card=CARD.model_copy(update={"class_values": (0, 1)}))])
