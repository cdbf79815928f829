"""Tiny trainings for the tests of training: their options, and what two equal runs have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from segcore.config import RunConfig, build_config
from segcore.data.dataset import load_training_data
from segcore.events import EpochEvent, Reporter, unheard
from segcore.training.context import Run
from segcore.training.run import build_run
from segcore.training.state import TrainState


def write_discs(folder: Path) -> None:
    """Write six planes of bright discs on a dark ground, raw.tif; in labels.tif they are 0 and 255."""
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[:64, :64]
    labels = np.zeros((6, 64, 64), np.uint8)
    for plane in labels:
        for _ in range(3):
            row, column, radius = rng.integers(8, 56), rng.integers(8, 56), rng.integers(6, 12)
            plane[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = 255
    raw = (60 + 0.4 * labels + rng.normal(0, 12, labels.shape)).clip(0, 255).astype(np.uint8)
    tifffile.imwrite(folder / "raw.tif", raw, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(folder / "labels.tif", labels, imagej=True, metadata={"axes": "ZYX"})


def config_for(stack: Path, **training: Any) -> RunConfig:
    """Return options of a run that takes a second; `training` overrides."""
    return build_config(
        {
            "data": {
                "images": str(stack / "raw.tif"),
                "labels": str(stack / "labels.tif"),
                "patch_size": 32,
                "patches_per_image": 4,
                "validation_slices": "4-5",
            },
            "model": {"features": 4, "layers": 2},
            "training": {"batch_size": 4, "epochs": 4, "seed": 3, **training},
            "hardware": {"device": "cpu"},
        }
    )


def comparable(history: list[EpochEvent]) -> list[dict[str, Any]]:
    """Return epochs without what depends on the clock or the machine."""
    clock = {"time", "seconds", "patches_per_second", "loader_wait", "memory", "device_use"}
    return [event.model_dump(exclude=clock) for event in history]


def run_in(folder: Path, config: RunConfig, report: Reporter = unheard) -> Run:
    """Build a run in a folder, or take it up there."""
    folder.mkdir(exist_ok=True)
    data = load_training_data(config.data, objects=config.model.learns_objects)
    return build_run(config, folder, data, report)


def assert_same_state(one: TrainState, two: TrainState) -> None:
    """Compare everything that decides how a run goes on, to the bit."""
    states = (one, two)
    for name, value in one.network.state_dict().items():
        assert torch.equal(value, two.network.state_dict()[name]), name
    for group, other in zip(one.optimizer.param_groups, two.optimizer.param_groups, strict=True):
        shared = {name: value for name, value in group.items() if name != "params"}  # LAMB counts steps here
        assert shared == {name: value for name, value in other.items() if name != "params"}
    moments = [[number for s in state.optimizer.state.values() for number in s.values()] for state in states]
    assert all(torch.equal(*pair) for pair in zip(*moments, strict=True))
    assert torch.equal(one.generator.get_state(), two.generator.get_state())
    assert (one.average is None) == (two.average is None)
    if one.average and two.average:
        assert one.average.count == two.average.count
        for name, value in one.average.network.state_dict().items():
            assert torch.equal(value, two.average.network.state_dict()[name]), name
    plain = [(s.epoch, s.step, s.best_dice, s.best_epoch, s.gain_dice, s.gain_epoch) for s in states]
    assert plain[0] == plain[1]
    assert comparable(one.history) == comparable(two.history)
