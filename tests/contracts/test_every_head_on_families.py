"""Every head goes with every family that answers maps: sizes, channels, learning, files, and the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from drawn_objects import blobs

from segcore.card import ModelCard, Normalization, PixelSize, write_config
from segcore.config import RunConfig, build_config
from segcore.devices import Hardware
from segcore.estimate import plan_strides
from segcore.events import Request
from segcore.families import FAMILIES
from segcore.models.build import build_model
from segcore.models.saved import load_model, save_weights
from segcore.models.segmenter import Segmenter
from segcore.postprocess.heads import build_head, describe_head
from segcore.predictor import Predictor
from segcore.tasks import InstanceTask
from segcore.training.run import train

CPU = Hardware(torch.device("cpu"), torch.float32, channels_last=True)
HEADS = ("boundary", "stars", "flows")
CHANNELS = {"boundary": 1, "stars": 3, "flows": 5}
LARGER = {"fc-densenet-67", "fc-densenet-103", *(f"segformer-b{number}" for number in range(1, 6))}
"""Sizes that differ from a smaller one in numbers only."""
ALIKE = {"unet-small", "unetplusplus", "manet", "pspnet", "deeplabv3plus", "upernet", "unet-attention"}
"""What a head cannot tell from another family."""
KNOWN = {name: family for name, family in FAMILIES.items() if set(HEADS) <= set(family.heads)}
FLAT = [name for name, family in KNOWN.items() if "2.5d" in family.modes and name not in LARGER | ALIKE]
LEARNING = ("unet-residual", "fpn", "segformer-b0", "segresnet", "sensor3d")
"""One of every library; the plain U-Net learns in `test_every_instance_head.py`."""
SOLID = ("unet", "unet-residual", "dynunet", "segresnet")
IN_TURN = {name: HEADS[number % len(HEADS)] for number, name in enumerate(FLAT)}
"""A head for every family where all with all would take too long."""


def options_of(name: str, head: str, folder: Path | None = None, mode: str = "2d") -> RunConfig:
    """Return options of the smallest network of a family, and of a short training in `folder`."""
    if mode == "2d" and mode not in FAMILIES[name].modes:
        mode = "2.5d"
    data: dict[str, Any] = {"mode": mode, "labels_as": "objects", "patch_size": 64, "patches_per_image": 2}
    data |= {"context_slices": 3}
    if mode == "3d":
        data |= {"patch_size": 32, "patch_depth": 8}
    if folder is not None:
        data |= {"images": str(folder / "raw.tif"), "labels": str(folder / "labels.tif"), "axes": "ZYX"}
        data |= {"validation_slices": "4-5"}
    return build_config(
        {
            "data": data,
            "model": {
                "family": name,
                "head": head,
                "features": 8,
                "layers": 2,
                "encoder": "mobilenet_v2",
            },
            "training": {"epochs": 1, "batch_size": 4, "micro_batch": 2, "seed": 5},
            "hardware": {"device": "cpu", "precision": "bf16"},
        }
    )


def built(config: RunConfig, channels: int = 1) -> Segmenter:
    """Build the network of the options, for voxels as deep as wide."""
    slices = config.data.context_slices if config.data.mode == "2.5d" else 1
    maps = describe_head(config.model.head, config.data.mode == "3d", PixelSize(), 12.0).maps
    strides = plan_strides(config, (1.0, 1.0, 1.0))
    return build_model(config.model, channels * slices, maps, strides, slices)


def task_of(config: RunConfig) -> InstanceTask:
    """Return the task of the options."""
    return InstanceTask(build_head(config.model.head, 3 if config.data.mode == "3d" else 2))


def pictures(count: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images `N Y X` of objects of their own brightness, and their numbers."""
    labels = np.stack([blobs(side, 6, seed, radius=(5, 8)) for seed in range(count)])
    rng = np.random.default_rng(3)
    bright = np.concatenate([[0], rng.uniform(0.6, 1.6, int(labels.max()))])
    return (bright[labels] + rng.normal(0, 0.05, labels.shape)).astype(np.float32), labels


@pytest.mark.parametrize("name", FLAT)
def test_maps_of_any_size_are_learned_from_and_decoded(name: str) -> None:
    torch.manual_seed(0)
    head = IN_TURN[name]
    config = options_of(name, head)
    network, task = built(config, CHANNELS[head]), task_of(config)
    image = torch.randn(2, network.channels, 67, 41)
    target = task.target(torch.from_numpy(np.stack([blobs(70, 6, seed)[:67, :41] for seed in (1, 2)])))
    loss, guess = task.step(network.train(), image, target)
    loss.backward()
    assert loss.isfinite()
    assert guess.shape == (2, 67, 41)
    assert any(weight.grad is not None and weight.grad.any() for weight in network.parameters())
    with torch.inference_mode():
        maps = task.head.activate(network.eval()(image))
    assert maps.shape == (2, task.head.channels, 67, 41)
    assert maps.isfinite().all()
    objects = task.head.decode(maps[0].numpy())
    assert objects.shape == (67, 41)
    assert objects.min() >= 0


