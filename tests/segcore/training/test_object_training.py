"""A training that learns objects: scores, the best epoch, resuming to the bit, and the model that is left."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from drawn_objects import blobs
from PIL import Image
from trainings import assert_same_state, comparable, run_in

from segcore.card import read_config
from segcore.config import RunConfig, build_config
from segcore.data.colouring import COLOURS
from segcore.errors import ConfigError
from segcore.events import EpochEvent, Request, unasked
from segcore.jobs.feedback import read_scene, shots
from segcore.models.saved import find_model, load_model
from segcore.postprocess.heads import HEADS
from segcore.predictor import Predictor
from segcore.tracking.record import epoch_metrics
from segcore.training.loop import fit
from segcore.training.run import train
from segcore.training.validation import Verdict

every_head = pytest.mark.parametrize("name", HEADS)


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """Six planes of objects with a number each; some touch."""
    labels = np.stack([blobs(64, 8, seed) for seed in range(6)]).astype(np.uint16)
    rng = np.random.default_rng(2)
    bright = rng.uniform(80, 200, 9)
    bright[0] = 20
    images = bright[labels] + rng.normal(0, 5, labels.shape)
    tifffile.imwrite(tmp_path / "raw.tif", images.clip(0, 255).astype(np.uint8), imagej=True)
    tifffile.imwrite(tmp_path / "labels.tif", labels, imagej=True)
    return tmp_path


def config_for(folder: Path, name: str, data: dict[str, Any] | None = None, **training: Any) -> RunConfig:
    """Return options of a short run with a head."""
    return build_config(
        {
            "data": {
                "images": str(folder / "raw.tif"),
                "labels": str(folder / "labels.tif"),
                "axes": "ZYX",
                "labels_as": "objects",
                "patch_size": 32,
                "patches_per_image": 4,
                "validation_slices": "4-5",
                **(data or {}),
            },
            "model": {"features": 4, "layers": 2, "head": name},
            "training": {"batch_size": 4, "epochs": 2, "seed": 3, **training},
            "hardware": {"device": "cpu"},
        }
    )


@every_head
def test_objects_are_scored_and_the_best_epoch_is_that_of_their_f1(
    name: str, numbered: Path, tmp_path: Path
) -> None:
    events: list[Any] = []
    outcome = train(config_for(numbered, name, epochs=3), tmp_path / "run", events.append)
    epochs = [event for event in events if isinstance(event, EpochEvent)]
    assert all(event.val_f1 is not None and event.val_score == event.val_f1 for event in epochs)
    best = max(epochs, key=lambda event: (event.val_score, -event.epoch if event.val_score else event.epoch))
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["best_epoch"] == best.epoch
    assert outcome.metrics["val_f1"] == best.val_f1
    assert {"val_ap50", "val_f1", "val_pq"} <= set(epoch_metrics(best))
    config, card = read_config(tmp_path / "run" / "config.json")
    assert config.model.head == name
    assert card is not None
    assert card.class_values == (0, 1)
    assert card.head is not None
    assert card.head.name == name
    assert all(8 < side < 30 for side in card.head.sides)
    *_, last = shots(tmp_path / "run")
    scene, label_YX = read_scene(last.folder), np.asarray(Image.open(last.folder / "label.png"))
    assert scene is not None
    assert scene.objects
    annotated = tifffile.imread(numbered / "labels.tif")[scene.window.plane]
    assert np.array_equal(label_YX > 0, annotated > 0)
    assert 2 < label_YX.max() <= COLOURS, "objects are told apart"
    assert np.asarray(Image.open(last.path)).max() <= COLOURS


@every_head
def test_a_run_that_was_broken_off_goes_on_to_the_bit(name: str, numbered: Path, tmp_path: Path) -> None:
    config = config_for(numbered, name, micro_batch=2)
    whole, part = tmp_path / "whole", tmp_path / "part"
    train(config, whole)
    asked = iter([None, None, None, Request.PAUSE])
    assert train(config, part, asked=lambda: next(asked, None)).request is Request.PAUSE
    assert train(config, part).request is None
    assert (whole / "best_model.pth").read_bytes() == (part / "best_model.pth").read_bytes()
    one, two = (run_in(folder, config) for folder in (whole, part))
    assert comparable(one.state.history) == comparable(two.state.history)
    assert_same_state(one.state, two.state)


@every_head
def test_a_saved_model_finds_the_same_objects(name: str, numbered: Path, tmp_path: Path) -> None:
    run = run_in(tmp_path / "run", config_for(numbered, name))
    fit(run, unasked)
    loaded = load_model(*find_model(tmp_path / "run"), run.hardware)
    image = tifffile.imread(numbered / "raw.tif")[:1]
    kept = run.validator.predictor
    kept.network = run.state.kept_network
    kept.network.load_state_dict(loaded.network.state_dict())
    again = Predictor(loaded.network, loaded.card, run.hardware)
    assert np.array_equal(kept.objects(kept.logits(image)), again.objects(again.logits(image)))
    assert np.array_equal(again.labels(image), again.objects(again.logits(image)) > 0)


@pytest.mark.parametrize("name", ["boundary", "flows"])
def test_volumes_are_learned_too(name: str, numbered: Path, tmp_path: Path) -> None:
    data = {"mode": "3d", "patch_depth": 4, "patches_per_image": 2}
    outcome = train(config_for(numbered, name, data, epochs=1), tmp_path / "run")
    assert np.isfinite(outcome.metrics["val_loss"])
    card = read_config(tmp_path / "run" / "config.json")[1]
    assert card is not None
    assert card.head is not None
    assert len(card.head.sides) == card.head.dimensions == 3


def test_slices_seen_together_are_learned_as_planes(numbered: Path, tmp_path: Path) -> None:
    outcome = train(config_for(numbered, "boundary", {"mode": "2.5d"}, epochs=1), tmp_path / "run")
    assert np.isfinite(outcome.metrics["val_loss"])


def test_patches_that_are_read_from_disk_train_the_same(numbered: Path, tmp_path: Path) -> None:
    runs = []
    for loading in ("memory", "disk"):
        config = config_for(numbered, "boundary", {"loading": loading}, epochs=1)
        runs.append(run_in(tmp_path / loading, config))
        fit(runs[-1], unasked)
    assert comparable(runs[0].state.history) == comparable(runs[1].state.history)


def test_a_head_needs_labels_that_are_objects() -> None:
    with pytest.raises(ConfigError, match=r"data\.labels_as is classes"):
        build_config({"model": {"head": "stars"}})
    with pytest.raises(ConfigError, match=r"training\.class_weights"):
        build_config(
            {
                "model": {"head": "stars"},
                "data": {"labels_as": "objects"},
                "training": {"class_weights": "inverse"},
            }
        )


def test_objects_without_a_head_are_foreground(numbered: Path, tmp_path: Path) -> None:
    outcome = train(config_for(numbered, "semantic", epochs=1), tmp_path / "run")
    assert "val_f1" not in outcome.metrics
    card = read_config(tmp_path / "run" / "config.json")[1]
    assert card is not None
    assert (card.head, card.class_values) == (None, (0, 1))


def test_while_no_object_is_found_the_latest_epoch_is_kept_and_nothing_loses_patience(
    numbered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = iter([0.0, math.nan, 0.0, 0.4, 0.0, 0.0])
    monkeypatch.setattr(Verdict, "f1", property(lambda verdict: score))
    score = 0.0
    kept: list[tuple[bool, int]] = []
    rates: list[float] = []

    def told(event: Any) -> None:
        nonlocal score
        if isinstance(event, EpochEvent):
            kept.append((event.best, event.without_gain))
            rates.append(event.learning_rate)
            score = next(found, 0.0)

    score = next(found)
    plateau = {"schedule": "plateau", "schedule_patience": 1, "warm_up": 0}
    train(config_for(numbered, "flows", epochs=9, patience=2, **plateau), tmp_path / "run", told)
    assert kept == [(True, 0), (True, 0), (True, 0), (True, 0), (False, 1), (False, 2)]
    assert rates[:5] == rates[:1] * 5
    assert rates[5] < rates[4]
