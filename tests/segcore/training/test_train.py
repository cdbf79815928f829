"""Invariants of a training run: reproducibility, stop and keep, time budget, early stopping."""

import json
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from trainings import comparable, config_for, run_in

from segcore.card import read_config
from segcore.errors import ConfigError, DataError
from segcore.events import EpochEvent, NoteEvent, Progress, Request, unasked, unheard
from segcore.models.saved import load_model
from segcore.training.loop import fit
from segcore.training.run import train


def test_another_seed_gives_another_run(stack, tmp_path):
    one, two = (run_in(tmp_path / str(seed), config_for(stack, seed=seed, epochs=1)) for seed in (1, 2))
    fit(one, unasked)
    fit(two, unasked)
    assert comparable(one.state.history) != comparable(two.state.history)


def test_training_learns_and_leaves_a_model_that_can_be_rebuilt_from_its_two_files(stack, tmp_path):
    events = []
    folder = tmp_path / "run"
    outcome = train(
        config_for(stack, epochs=8, learning_rate=2e-3, batch_size=1), folder, events.append, unasked
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
    train(config_for(stack, epochs=2), tmp_path / "run", events.append, unasked)
    steps = [event for event in events if isinstance(event, Progress) and event.stage == "training"]
    assert [event.done for event in steps] == [1, 2, 3, 4] * 2
    assert all(event.done <= event.total and event.epoch <= event.epochs for event in steps)
    assert all(event.seconds_left >= 0 for event in steps)


def test_a_stop_in_the_first_epoch_still_keeps_a_model(stack, tmp_path):
    asked = iter(range(100))
    outcome = train(
        config_for(stack), tmp_path / "run", unheard, lambda: Request.STOP if next(asked) >= 2 else None
    )
    assert outcome.request is Request.STOP
    assert (tmp_path / "run" / "best_model.pth").exists()
    assert json.loads((tmp_path / "run" / "results.json").read_text())["best_epoch"] == 1


def test_a_stop_in_a_validation_does_not_wait_for_its_end(stack, tmp_path):
    run = run_in(tmp_path / "run", config_for(stack, epochs=5))
    planes = []
    logits = run.validator.predictor.logits
    run.validator.predictor.logits = lambda image, **more: (planes.append(image), logits(image, **more))[1]
    regions = len(run.validator.scenes)
    assert regions > 1
    assert fit(run, lambda: Request.STOP if len(planes) == regions + 1 else None) == "stopped"
    assert (run.state.epoch, len(planes)) == (1, regions + 1)
    assert (tmp_path / "run" / "best_model.pth").exists()


def test_a_stop_before_the_first_batch_leaves_no_model(stack, tmp_path):
    outcome = train(config_for(stack), tmp_path / "run", unheard, lambda: Request.STOP)
    assert outcome.request is Request.STOP
    assert not (tmp_path / "run" / "best_model.pth").exists()


def test_a_time_budget_ends_the_run_within_it_and_with_the_rate_at_zero(stack, tmp_path, monkeypatch):
    run = run_in(tmp_path / "run", config_for(stack, epochs=100_000, max_minutes=1))
    ticks = count()  # a clock that does not depend on how busy the machine is
    clock = SimpleNamespace(monotonic=lambda: 0.1 * next(ticks))
    monkeypatch.setattr("segcore.training.context.time", clock)
    run.began = 0.0
    assert fit(run, unasked) == "time budget"
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
        train(config, folder, unheard, unasked)
    assert not folder.exists()


def test_labels_of_another_shape_are_refused_naming_both(stack, tmp_path):
    tifffile.imwrite(
        stack / "labels.tif", np.zeros((5, 64, 64), np.uint8), imagej=True, metadata={"axes": "ZYX"}
    )
    with pytest.raises(DataError, match=r"6 × 64 × 64.*5 × 64 × 64"):
        train(config_for(stack), tmp_path / "run", unheard, unasked)


def test_patience_ends_the_run_and_counts_only_real_gains(stack, tmp_path):
    events = []
    folder = tmp_path / "run"
    # No epoch rises by half a Dice: the first is the only gain.
    train(config_for(stack, epochs=9, patience=3, min_gain=0.5), folder, events.append, unasked)
    epochs = [event for event in events if isinstance(event, EpochEvent)]
    assert [event.without_gain for event in epochs] == [0, 1, 2, 3]
    results = json.loads((folder / "results.json").read_text())
    assert results["ended"] == "early stopping"
    assert not results["stopped"]
    notes = [event.text for event in events if isinstance(event, NoteEvent)]
    assert any("Stopped early" in text and "3 epochs" in text for text in notes)


def test_without_patience_a_run_trains_to_its_end(stack, tmp_path):
    run = run_in(tmp_path / "run", config_for(stack, epochs=5, min_gain=0.5))
    assert fit(run, unasked) == "finished"
    assert run.state.epoch == 5


def test_an_epoch_says_what_was_predicted_and_how_busy_the_device_was(stack, tmp_path):
    run = run_in(tmp_path / "run", config_for(stack, epochs=2))
    fit(run, unasked)
    for event in run.state.history:
        assert event.val_predicted_share.keys() == {"0", "255"}
        assert sum(event.val_predicted_share.values()) == pytest.approx(1)
        assert 0 < event.loader_wait < 1
        assert 0 < event.device_use <= 1
        assert event.memory > 10**7


def test_every_nth_epoch_is_kept_as_a_model(stack, tmp_path):
    folder = tmp_path / "run"
    run = run_in(folder, config_for(stack, epochs=5, keep_every=2))
    fit(run, unasked)
    kept = sorted(path.name for path in (folder / "checkpoints").glob("epoch-*.pth"))
    assert kept == ["epoch-0002.pth", "epoch-0004.pth"]
    heads = [
        load_model(folder / "checkpoints" / name, folder / "config.json").network.head.weight for name in kept
    ]
    assert not torch.equal(heads[0], heads[1])