@pytest.mark.parametrize("name", SOLID)
def test_maps_of_volumes_are_learned_from_and_decoded(name: str) -> None:
    torch.manual_seed(0)
    config = options_of(name, IN_TURN[name], mode="3d")
    network, task = built(config, 2), task_of(config)
    label = np.stack([blobs(40, 4, 1)[:37, :34]] * 7)
    target = task.target(torch.from_numpy(label[None]))
    loss, guess = task.step(network.train(), torch.randn(1, 2, 7, 37, 34), target)
    loss.backward()
    assert loss.isfinite()
    assert guess.shape == (1, 7, 37, 34)
    assert any(weight.grad is not None and weight.grad.any() for weight in network.parameters())


@pytest.mark.parametrize("name", LEARNING)
def test_four_images_are_learned_by_heart_and_found_by_the_saved_model(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = options_of(name, IN_TURN[name])
    network, task = built(config).train(), task_of(config)
    images, labels = pictures(4, 40)
    image = torch.from_numpy(images)[:, None].repeat(1, network.channels, 1, 1)
    target = task.target(torch.from_numpy(labels))
    least = best_loss(task, target)
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    losses: list[float] = []
    while not losses or losses[-1] > 0.4 * losses[0]:
        assert len(losses) < 150, f"The loss above {least:.3f} fell to {losses[-1] / losses[0]:.2f} only."
        loss, _ = task.step(network, image, target)
        losses.append(loss.item() - least)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    save_weights(network, tmp_path / "best_model.pth")
    card = card_of(config)
    write_config(tmp_path / "config.json", config, card)
    loaded = load_model(tmp_path / "best_model.pth", tmp_path / "config.json")
    one, two = (Predictor(net, card, CPU) for net in (network, loaded.network))
    maps = one.logits(image[0].numpy())
    assert torch.equal(maps, two.logits(image[0].numpy()))
    assert np.array_equal(one.objects(maps), two.objects(maps))


def best_loss(task: InstanceTask, target: torch.Tensor) -> float:
    """Return the loss of the output that means the target itself: depths between 0 and 1 always cost."""
    maps, head = target.float(), task.head
    if head.channels == 4:
        kind = torch.nn.functional.one_hot(target[:, 0].long().clamp(min=0), 3).movedim(-1, 1)
        return float(head.loss(torch.cat([40.0 * kind, maps[:, 1:]], 1), target))
    scale = 5.0 if head.channels == 3 else 1.0
    certain = torch.logit(maps[:, :1].clamp(1e-6, 1 - 1e-6))
    return float(head.loss(torch.cat([certain, scale * maps[:, 1:]], 1), target))


def card_of(config: RunConfig) -> ModelCard:
    """Describe a model of the options."""
    return ModelCard(
        channels=1,
        mode=config.data.mode,
        context_slices=3 if config.data.mode == "2.5d" else 1,
        class_values=(0, 1),
        class_names=("background", "object"),
        head=describe_head(config.model.head, False, PixelSize(), 12.0),
        normalization=Normalization(kind="none", offset=(0.0,), scale=(1.0,)),
        axes="ZYX",
        dtype="float32",
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where six slices of objects and their numbers lie."""
    place = tmp_path_factory.mktemp("objects")
    images, labels = pictures(6, 64)
    raw = (20 + 120 * images).clip(0, 255).astype(np.uint8)
    tifffile.imwrite(place / "raw.tif", raw, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(place / "labels.tif", labels.astype(np.uint16), imagej=True, metadata={"axes": "ZYX"})
    return place


@pytest.mark.parametrize("name", ["unet-residual", "sensor3d"])
def test_a_training_in_half_precision_and_pieces_goes_on_to_the_bit(
    name: str, folder: Path, tmp_path: Path
) -> None:
    config = options_of(name, IN_TURN[name], folder)
    whole, part = tmp_path / "whole", tmp_path / "part"
    outcome = train(config, whole)
    assert np.isfinite(outcome.metrics["val_loss"])
    asked = iter([None, Request.PAUSE])
    assert train(config, part, asked=lambda: next(asked, None)).request is Request.PAUSE
    assert train(config, part).request is None
    assert (whole / "best_model.pth").read_bytes() == (part / "best_model.pth").read_bytes()
