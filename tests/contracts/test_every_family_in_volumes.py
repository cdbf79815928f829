"""What every family that works in 3d keeps to: it learns volumes, comes back, and goes on to the bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from segcore.card import ModelCard, Normalization, write_config
from segcore.config import RunConfig, build_config
from segcore.devices import Hardware
from segcore.estimate import plan_strides
from segcore.events import Request
from segcore.families import FAMILIES
from segcore.losses import build_loss
from segcore.models.build import build_model
from segcore.models.saved import load_model, save_weights
from segcore.models.segmenter import Segmenter
from segcore.predictor import Predictor
from segcore.training.run import train

CPU = Hardware(torch.device("cpu"), torch.float32, channels_last=True)
SOLID = [name for name, family in FAMILIES.items() if "3d" in family.modes]
ALIKE = {"unet-small", "unet-attention", "swin-unetr"}
"""What is as another family here, and Swin UNETR: it takes volumes of 32 × 64 × 64 voxels at least."""
LEARNING = [name for name in SOLID if name not in ALIKE]


def options_of(name: str, folder: Path | None = None) -> RunConfig:
    """Return options of the smallest network of a family, and of a short training in `folder`."""
    data: dict[str, Any] = {"mode": "3d", "patch_size": 32, "patch_depth": 8}
    if folder is not None:
        data |= {"images": str(folder / "raw.tif"), "labels": str(folder / "labels.tif"), "axes": "ZYX"}
        data |= {"patches_per_image": 2, "validation_slices": "32-39"}
    return build_config(
        {
            "data": data,
            "model": {"family": name, "features": 8, "layers": 2},
            "training": {"epochs": 2, "batch_size": 2, "micro_batch": 1, "seed": 5},
            "hardware": {"device": "cpu", "precision": "bf16"},
        }
    )


def built(config: RunConfig, channels: int = 1, classes: int = 2) -> Segmenter:
    """Build the network of the options, for voxels as deep as wide."""
    return build_model(config.model, channels, classes, plan_strides(config, (1.0, 1.0, 1.0)))


def balls(count: int, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return volumes `N Z Y X` of a bright ball each, and where it is."""
    rng = np.random.default_rng(4)
    grid = np.mgrid[tuple(slice(size) for size in shape)]
    inside = []
    for _ in range(count):
        centre = [rng.uniform(0.3, 0.7) * size for size in shape]
        far = sum(
            ((at - middle) / (0.3 * size)) ** 2 for at, middle, size in zip(grid, centre, shape, strict=True)
        )
        inside.append(far < 1)
    there = np.stack(inside)
    return (there + rng.normal(0, 0.2, there.shape)).astype(np.float32), there.astype(np.int64)


def shape_of(config: RunConfig) -> tuple[int, int, int]:
    """Return the shape of a patch."""
    return config.data.patch_depth, config.data.patch_size, config.data.patch_size


@pytest.mark.parametrize("name", LEARNING)
def test_volumes_of_any_channels_are_learned_by_heart(name: str) -> None:
    torch.manual_seed(1)
    config = options_of(name)
    images, labels = balls(2, shape_of(config))
    channels = {"unet": 3, "dynunet": 5}.get(name, 1)
    network, loss = built(config, channels), build_loss("dice+ce")
    image, label = torch.from_numpy(images)[:, None].repeat(1, channels, 1, 1, 1), torch.from_numpy(labels)
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    first = loss(network(image).float(), label).item()
    for _ in range(80):
        found = loss(network(image).float(), label)
        assert found.isfinite()
        if found < 0.3 * first:
            return
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
    pytest.fail(f"The loss fell from {first:.3f} to {found.item():.3f} only.")


@pytest.mark.parametrize("name", LEARNING)
def test_a_saved_model_predicts_volumes_of_odd_sizes_the_same_to_the_bit(name: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    config = options_of(name)
    strides = plan_strides(config, (1.0, 1.0, 1.0))
    card = ModelCard(
        channels=1,
        mode="3d",
        strides=strides,
        class_values=(0, 9),
        class_names=("out", "in"),
        normalization=Normalization(kind="none", offset=(0.0,), scale=(1.0,)),
        axes="ZYX",
        dtype="float32",
    )
    network = build_model(config.model, 1, 2, strides).train()
    with torch.no_grad():
        network(torch.randn(2, 1, *shape_of(config)))  # statistics that are not those of a fresh network
    save_weights(network, tmp_path / "best_model.pth")
    write_config(tmp_path / "config.json", config, card)
    loaded = load_model(tmp_path / "best_model.pth", tmp_path / "config.json")
    volume = balls(1, (7, 45, 38))[0]
    one, two = (Predictor(net, card, CPU).logits(volume) for net in (network, loaded.network))
    assert one.shape == (2, 7, 45, 38)
    assert one.isfinite().all()
    assert torch.equal(one, two)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where a volume of forty slices and its labels lie."""
    place = tmp_path_factory.mktemp("volume")
    images, labels = balls(1, (40, 36, 36))
    raw = (60 + 90 * images[0]).clip(0, 255).astype(np.uint8)
    tifffile.imwrite(place / "raw.tif", raw, imagej=True, metadata={"axes": "ZYX"})
    marks = (255 * labels[0]).astype(np.uint8)
    marks[0, 0, 0] = marks[39, 0, 0] = 255
    tifffile.imwrite(place / "labels.tif", marks, imagej=True, metadata={"axes": "ZYX"})
    return place


@pytest.mark.parametrize("name", ["dynunet", "segresnet"])
def test_a_training_in_half_precision_and_pieces_goes_on_to_the_bit(
    name: str, folder: Path, tmp_path: Path
) -> None:
    config = options_of(name, folder)
    whole, part = tmp_path / "whole", tmp_path / "part"
    outcome = train(config, whole)
    assert np.isfinite(outcome.metrics["val_loss"])
    asked = iter([None, Request.PAUSE])
    assert train(config, part, asked=lambda: next(asked, None)).request is Request.PAUSE
    assert train(config, part).request is None
    assert (whole / "best_model.pth").read_bytes() == (part / "best_model.pth").read_bytes()
