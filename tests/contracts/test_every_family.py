"""What every family of networks keeps to: sizes, learning, files, constraints, the loop and what it can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from segcore.card import ModelCard, Normalization, write_config
from segcore.config import ModelConfig, RunConfig, build_config
from segcore.devices import Hardware
from segcore.errors import ConfigError, ModelError
from segcore.events import Request
from segcore.families import ENCODERS, FAMILIES, Facts
from segcore.losses import build_loss
from segcore.models import build
from segcore.models.build import build_model, empty_model
from segcore.models.saved import load_model, save_weights
from segcore.models.segmenter import Segmenter
from segcore.predictor import Predictor
from segcore.training.run import train

SMALL = {"features": 8, "layers": 2, "encoder": "mobilenet_v2"}
STRIDES = ((1, 2, 2), (2, 2, 2), (1, 2, 2), (1, 1, 1))
CPU = Hardware(torch.device("cpu"), torch.float32, channels_last=True)
LARGER = {"fc-densenet-67", "fc-densenet-103", *(f"segformer-b{number}" for number in range(1, 6))}
"""Sizes that differ from a smaller one in numbers only."""
ANSWERING = [name for name, family in FAMILIES.items() if family.own_loss]
"""What answers whole objects, and its loss."""
SMALL_ANSWERING = {"encoder": "resnet18", "objects": 8}
FLAT = [name for name, family in FAMILIES.items() if "2.5d" in family.modes and name not in LARGER]
ALIKE = {"unet-small", "unetplusplus", "manet", "fpn", "pspnet", "deeplabv3plus", "upernet", "mask-rcnn-v2"}
"""What the training loop cannot tell from the U-Net, that with an encoder, or Mask R-CNN: one class each."""
MAPPED = [name for name in FLAT if "semantic" in FAMILIES[name].kinds]
"""What can learn classes of pixels."""
SOLID = [name for name, family in FAMILIES.items() if "3d" in family.modes]


def small(name: str, **changes: object) -> ModelConfig:
    """Return the options of the smallest network of a family."""
    return ModelConfig(**{"family": name, **small_options(name), **changes})


def small_options(name: str) -> dict[str, object]:
    """Return what makes a family small."""
    if name not in ANSWERING:
        return SMALL
    return {**SMALL, **SMALL_ANSWERING, "features": max(8, FAMILIES[name].groups)}


def slices_of(name: str) -> int:
    """Return how many slices a family sees together in these tests."""
    return 1 if "2d" in FAMILIES[name].modes else 3


def built(name: str, channels: int = 1, classes: int = 2) -> Segmenter:
    """Build the smallest network of a family for planes."""
    slices = slices_of(name)
    return build_model(small(name), channels * slices, classes, slices=slices)


def card_of(name: str) -> ModelCard:
    """Describe a model of two classes for planes of one channel."""
    channels, slices = 1, slices_of(name)
    return ModelCard(
        channels=channels,
        mode="2d" if slices == 1 else "2.5d",
        context_slices=slices,
        class_values=(0, 9),
        class_names=("out", "in"),
        normalization=Normalization(kind="none", offset=(0.0,) * channels, scale=(1.0,) * channels),
        axes="ZYX",
        dtype="float32",
    )


def strides_for(config: ModelConfig) -> tuple:
    """Return as many strides of a 3d network as it has levels."""
    return STRIDES[: config.like[1]]


def discs(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images `N Y X` of a bright disc each, and where it is."""
    rng = np.random.default_rng(4)
    rows, columns = np.mgrid[:side, :side]
    centres = rng.integers(side // 4, 3 * side // 4, (count, 2))
    inside = np.stack([(rows - y) ** 2 + (columns - x) ** 2 < (side / 5) ** 2 for y, x in centres])
    return (inside + rng.normal(0, 0.2, inside.shape)).astype(np.float32), inside.astype(np.int64)


def test_every_family_is_built_and_has_the_parameters_it_claims(monkeypatch: pytest.MonkeyPatch) -> None:
    # Imported before: the libraries would keep what stands here for ever.
    initialization = pytest.importorskip("transformers.initialization")
    pytest.importorskip("timm")
    for module in (torch.nn.init, initialization):
        for name in (name for name in vars(module) if name.endswith("_") and not name.startswith("_")):
            monkeypatch.setattr(module, name, lambda tensor, *args, **kwargs: tensor)
    assert list(build.BUILDERS) == list(FAMILIES)
    for name, family in FAMILIES.items():
        network = empty_model(ModelConfig(family=name), card_of(name))
        assert sum(weight.numel() for weight in network.parameters()) == family.parameters, name


@pytest.mark.parametrize("name", FLAT)
def test_any_size_and_any_channels_keep_their_size(name: str) -> None:
    for channels, size in ((1, (67, 41)), (3, (33, 96)), (5, (70, 70))):
        torch.manual_seed(0)
        network = built(name, channels, 3).eval()
        with torch.inference_mode():
            logits = network(torch.randn(1, network.channels, *size))
        assert logits.shape == (1, 3, *size)
        assert logits.isfinite().all()
        assert network.channels == channels * slices_of(name)
        names = [stage for stage, _ in network.stages()]
        assert names[0].startswith("encoder")
        assert names[-1] == "head"


@pytest.mark.parametrize("name", SOLID)
def test_volumes_keep_their_size(name: str) -> None:
    config = small(name)
    network = build_model(config, 2, 3, strides_for(config)).eval()
    with torch.inference_mode():
        logits = network(torch.randn(1, 2, 5, 34, 39))
    assert logits.shape == (1, 3, 5, 34, 39)
    assert logits.isfinite().all()


@pytest.mark.parametrize("name", FLAT)
def test_four_images_are_learned_by_heart(name: str) -> None:
    torch.manual_seed(1)
    # Networks with a loss of their own see nothing in images that they shrink to a pixel, and some parts of
    # that loss fall late: boxes are proposed before they are judged, and sets are guessed layer by layer.
    own = name in ANSWERING
    images, labels = discs(4, 64 if own else 32)
    network, loss = built(name), build_loss("dice+ce")
    image = torch.from_numpy(images)[:, None].repeat(1, network.channels, 1, 1)
    label = torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3 if own else 5e-3)
    first = 0.0
    for _ in range(120):
        found = network(image, label) if own else loss(network(image).float(), label)
        assert found.isfinite()
        first = first or found.item()
        if found < (0.65 if own else 0.15) * first:
            return
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
    pytest.fail(f"The loss fell from {first:.3f} to {found.item():.3f} only.")


