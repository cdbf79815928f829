"""Runs that go on with another run, or begin with its model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from trainings import config_for, run_in

from segcore.card import read_config, write_config
from segcore.config import RunConfig
from segcore.errors import ConfigError, ModelError
from segcore.events import EpochEvent, Event, NoteEvent, Request, unasked
from segcore.training.loop import fit
from segcore.training.run import train
from segcore.training.state import read_checkpoint


@pytest.fixture
def parent(stack: Path, tmp_path: Path) -> Path:
    """Train three epochs."""
    folder = tmp_path / "parent"
    train(config_for(stack, epochs=3), folder)
    return folder


def notes_of(events: list[Event]) -> str:
    """Return all notes in one text."""
    return " ".join(event.text for event in events if isinstance(event, NoteEvent))


def with_model(config: RunConfig, **model: Any) -> RunConfig:
    """Return the options with another network."""
    return config.model_copy(update={"model": config.model.model_copy(update=model)})


def test_a_continued_run_trains_more_epochs_and_numbers_them_on(
    stack: Path, tmp_path: Path, parent: Path
) -> None:
    child = tmp_path / "child"
    events: list[Event] = []
    train(config_for(stack, epochs=2, continue_from=str(parent)), child, events.append)
    epochs = [event for event in events if isinstance(event, EpochEvent)]
    assert [(event.epoch, event.epochs) for event in epochs] == [(4, 5), (5, 5)]
    results = json.loads((child / "results.json").read_text())
    before = json.loads((parent / "results.json").read_text())
    assert results["history"][:3] == before["history"]
    best = max(results["history"], key=lambda epoch: epoch["val_dice"])
    assert results["best_epoch"] == best["epoch"]
    assert (child / "best_model.pth").exists()
    if best["epoch"] <= 3:
        assert (child / "best_model.pth").read_bytes() == (parent / "best_model.pth").read_bytes()


def test_a_continued_run_takes_over_weights_optimizer_and_random_numbers(
    stack: Path, tmp_path: Path, parent: Path
) -> None:
    content = read_checkpoint(parent / "checkpoints" / "last.pt")
    run = run_in(tmp_path / "child", config_for(stack, epochs=2, continue_from=str(parent)))
    assert all(
        torch.equal(tensor, content["network"][name])
        for name, tensor in run.state.network.state_dict().items()
    )
    assert torch.equal(run.state.generator.get_state(), content["random"]["run"])
    moments = run.state.optimizer.state_dict()["state"]
    assert all(
        torch.equal(moments[key]["exp_avg"], old["exp_avg"])
        for key, old in content["optimizer"]["state"].items()
    )
    assert run.progress == 0
    assert run.seconds < 60


def test_a_continued_run_can_itself_be_resumed_to_the_bit(stack: Path, tmp_path: Path, parent: Path) -> None:
    config = config_for(stack, epochs=2, continue_from=str(parent))
    whole = run_in(tmp_path / "whole", config)
    fit(whole, unasked)
    part = run_in(tmp_path / "part", config)
    stop = part.state.step + 6
    assert fit(part, lambda: Request.PAUSE if part.state.step == stop else None) == "paused"
    resumed = run_in(tmp_path / "part", config)
    assert fit(resumed, unasked) == "finished"
    assert resumed.state.epoch == whole.state.epoch == 5
    for name, tensor in whole.state.network.state_dict().items():
        assert torch.equal(tensor, resumed.state.network.state_dict()[name])


def test_on_other_images_the_best_score_of_the_parent_does_not_count(
    stack: Path, tmp_path: Path, parent: Path
) -> None:
    raw = tifffile.imread(stack / "raw.tif")
    tifffile.imwrite(stack / "raw.tif", raw[::-1], imagej=True, metadata={"axes": "ZYX"})
    events: list[Event] = []
    config = config_for(stack, epochs=1, continue_from=str(parent))
    train(config, tmp_path / "child", events.append)
    assert json.loads((tmp_path / "child" / "results.json").read_text())["best_epoch"] == 4
    assert "the best score begins anew" in notes_of(events)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": {"features": 8}}, ModelError, "features 4 there, 8 here"),
        ({"training": {"optimizer": "sgd"}}, ConfigError, "optimizer"),
        ({"model": {"freeze_encoder": True}}, ConfigError, "freeze_encoder"),
    ],
)
def test_a_run_that_cannot_be_continued_says_why(
    stack: Path, tmp_path: Path, parent: Path, change: dict[str, Any], error: type, message: str
) -> None:
    config = config_for(stack, continue_from=str(parent), **change.get("training", {}))
    with pytest.raises(error, match=message) as caught:
        train(with_model(config, **change.get("model", {})), tmp_path / "child")
    assert caught.value.remedy


def test_other_classes_and_missing_checkpoints_are_refused(stack: Path, tmp_path: Path, parent: Path) -> None:
    labels = tifffile.imread(stack / "labels.tif")
    labels[:, :5] = 7
    tifffile.imwrite(stack / "labels.tif", labels, imagej=True, metadata={"axes": "ZYX"})
    config = config_for(stack, continue_from=str(parent))
    with pytest.raises(ModelError, match="label values 0, 255 there, 0, 7, 255 here"):
        train(config, tmp_path / "child")
    (parent / "checkpoints" / "last.pt").unlink()
    with pytest.raises(ModelError, match="no checkpoint"):
        train(config, tmp_path / "child")


def test_a_run_starts_from_the_weights_of_a_model_and_nothing_else(
    stack: Path, tmp_path: Path, parent: Path
) -> None:
    events: list[Event] = []
    config = config_for(stack, start_from=str(parent), seed=9)
    run = run_in(tmp_path / "child", config, events.append)
    best = torch.load(parent / "best_model.pth", weights_only=True)
    assert all(torch.equal(tensor, best[name]) for name, tensor in run.state.network.state_dict().items())
    assert (run.state.epoch, run.state.step, run.state.best_epoch) == (0, 0, 0)
    assert not run.state.optimizer.state
    assert "encoder, bottom, decoder, head taken over" in notes_of(events)


def test_other_channels_and_classes_get_new_ends_and_keep_the_rest(
    stack: Path, tmp_path: Path, parent: Path
) -> None:
    raw, labels = (tifffile.imread(stack / f"{name}.tif") for name in ("raw", "labels"))
    labels[:, :5] = 7
    coloured = np.stack([raw, raw], 1)
    tifffile.imwrite(stack / "raw.tif", coloured, imagej=True, metadata={"axes": "ZCYX"})
    tifffile.imwrite(stack / "labels.tif", labels, imagej=True, metadata={"axes": "ZYX"})
    events: list[Event] = []
    run = run_in(
        tmp_path / "child", config_for(stack, start_from=str(parent / "best_model.pth")), events.append
    )
    best = torch.load(parent / "best_model.pth", weights_only=True)
    new = {
        name
        for name, tensor in run.state.network.state_dict().items()
        if tensor.shape != best[name].shape or not torch.equal(tensor, best[name])
    }
    assert new == {"encoder.0.0.weight", "head.weight", "head.bias"}
    assert "first convolution new" in notes_of(events)
    assert "head new" in notes_of(events)


def test_a_registered_model_keeps_its_name_in_the_options(stack: Path, tmp_path: Path, parent: Path) -> None:
    folder = tmp_path / "child"
    write_config(folder / "config.json", config_for(stack, start_from="models:/discs@best"))
    run_in(folder, config_for(stack, start_from=str(parent)))
    assert read_config(folder / "config.json")[0].training.start_from == "models:/discs@best"


def test_another_epoch_chosen_as_the_model_of_the_parent_is_not_taken_for_its_best(
    stack: Path, tmp_path: Path, parent: Path
) -> None:
    best = (parent / "best_model.pth").read_bytes()
    (parent / "best_model.pth").write_bytes(b"another epoch")
    run_in(tmp_path / "child", config_for(stack, continue_from=str(parent)))
    assert (tmp_path / "child" / "best_model.pth").read_bytes() == best


def test_a_model_of_another_size_is_refused_with_the_size_to_use(
    stack: Path, tmp_path: Path, parent: Path
) -> None:
    config = with_model(config_for(stack, start_from=str(parent)), features=8)
    with pytest.raises(ModelError, match="has 4 features") as caught:
        train(config, tmp_path / "child")
    assert "features to 4" in caught.value.remedy


def test_a_frozen_encoder_of_random_weights_is_warned_of(stack: Path, tmp_path: Path, parent: Path) -> None:
    for start, warned in ((None, True), (str(parent), False)):
        events: list[Event] = []
        config = with_model(config_for(stack, start_from=start), freeze_encoder=True)
        run_in(tmp_path / f"child-{warned}", config, events.append)
        assert ("random weights" in notes_of(events)) is warned


def test_a_network_of_other_dimensions_is_refused(stack: Path, tmp_path: Path, parent: Path) -> None:
    solid = config_for(stack, epochs=1)
    data = solid.data.model_copy(update={"mode": "3d", "patch_depth": 4})
    for name, way in {"start_from": "another number of axes", "continue_from": "dimensions 2d there"}.items():
        training = solid.training.model_copy(update={name: str(parent)})
        with pytest.raises(ModelError, match=way):
            train(solid.model_copy(update={"data": data, "training": training}), tmp_path / name)
