"""How images go through the network: what is planned fits, and several at once give what each gives alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segcore.card import ModelCard, Normalization, PixelSize
from segcore.config import HardwareConfig
from segcore.devices import Hardware, choose
from segcore.estimate import MEMORY_SHARE, MOST_ON_CPU
from segcore.models.segmenter import Segmenter
from segcore.models.unet import UNet
from segcore.postprocess.heads import describe_head
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


def _network(strides: tuple[tuple[int, int, int], ...] = ()) -> UNet:
    torch.manual_seed(3)
    return UNet(2, 3, 3, 2, strides).eval()


@given(height=st.integers(1, 200_000), width=st.integers(1, 200_000), tile=st.sampled_from([None, 64, 128]))
@settings(deadline=None, max_examples=50)
def test_a_batch_of_tiles_fits_whatever_the_image(height: int, width: int, tile: int | None) -> None:
    predictor = Predictor(_network(), CARD, FP32, tile)
    plan, network = predictor.plan(height, width), predictor.network
    read = [
        min(size, owned + 2 * (halo + network.divisor)) + network.divisor
        for size, owned, halo in zip((height, width), plan.owned, plan.halo, strict=True)
    ]
    least = (2 * (max(plan.halo) + network.divisor) + 256) ** 2  # one tile is read even where it does not fit
    pixels = plan.batch * math.prod(read)
    assert plan.batch >= 1
    assert pixels * network.bytes_per_pixel(4) <= 1.1 * max(MOST_ON_CPU, least * network.bytes_per_pixel(4))


class Hungry(Segmenter):
    """A network that takes a lot of memory for every pixel and reads far around its tiles."""

    divisors, receptive_radii = (32, 32), (128, 128)

    def bytes_per_pixel(self, itemsize: int) -> int:
        """Return what DETR takes, about."""
        return 15_000


@pytest.mark.parametrize("drawn", [False, True])
def test_tiles_of_a_hungry_network_are_not_nearly_all_halo(
    monkeypatch: pytest.MonkeyPatch, drawn: bool
) -> None:
    head = describe_head("masks", False, PixelSize(), 20.0) if drawn else None
    card = CARD.model_copy(update={"head": head, "class_values": (0, 1), "class_names": ("a", "b")})
    predictor = Predictor(Hungry(2, 1 if drawn else 2), card, FP32)
    for free, least in ((16 * 10**9, 256), (2 * 10**9, 32)):
        monkeypatch.setattr(Hardware, "free_memory", lambda self, free=free: free)
        plan = predictor.plan(4000, 4000)
        assert min(plan.owned) >= least
        read = [owned + 2 * halo for owned, halo in zip(plan.owned, plan.halo, strict=True)]
        assert plan.batch * math.prod(read) * 15_000 <= max(MEMORY_SHARE * free, (least + 256) ** 2 * 15_000)
    monkeypatch.setattr(Hardware, "free_memory", lambda self: 16 * 10**9)
    assert len(predictor.tiles(512, 512)) == 1


@pytest.mark.parametrize(
    ("strides", "shape"), [((), (40, 33)), ((), (1, 1)), (((1, 2, 2), (2, 2, 2)), (5, 20, 17))]
)
def test_images_together_give_what_each_gives_alone(
    strides: tuple[tuple[int, int, int], ...], shape: tuple[int, ...]
) -> None:
    predictor = Predictor(_network(strides), CARD, FP32)
    images = list(np.random.default_rng(1).integers(0, 256, (3, 2, *shape), np.uint8))
    own = Normalization(kind="z-score", offset=(90.0, 40.0), scale=(20.0, 30.0))
    for normalization in (None, own):
        together = predictor.apply(images, normalization)
        for image, logits in zip(images, together, strict=True):
            alone = predictor.logits(image, normalization=normalization)
            torch.testing.assert_close(logits, alone, rtol=1e-4, atol=1e-4)


def test_small_images_go_together_and_large_ones_alone() -> None:
    predictor = Predictor(_network(), CARD, FP32)
    batches = [predictor.plan(side, side).batch for side in (64, 128, 256, 512, 1024)]
    assert batches == sorted(batches, reverse=True)
    assert batches[0] > 1 == batches[-1]


def test_the_kept_part_is_that_of_the_whole() -> None:
    predictor = Predictor(_network(), CARD, FP32)
    image = np.random.default_rng(1).integers(0, 256, (2, 80, 60), np.uint8)
    keep = (slice(0, 20), slice(24, 60))
    (part,) = predictor.apply([image], keep=keep)
    torch.testing.assert_close(part[:, :, :], predictor.logits(image)[:, *keep], rtol=1e-4, atol=1e-4)


def test_weights_that_change_are_seen() -> None:
    predictor = Predictor(_network(), CARD, FP32)
    image = np.random.default_rng(1).integers(0, 256, (2, 16, 16), np.uint8)
    before = predictor.logits(image)
    assert torch.equal(predictor.logits(image), before)
    with torch.no_grad():
        predictor.network.head.bias.add_(1)
    torch.testing.assert_close(predictor.logits(image), before + 1, rtol=1e-4, atol=1e-4)
    predictor.network = _network(
        (),
    )
    assert torch.equal(predictor.logits(image), before)
