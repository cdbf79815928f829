"""Networks that answer whole objects go through the loop, the card, the page's process and a segmentation."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from drawn_objects import blobs, same_objects
from scipy.ndimage import label
from torch import Tensor
from trainings import run_in

from segcore.card import ModelCard, Normalization, PixelSize, read_config, write_config
from segcore.config import RunConfig, build_config
from segcore.devices import Hardware
from segcore.ensemble import build_predictor
from segcore.errors import ConfigError
from segcore.events import EpochEvent, Request
from segcore.inference.run import segment
from segcore.models.saved import LoadedModel, save_weights
from segcore.models.segmenter import Segmenter
from segcore.models.whole_objects import INNER
from segcore.postprocess.heads import describe_head
from segcore.predictor import Predictor
from segcore.tracking.record import epoch_metrics
from segcore.training.run import train
from segcore.worker.console import describe_epoch

CPU = Hardware(torch.device("cpu"), torch.float32, channels_last=True)


HEAD_OF_CLASSES = {
    "network.class_predictor.weight",
    "network.class_predictor.bias",
    "network.criterion.empty_weight",
}


class SeesObjects(Segmenter):
    """A network that answers what is bright as objects, and numbers them anew in every image."""

    divisors, receptive_radii = (8, 8), (16, 16)

    def bytes_per_pixel(self, itemsize: int) -> int:
        """Return what a pixel needs."""
        return 16

    def forward(self, image: Tensor) -> Tensor:
        """Return numbers `B 1 Y X`, larger than there are objects."""
        found = [label(one[0].cpu().numpy() > 0.5)[0] for one in image]
        return 3 * torch.from_numpy(np.stack(found)).float()[:, None]


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """Four planes of objects with a number each; some touch."""
    labels = np.stack([blobs(64, 5, seed, (6, 10)) for seed in range(4)]).astype(np.uint16)
    rng = np.random.default_rng(2)
    images = 30 + 120 * (labels > 0) + rng.normal(0, 5, labels.shape)
    tifffile.imwrite(tmp_path / "raw.tif", images.clip(0, 255).astype(np.uint8), imagej=True)
    tifffile.imwrite(tmp_path / "labels.tif", labels, imagej=True)
    return tmp_path


def config_for(folder: Path, family: str, head: str, averaging: str = "none", **training: Any) -> RunConfig:
    """Return options of a short run of a small network."""
    features = 32 if family == "detr" else 8
    return build_config(
        {
            "data": {
                "images": str(folder / "raw.tif"),
                "labels": str(folder / "labels.tif"),
                "axes": "ZYX",
                "labels_as": "classes" if head == "semantic" else "objects",
                "patch_size": 64,
                "patches_per_image": 1,
                "validation_slices": "3",
            },
            "model": {
                "family": family,
                "head": head,
                "features": features,
                "encoder": "resnet18",
                "objects": 8,
            },
            "training": {"batch_size": 2, "epochs": 2, "seed": 3, "averaging": averaging, **training},
            "hardware": {"device": "cpu"},
        }
    )


def test_a_run_that_was_broken_off_goes_on_to_the_bit(numbered: Path, tmp_path: Path) -> None:
    config = config_for(numbered, "mask2former", "panoptic", "ema", micro_batch=1)
    whole, part = tmp_path / "whole", tmp_path / "part"
    events: list[Any] = []
    outcome = train(config, whole, events.append)
    asked = iter([None, None, None, Request.PAUSE])
    assert train(config, part, asked=lambda: next(asked, None)).request is Request.PAUSE
    assert train(config, part).request is None
    assert (whole / "best_model.pth").read_bytes() == (part / "best_model.pth").read_bytes()
    first, second = (json.loads((run / "results.json").read_text())["history"] for run in (whole, part))
    for name in ("train_loss", "val_loss", "val_f1", "val_pq"):
        assert [epoch[name] for epoch in first] == pytest.approx(
            [epoch[name] for epoch in second], nan_ok=True
        )
    epochs = [event for event in events if isinstance(event, EpochEvent)]
    assert all(math.isfinite(event.train_loss) and 0 <= event.val_loss <= 1 for event in epochs)
    # What the network would answer it does not say while it learns: that is no score of 0.
    assert all(math.isnan(event.train_dice) for event in epochs)
    assert "train_dice" not in epoch_metrics(epochs[0])
    assert "nan" not in describe_epoch(epochs[0], None).replace("F1 of objects nan", "")
    assert {"val_f1", "val_pq", "val_ap50"} <= set(outcome.metrics)
    card = read_config(whole / "config.json")[1]
    assert card is not None
    assert card.head is not None
    assert (card.head.name, card.outputs, card.class_values) == ("panoptic", 1, (0, 1))


@pytest.fixture
def model(numbered: Path) -> LoadedModel:
    """Return a model that sees the objects."""
    card = ModelCard(
        channels=1,
        class_values=(0, 1),
        class_names=("background", "object"),
        head=describe_head("masks", False, PixelSize(), 20.0),
        normalization=Normalization(kind="none", offset=(90.0,), scale=(60.0,)),
        axes="ZYX",
        dtype="uint8",
    )
    config = config_for(numbered, "mask-rcnn", "masks")
    return LoadedModel(SeesObjects(1, 1), config, card, Path("best_model.pth"), "0" * 64)


@pytest.mark.parametrize("tile", [None, 64])
def test_objects_are_joined_and_written(
    numbered: Path, model: LoadedModel, tmp_path: Path, tile: int | None
) -> None:
    plane = tifffile.imread(numbered / "raw.tif")[0]
    tifffile.imwrite(tmp_path / "large.tif", np.tile(plane, (3, 3)))
    wanted = {"data": {"images": str(tmp_path / "large.tif")}, "hardware": {"device": "cpu"}}
    config = build_config({**wanted, "inference": {"tile_size": tile}})
    outcome = segment(config, tmp_path / "result", model=model)
    result = tifffile.imread(tmp_path / "result" / "segmentation.tif")
    assert result.dtype == np.uint16
    assert same_objects(result, label(np.tile(plane, (3, 3)) > 120)[0])
    assert np.unique(result).tolist() == list(range(outcome.metrics["objects"] + 1))


def test_an_image_is_the_same_in_tiles_and_whole(numbered: Path, model: LoadedModel) -> None:
    image = np.tile(tifffile.imread(numbered / "raw.tif")[:1], (1, 3, 3))
    whole, tiled = (Predictor(model.network, model.card, CPU, side) for side in (None, 64))
    assert len(tiled.tiles(192, 192)) > 1 == len(whole.tiles(192, 192))
    told: list[tuple[int, int]] = []
    numbers = tiled.logits(image, lambda done, total: told.append((done, total)))
    assert told[-1] == (len(tiled.tiles(192, 192)),) * 2
    assert numbers.shape == (1, 192, 192)
    assert np.array_equal(tiled.objects(numbers) > 0, whole.labels(image) > 0)
    assert same_objects(tiled.objects(numbers), whole.objects(whole.logits(image)))


@pytest.mark.parametrize("option", [{"flips": True}, {"ensemble": ["other"]}])
def test_there_is_no_average_of_whole_objects(model: LoadedModel, option: dict[str, Any]) -> None:
    config = build_config({"inference": option})
    with pytest.raises(ConfigError, match="whole objects") as refused:
        build_predictor(config, model, CPU, [model] if "ensemble" in option else [])
    assert refused.value.remedy


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"model": {"family": "mask-rcnn"}}, r"model\.head semantic"),
        ({"model": {"family": "unet", "head": "masks"}}, r"model\.head masks"),
        ({"training": {"devices": 2}, "model": {"family": "detr"}}, r"training\.devices"),
        ({"training": {"class_weights": "inverse"}, "model": {"family": "detr"}}, r"training\.class_weights"),
        ({"training": {"adversarial": 0.1}, "model": {"family": "detr"}}, r"training\.adversarial"),
        ({"training": {"teacher": "x.pth"}, "model": {"family": "mask2former"}}, r"training\.teacher"),
        ({"model": {"family": "detr", "features": 8}}, "multiple of 32"),
    ],
)
def test_what_does_not_go_together_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_config(changed)


def test_a_run_starts_from_one_that_learned_something_else(numbered: Path, tmp_path: Path) -> None:
    labels = tifffile.imread(numbered / "labels.tif")
    classes = (labels > 0).astype(np.uint8) + (labels > 2)
    tifffile.imwrite(numbered / "classes.tif", classes, imagej=True)

    def begun(head: str, folder: Path, **training: Any) -> dict[str, Tensor]:
        config = config_for(numbered, "mask2former", head, **training)
        if head == "semantic":
            data = config.data.model_copy(update={"labels": str(numbered / "classes.tif")})
            config = config.model_copy(update={"data": data})
        run = run_in(folder, config)
        save_weights(run.state.network, folder / "best_model.pth")
        write_config(folder / "config.json", run.config, run.validator.predictor.card)
        return {
            name.removeprefix(INNER if head == "masks" else ""): array
            for name, array in run.state.network.state_dict().items()
        }

    before = begun("semantic", tmp_path / "0", seed=5)
    for number, head in enumerate(("masks", "semantic")):
        after = begun(head, tmp_path / str(number + 1), start_from=str(tmp_path / str(number)), seed=7)
        assert after.keys() == before.keys()
        new = {
            name
            for name, array in after.items()
            if array.shape != before[name].shape or not torch.equal(array, before[name])
        }
        assert new == HEAD_OF_CLASSES
        before = after
