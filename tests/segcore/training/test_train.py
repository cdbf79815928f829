"""Invariants of a training run: exact resume, reproducibility, stop and keep, time budget."""

import json
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch

from segcore.card import read_config
from segcore.config import build_config
from segcore.errors import ConfigError, DataError, JobError
from segcore.events import EpochEvent, Progress
from segcore.models.saved import load_model
from segcore.training.loop import fit, save_checkpoint
from segcore.training.run import build_run, load_training_data, train
from segcore.training.state import TrainState


@pytest.fixture
def stack(tmp_path):
    """Six planes of bright discs on a dark ground; labels are 0 and 255."""
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[:64, :64]
    labels = np.zeros((6, 64, 64), np.uint8)
    for plane in labels:
        for _ in range(3):
            row, column, radius = rng.integers(8, 56), rng.integers(8, 56), rng.integers(6, 12)
            plane[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = 255
    raw = (60 + 0.4 * labels + rng.normal(0, 12, labels.shape)).clip(0, 255).astype(np.uint8)
    tifffile.imwrite(tmp_path / "raw.tif", raw, imagej=True, metadata={"axes": "ZYX"})
    tifffile.imwrite(tmp_path / "labels.tif", labels, imagej=True, metadata={"axes": "ZYX"})
    return tmp_path


def config_for(stack, **training):
    """Options of a run that takes a second; `training` overrides."""
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
        }
    )


def never() -> bool:
    return False


def comparable(history):
    """Epochs without what depends on the clock."""
    return [event.model_dump(exclude={"time", "seconds", "patches_per_second"}) for event in history]


def run_in(folder, config):
    folder.mkdir(exist_ok=True)
    return build_run(config, folder, load_training_data(config.data), lambda event: None)


def assert_same_state(one: TrainState, two: TrainState):
    for name, value in one.network.state_dict().items():
        assert torch.equal(value, two.network.state_dict()[name]), name
    flat = [
        torch.cat([s[k].flatten() for s in state.optimizer.state.values() for k in sorted(s)])
        for state in (one, two)
    ]
    assert torch.equal(*flat)
    assert torch.equal(one.generator.get_state(), two.generator.get_state())
    assert (one.epoch, one.step, one.best_dice, one.best_epoch) == (
        two.epoch,
        two.step,
        two.best_dice,
        two.best_epoch,
    )
    assert comparable(one.history) == comparable(two.history)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("first", [1, 3])
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(stack, tmp_path, optimizer, first):
    config = config_for(stack, optimizer=optimizer)
    whole = run_in(tmp_path / "whole", config)
    assert fit(whole, never) == "finished"

    # A run that saves after every epoch and is broken off in the middle of the next one.
    config = config_for(stack, optimizer=optimizer, checkpoint_minutes=1e-9)
    part = run_in(tmp_path / "part", config)
    assert fit(part, lambda: part.state.step >= first * part.steps_per_epoch + 2) == "stopped"
    assert part.state.step > first * part.steps_per_epoch
    resumed = run_in(tmp_path / "part", config)
    assert resumed.state.epoch == first
    assert fit(resumed, never) == "finished"

    assert_same_state(whole.state, resumed.state)
    best = [torch.load(tmp_path / name / "best_model.pth", weights_only=True) for name in ("whole", "part")]
    assert all(torch.equal(best[0][key], best[1][key]) for key in best[0])


def test_another_seed_gives_another_run(stack, tmp_path):
    one, two = (run_in(tmp_path / str(seed), config_for(stack, seed=seed, epochs=1)) for seed in (1, 2))
    fit(one, never)
    fit(two, never)
    assert comparable(one.state.history) != comparable(two.state.history)


def test_a_damaged_checkpoint_is_told_as_such(stack, tmp_path):
    config = config_for(stack)
    run = run_in(tmp_path / "run", config)
    save_checkpoint(run)
    path = tmp_path / "run" / "checkpoints" / "last.pt"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(Exception, match=r"checkpoint .* cannot be used"):
        run_in(tmp_path / "run", config)


def test_training_learns_and_leaves_a_model_that_can_be_rebuilt_from_its_two_files(stack, tmp_path):
    events = []
    folder = tmp_path / "run"
    outcome = train(
        config_for(stack, epochs=8, learning_rate=2e-3, batch_size=1), folder, events.append, never
    )
    epochs = [event for event in events if isinstance(event, EpochEvent)]
    assert [event.epoch for event in epochs] == list(range(1, 9))
    assert epochs[-1].train_loss < epochs[0].train_loss
    assert outcome.metrics["val_dice"] == max(event.val_dice for event in epochs) > 0.8
    results = json.loads((folder / "results.json").read_text())
    assert results["best_epoch"] == max(epochs, key=lambda event: event.val_dice).epoch
    assert results["metrics"]["val_dice_per_class"].keys() == {"0", "255"}
    assert len(results["history"]) == 8
    config, card = read_config(folder / "config.json")
    assert card.class_values == (0, 255)
    assert config.training.epochs == 8
    loaded = load_model(folder / "best_model.pth", folder / "config.json")
    assert sum(p.numel() for p in loaded.network.parameters()) == results["parameters"] == card.parameters


