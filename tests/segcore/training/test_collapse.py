"""Real trainings made to collapse: the autopilot brings them back, with three interventions at most."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from segcore.config import RunConfig, build_config
from segcore.data.simulate import simulate
from segcore.events import EpochEvent, Event, InterventionEvent
from segcore.training.run import train
from segcore.training.treatment import MOST_TREATMENTS

LEARNED = 0.05
"""Dice above that of the same class everywhere."""


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Eight images with cells on a fifth of them."""
    return simulate(tmp_path_factory.mktemp("cells"), "2class", 8, 64, 0)


@pytest.fixture(scope="module")
def specks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Eight noisy images with a few specks on 1 % of the pixels."""
    folder = tmp_path_factory.mktemp("specks")
    rng = np.random.default_rng(0)
    labels = np.zeros((8, 64, 64), np.uint8)
    rows, columns = np.mgrid[:64, :64]
    for plane in labels:
        row, column = rng.integers(6, 58, 2)
        plane[(rows - row) ** 2 + (columns - column) ** 2 <= 12] = 1
    images = (rng.normal(1000, 150, labels.shape) + 600.0 * labels).astype(np.uint16)
    for name, stack in (("raw.tif", images), ("labels.tif", labels)):
        tifffile.imwrite(folder / name, stack, photometric="minisblack", metadata={"axes": "ZYX"})
    assert 0.005 < labels.mean() < 0.015
    return folder / "raw.tif", folder / "labels.tif"


def _config(files: tuple[Path, Path], **training: Any) -> RunConfig:
    images, labels = files
    return build_config(
        {
            "data": {
                "images": str(images), "labels": str(labels), "patch_size": 32, "patches_per_image": 16,
                "augmentation": False,
            },
            "model": {"features": 4, "layers": 2},
            "training": {"epochs": 20, "batch_size": 4, **training},
            "hardware": {"device": "cpu", "precision": "fp32"},
        }
    )  # fmt: skip


def _run(config: RunConfig, folder: Path) -> tuple[list[EpochEvent], list[InterventionEvent]]:
    told: list[Event] = []
    train(config, folder, told.append)
    epochs = [event for event in told if isinstance(event, EpochEvent)]
    treated = [event for event in told if isinstance(event, InterventionEvent)]
    kept = json.loads((folder / "results.json").read_text())["interventions"]
    assert [item["action"] for item in kept] == [event.action for event in treated]
    assert [event.epoch for event in epochs] == list(range(1, config.training.epochs + 1))
    return epochs, treated


def _constant(epochs: list[EpochEvent], labels: Path) -> float:
    """Return the best Dice of the same class everywhere."""
    share = float((tifffile.imread(labels) > 0).mean())
    return max(share / (1 + share), (1 - share) / (2 - share))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_huge_rate_is_brought_down(optimizer: str, cells: tuple[Path, Path], tmp_path: Path) -> None:
    epochs, treated = _run(_config(cells, learning_rate=20.0, optimizer=optimizer), tmp_path)
    assert 1 <= len(treated) <= MOST_TREATMENTS
    assert "learning rate 20 is far too high" in treated[0].cause
    assert "learning rate ÷" in treated[0].action
    assert epochs[-1].val_dice > _constant(epochs, cells[1]) + LEARNED


def test_one_percent_foreground_is_found_in_the_end(specks: tuple[Path, Path], tmp_path: Path) -> None:
    epochs, treated = _run(_config(specks, loss="ce", epochs=24), tmp_path)
    assert 1 <= len(treated) <= MOST_TREATMENTS
    assert treated[0].what == "all-background"
    assert "of the annotated pixels are class 1" in treated[0].cause
    assert "Dice + cross-entropy" in treated[0].action
    assert epochs[-1].val_dice > _constant(epochs, specks[1]) + LEARNED


def test_a_healthy_run_is_left_alone(tmp_path: Path) -> None:
    files = simulate(tmp_path / "data", "3class", 6, 64, 0)
    _, treated = _run(_config(files), tmp_path / "run")
    assert treated == []


def test_without_the_autopilot_nothing_is_changed(cells: tuple[Path, Path], tmp_path: Path) -> None:
    _, treated = _run(_config(cells, learning_rate=20.0, epochs=8, autopilot=False), tmp_path)
    assert treated == []