@pytest.mark.parametrize("name", MAPPED)
def test_a_saved_model_predicts_the_same_to_the_bit_and_in_tiles_what_it_says(
    name: str, tmp_path: Path
) -> None:
    torch.manual_seed(2)
    card = card_of(name)
    config = build_config({"model": {"family": name, **small_options(name)}, "data": {"mode": card.mode}})
    network = built(name).train()
    with torch.no_grad():
        network(torch.randn(2, network.channels, 64, 64))  # statistics that are not those of a fresh network
    save_weights(network, tmp_path / "best_model.pth")
    write_config(tmp_path / "config.json", config, card)
    loaded = load_model(tmp_path / "best_model.pth", tmp_path / "config.json")
    image = discs(network.channels, 96)[0]
    one, two = (Predictor(net, card, CPU) for net in (network, loaded.network))
    whole = one.logits(image)
    assert torch.equal(whole, two.logits(image))
    assert network.training
    assert one.is_exact(96, 96)
    tiled = Predictor(network, card, CPU, tile_size=32)
    assert tiled.is_exact(96, 96) is network.is_local
    difference = (tiled.logits(image) - whole).abs()
    # What is not local sees less in a tile; the result of another image would differ by about the spread.
    spread = whole.std((1, 2)).mean()
    assert difference.max() < 1e-4 if network.is_local else difference.mean() < spread / 2


