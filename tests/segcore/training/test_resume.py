"""A run that was broken off, at any step, goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from trainings import assert_same_state, comparable, config_for, run_in

from segcore.card import write_config
from segcore.events import Event, Request, ResumeEvent, unasked
from segcore.jobs.journal import FolderReporter, read_events, read_history
from segcore.training.loop import fit
from segcore.training.run import train
from segcore.training.state import read_checkpoint

KILLED = Path(__file__).with_name("killed.py")


def results_of(folder: Path) -> dict[str, Any]:
    """Return results.json without what depends on the clock."""
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    clock = ("time", "seconds", "patches_per_second", "loader_wait", "memory", "device_use")
    for epoch in results["history"]:
        for name in clock:
            epoch.pop(name)
    return {name: value for name, value in results.items() if name not in (*clock, "seconds_per_megapixel")}


def same_tensors(one: Any, two: Any) -> bool:
    """Compare the content of two checkpoints to the bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same_tensors(one[key], two[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(two) and all(map(same_tensors, one, two))
    return bool(one == two)


def assert_same_run(one: Path, two: Path) -> None:
    """Compare what two runs left: model, state, results."""
    assert (one / "best_model.pth").read_bytes() == (two / "best_model.pth").read_bytes()
    for name in ("last.pt", "best.pt"):
        left, right = (read_checkpoint(folder / "checkpoints" / name) for folder in (one, two))
        decisive = ("network", "optimizer", "average", "scaler", "best_dice", "best_epoch", "epoch", "step")
        for part in (*decisive, "gain_dice", "gain_epoch"):
            assert same_tensors(left[part], right[part]), (name, part)
        assert torch.equal(left["random"]["run"], right["random"]["run"])
    assert results_of(one) == results_of(two)


@pytest.mark.parametrize("options", [{}, {"averaging": "ema", "optimizer": "sgd"}, {"averaging": "swa"}])
def test_a_run_killed_at_random_moments_equals_one_that_was_left_alone(
    stack: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    # A checkpoint after every step: every kill hits another place, most of them inside an epoch.
    config = config_for(stack, epochs=6, schedule="cosine", checkpoint_minutes=1e-9, **options)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
        (folder / "events.jsonl").touch()
    train(config, whole, FolderReporter(whole))
    write_config(tmp_path / "config.json", config)
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, str(KILLED), str(tmp_path / "config.json"), str(killed), "8", "1"]
    subprocess.run(command, check=True, env=environment, timeout=120)

    resumed = [event for event in read_events(killed) if isinstance(event, ResumeEvent)]
    assert any(event.step % 4 for event in resumed), "no kill within an epoch"
    assert_same_run(whole, killed)
    assert comparable(read_history(whole)) == comparable(read_history(killed))
    assert not list(killed.rglob(".*.part"))


@pytest.mark.parametrize("steps", [0, 1, 3, 4, 6, 15])
@pytest.mark.parametrize("averaging", ["none", "swa"])
def test_a_pause_at_any_step_loses_nothing(stack: Path, tmp_path: Path, steps: int, averaging: str) -> None:
    config = config_for(stack, averaging=averaging)
    whole = run_in(tmp_path / "whole", config)
    assert fit(whole, unasked) == "finished"

    part = run_in(tmp_path / "part", config)
    assert fit(part, lambda: Request.PAUSE if part.state.step >= steps else None) == "paused"
    assert part.state.step == steps
    heard: list[Event] = []
    resumed = run_in(tmp_path / "part", config, heard.append)
    assert [(event.epoch, event.step) for event in heard if isinstance(event, ResumeEvent)] == [
        (part.state.epoch, steps)
    ]
    assert fit(resumed, unasked) == "finished"
    assert_same_state(whole.state, resumed.state)


def test_a_pause_in_a_validation_repeats_only_the_validation(stack: Path, tmp_path: Path) -> None:
    config = config_for(stack)
    whole = run_in(tmp_path / "whole", config)
    fit(whole, unasked)

    part = run_in(tmp_path / "part", config)
    planes = []
    logits = part.validator.predictor.logits
    part.validator.predictor.logits = lambda image, **more: (planes.append(1), logits(image, **more))[1]  # type: ignore[method-assign,assignment,func-returns-value]
    # The first epoch predicts two planes and its feedback: the fourth is in the second validation.
    assert fit(part, lambda: Request.PAUSE if len(planes) == 4 else None) == "paused"
    assert (part.state.epoch, part.state.step) == (1, 2 * part.steps_per_epoch)
    resumed = run_in(tmp_path / "part", config)
    assert fit(resumed, unasked) == "finished"
    assert_same_state(whole.state, resumed.state)


def test_random_numbers_of_python_numpy_and_torch_go_on_too(stack: Path, tmp_path: Path) -> None:
    import random

    import numpy as np

    run = run_in(tmp_path / "run", config_for(stack))

    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.normal()), float(torch.rand(()))

    drawn()
    run.save()
    after = drawn()
    drawn()
    run_in(tmp_path / "run", run.config)
    assert drawn() == after


def test_a_stopped_run_can_go_on_afterwards(stack: Path, tmp_path: Path) -> None:
    config = config_for(stack)
    whole, part = tmp_path / "whole", tmp_path / "part"
    for folder in (whole, part):
        folder.mkdir()
    train(config, whole)
    steps = iter(range(100))
    stopped = train(config, part, asked=lambda: Request.STOP if next(steps) >= 10 else None)
    assert stopped.request is Request.STOP
    assert results_of(part)["ended"] == "stopped"
    assert train(config, part).request is None
    assert_same_run(whole, part)


def test_a_discarded_run_ends_at_once_and_writes_nothing_more(stack: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    config = config_for(stack, checkpoint_minutes=60)
    assert train(config, folder, asked=lambda: Request.DISCARD).request is Request.DISCARD
    assert not (folder / "results.json").exists()
    assert not (folder / "checkpoints").exists()
