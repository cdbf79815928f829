"""What every head keeps to on a network: it learns by heart, and tiles give the objects of the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from drawn_objects import blobs
from torch import Tensor

from segcore.card import ModelCard, Normalization, PixelSize
from segcore.config import build_config
from segcore.devices import Hardware
from segcore.estimate import network_of
from segcore.metrics.instances import InstanceCounts
from segcore.models.segmenter import Segmenter
from segcore.models.unet import UNet
from segcore.objects import ObjectParts, ObjectTable, number_objects
from segcore.postprocess.heads import HEADS, build_head, describe_head, head_of
from segcore.prediction import Prediction
from segcore.predictor import Predictor
from segcore.tasks import InstanceTask
from segcore.tiling import IGNORE

CPU = Hardware(torch.device("cpu"), torch.float32, channels_last=True)
SIDE = 18.0
"""Longest side of the objects that are drawn here."""
every_head = pytest.mark.parametrize("name", HEADS)


def card_of(name: str, channels: int = 1, mode: str = "2d") -> ModelCard:
    """Describe a model with a head."""
    return ModelCard(
        channels=channels,
        mode=mode,
        class_values=(0, 1),
        class_names=("background", "object"),
        head=describe_head(name, mode == "3d", PixelSize(), SIDE),
        normalization=Normalization(kind="none", offset=(0.0,) * channels, scale=(1.0,) * channels),
        axes="ZYX",
        dtype="float32",
    )


def four_images() -> tuple[np.ndarray, np.ndarray]:
    """Return images of objects of different brightness, some of which touch, and their numbers, `N Y X`."""
    rng = np.random.default_rng(3)
    labels = np.stack([blobs(48, 5, seed, radius=(5, 8)) for seed in range(4)])
    images = np.zeros(labels.shape, np.float32)
    for plane, image in zip(labels, images, strict=True):
        for number in np.unique(plane[plane > 0]):
            image[plane == number] = rng.uniform(0.5, 1.5)
    return images + rng.normal(0, 0.05, images.shape).astype(np.float32), labels


@every_head
def test_four_images_are_learned_by_heart_and_the_objects_come_back(name: str) -> None:
    torch.manual_seed(1)
    images, labels = four_images()
    task = InstanceTask(build_head(name))
    network = UNet(1, task.head.channels, 8, 2)
    image, target = torch.from_numpy(images)[:, None], task.target(torch.from_numpy(labels))
    optimizer = torch.optim.AdamW(network.parameters(), 5e-3)
    score = 0.0
    for step in range(1, 601):
        network.train()
        loss, guess = task.step(network, image, target)
        assert loss.isfinite()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 40:
            continue
        network.eval()
        with torch.inference_mode():
            maps = task.head.activate(network(image)).numpy()
        counts = InstanceCounts()
        for one, label in zip(maps, labels, strict=True):
            counts.update(task.head.decode(one), label)
        score = counts.scores().f1[0.5]
        if score > 0.9:
            assert (guess == task.classes(target)).float().mean() > 0.8
            return
    pytest.fail(f"F1 is {score:.2f} only.")


@every_head
def test_targets_say_classes_and_what_nobody_annotated(name: str) -> None:
    label = torch.from_numpy(np.stack([blobs(48, 5, seed) for seed in (1, 2)])).long()
    label[:, :, 30:] = IGNORE
    task = InstanceTask(build_head(name))
    assert torch.equal(task.classes(task.target(label)), label.clamp(max=1))


class Oracle(Segmenter):
    """A network that is shown the maps of a head, and answers what means them."""

    is_local = True
    receptive_radii = (0, 0)

    def __init__(self, name: str, maps: int) -> None:
        super().__init__(maps, maps)
        self.name = name

    def bytes_per_pixel(self, itemsize: int) -> int:
        """Return what a pixel needs."""
        return 4 * itemsize * self.classes

    def aligned(self, image: Tensor) -> Tensor:
        """Return the maps as numbers of which `activate` makes them."""
        if self.name == "boundary":
            return torch.cat([image[:, :3].clamp(1e-6).log(), image[:, 3:]], 1)
        certain = torch.logit(image[:, :1].clamp(1e-5, 1 - 1e-5))
        return torch.cat([certain, image[:, 1:] * (5 if self.name == "flows" else 1)], 1)


class Shown:
    """Planes in memory; satisfies `segcore.blocks.Slices`."""

    def __init__(self, image_ZCYX: np.ndarray) -> None:
        self.image_ZCYX = image_ZCYX
        self.count, self.channels, self.height, self.width = image_ZCYX.shape
        self.depth = self.count

    def window(self, index: int, rows: slice, columns: slice) -> np.ndarray:
        """Return part of a plane."""
        return self.image_ZCYX[index, :, rows, columns]


def shown(name: str, labels_ZYX: np.ndarray) -> tuple[Shown, Oracle, ModelCard]:
    """Return the maps of planes as images, and a network that sees through them."""
    head = build_head(name)
    maps = np.stack([head.ideal(head.encode(labels_YX)) for labels_YX in labels_ZYX])
    return Shown(maps.astype(np.float32)), Oracle(name, head.channels), card_of(name, head.channels)


@every_head
def test_tiles_give_the_objects_of_the_whole(name: str) -> None:
    labels_ZYX = np.stack([blobs(150, 60, seed) for seed in (4, 5)])
    images, network, card = shown(name, labels_ZYX)
    one, parts = (Prediction(Predictor(network, card, CPU, tile_size=side), images) for side in (None, 64))
    assert (len(one.blocks), len(parts.blocks) > 20) == (2, True)
    whole, tiled = (number_objects(each, labels_ZYX.shape) for each in (one, parts))
    counts = InstanceCounts((0.9,))
    for found_YX, expected_YX in zip(tiled, whole, strict=True):
        counts.update(found_YX, expected_YX)
    assert counts.scores().f1[0.9] == 1
    assert np.array_equal(np.unique(tiled), np.arange(whole.max() + 1))
    assert not set(np.unique(tiled[0])) & set(np.unique(tiled[1])) - {0}


@every_head
def test_the_table_measures_what_is_drawn(name: str, tmp_path: Path) -> None:
    images, network, card = shown(name, blobs(100, 30, 6)[None])
    prediction = Prediction(Predictor(network, card, CPU, tile_size=48), images)
    labels_ZYX = number_objects(prediction, (1, 100, 100))
    parts = ObjectParts(prediction, tmp_path)
    for block in prediction.blocks:
        around = prediction.around(block)
        maps = prediction.block(around)
        beside, inside = parts.keep(around, maps)
        assert beside + inside == np.prod(block.shape)
    parts.join(range(len(prediction.blocks)))
    table = ObjectTable(parts.count)
    for block in prediction.blocks:
        table.add(block, parts.read(block.number))
    rows = {int(row[0]): row for row in table.rows()}
    assert set(rows) == set(np.unique(labels_ZYX)) - {0}
    for label, row in rows.items():
        at = np.argwhere(labels_ZYX == label)
        assert row[1] == len(at)
        np.testing.assert_allclose(row[2:5], at.mean(0), atol=1e-3)
        assert list(row[5:8]) == at.min(0).tolist()
        assert list(row[8:]) == (at.max(0) + 1).tolist()


@every_head
def test_a_card_brings_its_head_back(name: str) -> None:
    for mode in ("2d", "2.5d", "3d"):
        card = ModelCard.model_validate_json(card_of(name, mode=mode).model_dump_json())
        head = head_of(card)
        assert head is not None
        assert (head.channels, head.dimensions) == (card.outputs, 3 if mode == "3d" else 2)
        assert card == card_of(name, mode=mode)


@every_head
def test_memory_is_estimated_for_the_maps_there_are(name: str) -> None:
    for mode, solid in (("2d", False), ("3d", True)):
        config = build_config(
            {"model": {"head": name}, "data": {"mode": mode, "labels_as": "objects", "patch_size": 64}}
        )
        assert network_of(config).classes == describe_head(name, solid, PixelSize(), SIDE).maps


@every_head
def test_pieces_of_one_number_are_objects_of_their_own(name: str) -> None:
    apart = np.zeros((1, 40, 60), np.int64)
    apart[0, 5:20, 5:25], apart[0, 15:35, 35:55], apart[0, :, 58:] = 1, 2, IGNORE
    alike = np.where(apart == 2, 1, apart)
    task = InstanceTask(build_head(name))
    assert torch.equal(task.target(torch.from_numpy(alike)), task.target(torch.from_numpy(apart)))
    np.testing.assert_array_equal(task.target(torch.from_numpy(apart))[0].numpy(), task.head.encode(apart[0]))