@pytest.mark.parametrize("name", list(FAMILIES))
def test_what_a_constraint_refuses_fails(name: str) -> None:
    family = FAMILIES[name]
    assert not family.obstacles(Facts(family.modes[0], 64, 4))
    if family.groups > 1:
        assert family.obstacles(Facts(family.modes[0], 64, 4, features=family.groups + 1))
        with pytest.raises(ConfigError, match="multiple of"):
            build_model(small(name, features=family.groups + 1), 1, 2)
    for mode in {"2d", "3d"} - set(family.modes):
        assert family.obstacles(Facts(mode, 64, 4))
        with pytest.raises(ConfigError, match=r"model\.family"):
            build_config({"model": {"family": name}, "data": {"mode": mode}})
        axes = 2 if mode == "2d" else 3
        strides = () if mode == "3d" else STRIDES[:2]
        with pytest.raises((RuntimeError, ValueError, ConfigError)):
            build_model(small(name), 1, 2, strides)(torch.zeros(1, 1, *[32] * axes))
    for head in {"semantic", "boundary", "masks", "panoptic"} - set(family.heads):
        data = {"labels_as": "objects", "mode": family.modes[0]}
        with pytest.raises(ConfigError, match=rf"cannot learn model\.head {head}"):
            build_config({"model": {"family": name, "head": head}, "data": data})
    if family.encoders:
        with pytest.raises(ConfigError, match=r"model\.encoder"):
            build_config({"model": {"family": name, "encoder": "mobilenet_v2", "head": family.heads[0]}})
        with pytest.raises(ConfigError):
            build_model(small(name, encoder="mobilenet_v2"), 1, 2)
    for beginning in family.refused:
        encoder = next(known for known in ENCODERS if known.startswith(beginning))
        with pytest.raises(ConfigError, match=r"model\.encoder"):
            build_config({"model": {"family": name, "encoder": encoder}})
        with pytest.raises(ModelError, match="cannot be the encoder"):
            build_model(small(name, encoder=encoder), 1, 2)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], RunConfig]:
    """Return what makes the options of a short training of a family."""
    folder = tmp_path_factory.mktemp("data")
    images, labels = discs(4, 64)
    tifffile.imwrite(folder / "raw.tif", (60 + 90 * images).clip(0, 255).astype(np.uint8), imagej=True)
    tifffile.imwrite(folder / "labels.tif", (255 * labels).astype(np.uint8), imagej=True)

    def made(name: str) -> RunConfig:
        data = {"images": str(folder / "raw.tif"), "labels": str(folder / "labels.tif"), "axes": "ZYX"}
        head = FAMILIES[name].heads[0]
        data |= {} if head == "semantic" else {"labels_as": "objects"}
        return build_config(
            {
                "data": {
                    **data,
                    "mode": card_of(name).mode,
                    "patch_size": 64,
                    "patches_per_image": 2,
                    "validation_slices": "3",
                },
                "model": {"family": name, "head": head, **small_options(name)},
                "training": {"epochs": 2, "batch_size": 4, "micro_batch": 2, "seed": 5},
                "hardware": {"device": "cpu", "precision": "bf16"},
            }
        )

    return made


@pytest.mark.parametrize("name", [name for name in FLAT if name not in ALIKE])
def test_a_training_in_half_precision_and_pieces_goes_on_to_the_bit(
    name: str, options: Callable[[str], RunConfig], tmp_path: Path
) -> None:
    config = options(name)
    whole, part = tmp_path / "whole", tmp_path / "part"
    outcome = train(config, whole)
    assert np.isfinite(outcome.metrics["val_loss"])
    asked = iter([None, None, None, Request.PAUSE])
    assert train(config, part, asked=lambda: next(asked, None)).request is Request.PAUSE
    assert train(config, part).request is None
    assert (whole / "best_model.pth").read_bytes() == (part / "best_model.pth").read_bytes()