def test_progress_counts_every_batch_and_never_passes_its_total(stack, tmp_path):
    events = []
    train(config_for(stack, epochs=2), tmp_path / "run", events.append, never)
    steps = [event for event in events if isinstance(event, Progress) and event.stage == "training"]
    assert [event.done for event in steps] == [1, 2, 3, 4] * 2
    assert all(event.done <= event.total and event.epoch <= event.epochs for event in steps)
    assert all(event.seconds_left >= 0 for event in steps)


def test_a_stop_in_the_first_epoch_still_keeps_a_model(stack, tmp_path):
    asked = iter(range(100))
    outcome = train(config_for(stack), tmp_path / "run", lambda event: None, lambda: next(asked) >= 2)
    assert outcome.stopped
    assert (tmp_path / "run" / "best_model.pth").exists()
    assert json.loads((tmp_path / "run" / "results.json").read_text())["best_epoch"] == 1


def test_a_stop_in_a_validation_does_not_wait_for_its_end(stack, tmp_path):
    run = run_in(tmp_path / "run", config_for(stack, epochs=5))
    planes = []
    logits = run.validator.predictor.logits
    run.validator.predictor.logits = lambda image: (planes.append(image), logits(image))[1]
    regions = len(run.validator.pairs)
    assert regions > 1
    assert fit(run, lambda: len(planes) == regions + 1) == "stopped"
    assert (run.state.epoch, len(planes)) == (1, regions + 1)
    assert (tmp_path / "run" / "best_model.pth").exists()


def test_a_full_disk_is_told_and_leaves_the_checkpoint_before(stack, tmp_path, monkeypatch):
    def full(*_):
        raise RuntimeError("[enforce fail at inline_container.cc:668] .") from OSError(
            28, "No space left on device"
        )

    run = run_in(tmp_path / "run", config_for(stack))
    save_checkpoint(run)
    before = (tmp_path / "run" / "checkpoints" / "last.pt").read_bytes()
    monkeypatch.setattr("torch.save", full)
    with pytest.raises(JobError, match="No space left on device"):
        save_checkpoint(run)
    assert (tmp_path / "run" / "checkpoints" / "last.pt").read_bytes() == before
    assert len(list((tmp_path / "run" / "checkpoints").iterdir())) == 1


def test_a_stop_before_the_first_batch_leaves_no_model(stack, tmp_path):
    outcome = train(config_for(stack), tmp_path / "run", lambda event: None, lambda: True)
    assert outcome.stopped
    assert not (tmp_path / "run" / "best_model.pth").exists()


def test_a_time_budget_ends_the_run_within_it_and_with_the_rate_at_zero(stack, tmp_path, monkeypatch):
    run = run_in(tmp_path / "run", config_for(stack, epochs=100_000, max_minutes=1))
    ticks = count()  # a clock that does not depend on how busy the machine is
    monkeypatch.setattr("segcore.training.loop.time", SimpleNamespace(monotonic=lambda: 0.1 * next(ticks)))
    run.began = 0.0
    assert fit(run, never) == "time budget"
    assert run.seconds < run.budget + 1
    epochs = run.state.history
    assert epochs[-1].learning_rate < 0.2 * max(event.learning_rate for event in epochs)
    assert epochs[-1].epochs == epochs[-1].epoch


def test_an_unlabelled_pixel_changes_no_loss_gradient_or_metric(stack, tmp_path):
    run = run_in(tmp_path / "run", config_for(stack))
    network = run.state.network
    image = torch.rand(2, 1, 32, 32)
    label = torch.randint(0, 2, (2, 32, 32))
    label[:, :, 16:] = -1
    results = []
    for fill in (0, 1):
        # What the network says about unlabelled pixels may differ; nothing that is learned or reported may.
        logits = network.eval()(image).detach().clone()
        logits[:, fill, :, 16:] += 50
        logits.requires_grad_()
        loss = run.task.loss(logits, label)
        loss.backward()
        assert (logits.grad[:, :, :, 16:] == 0).all()
        results.append((loss.item(), logits.grad[:, :, :, :16].clone()))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"validation_slices": "4-9"}, ConfigError, "9"),
        ({"class_names": ["a", "b", "c"]}, ConfigError, "names 3 classes, the labels hold 2"),
        ({"labels": None}, ConfigError, "both needed"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_written(stack, tmp_path, change, error, message):
    config = config_for(stack)
    config = config.model_copy(update={"data": config.data.model_copy(update=change)})
    folder = tmp_path / "run"
    with pytest.raises(error, match=message):
        train(config, folder, lambda event: None, never)
    assert not folder.exists()


def test_labels_of_another_shape_are_refused_naming_both(stack, tmp_path):
    tifffile.imwrite(
        stack / "labels.tif", np.zeros((5, 64, 64), np.uint8), imagej=True, metadata={"axes": "ZYX"}
    )
    with pytest.raises(DataError, match=r"6 × 64 × 64.*5 × 64 × 64"):
        train(config_for(stack), tmp_path / "run", lambda event: None, never)
