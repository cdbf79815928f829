"""Trainings in all dimensions, from memory and disk, on sparse labels: equal runs stay equal to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from trainings import assert_same_state, comparable, run_in

from segcore.config import RunConfig, build_config
from segcore.data.dataset import load_training_data
from segcore.data.patches import DiskPool, PatchPool
from segcore.devices import Hardware
from segcore.events import Event, NoteEvent, Request, unasked
from segcore.tiling import Tile
from segcore.training import run as starting
from segcore.training import validation
from segcore.training.context import Run
from segcore.training.loop import fit
from segcore.training.run import train

MODES = ("2d", "2.5d", "3d")


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """Sixteen planes with bright rods, two channels; `mask.tif` is above 0 on a few spots of every other."""
    rng = np.random.default_rng(1)
    planes, rows, columns = np.mgrid[:16, :48, :40]
    labels = (np.hypot(rows - 20 - planes, columns - 18) < 8).astype(np.uint8)
    labels[(planes > 6) & (rows > 40)] = 2
    raw = (60 + 70.0 * labels[:, None] + rng.normal(0, 12, (16, 2, 48, 40))).clip(0, 255).astype(np.uint8)
    mask = np.zeros_like(labels)
    mask[::2, 10:30, 10:20] = 1
    mask[::2, 40:46, 30:34] = 1
    tifffile.imwrite(tmp_path / "raw.tif", raw, imagej=True, metadata={"axes": "ZCYX"})
    for name, stack in (("labels.tif", labels), ("mask.tif", mask)):
        tifffile.imwrite(tmp_path / name, stack, imagej=True, metadata={"axes": "ZYX"})
    return tmp_path


def config_of(folder: Path, mode: str, **more: Any) -> RunConfig:
    """Return options of a run that takes a second; keys with a dot override."""
    data = {
        "images": str(folder / "raw.tif"), "labels": str(folder / "labels.tif"), "mode": mode,
        "patch_size": 32, "patch_depth": 4, "patches_per_image": 1, "validation_slices": "12-15",
    }  # fmt: skip
    training: dict[str, Any] = {"batch_size": 4, "epochs": 2, "seed": 3}
    for name, value in more.items():
        section, option = name.split("__")
        {"data": data, "training": training}[section][option] = value
    return build_config(
        {
            "data": data, "training": training, "model": {"features": 4, "layers": 2},
            "hardware": {"device": "cpu", "precision": "fp32"},
        }
    )  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_a_run_from_disk_is_the_run_from_memory(volume: Path, tmp_path: Path, mode: str) -> None:
    sparse = {
        "data__mask": str(volume / "mask.tif"), "data__foreground_patches": 0.3, "training__epochs": 1,
    }  # fmt: skip
    runs = []
    for loading, kind in (("memory", PatchPool), ("disk", DiskPool)):
        run = run_in(tmp_path / loading, config_of(volume, mode, data__loading=loading, **sparse))
        assert isinstance(run.pool, kind)
        fit(run, unasked)
        runs.append(run)
    assert_same_state(*(run.state for run in runs))


@pytest.mark.parametrize("mode", ["2.5d", "3d"])
def test_a_run_that_was_broken_off_goes_on_to_the_bit(volume: Path, tmp_path: Path, mode: str) -> None:
    options = {"data__mask": str(volume / "mask.tif"), "training__loss": "ce+border"}
    whole = run_in(tmp_path / "whole", config_of(volume, mode, **options))
    fit(whole, unasked)
    part = run_in(tmp_path / "part", config_of(volume, mode, **options))
    fit(part, lambda: Request.PAUSE if part.state.step == part.steps_per_epoch + 1 else None)
    again = run_in(tmp_path / "part", config_of(volume, mode, **options))
    assert again.state.step == whole.steps_per_epoch + 1
    fit(again, unasked)
    assert_same_state(whole.state, again.state)


@pytest.mark.parametrize("mode", MODES)
def test_what_nobody_annotated_changes_nothing_at_all(volume: Path, tmp_path: Path, mode: str) -> None:
    options: dict[str, Any] = {
        "data__mask": str(volume / "mask.tif"),
        "data__foreground_patches": 0.5,
        "training__class_weights": "median-frequency",
        "training__epochs": 1,
    }
    one = run_in(tmp_path / "one", config_of(volume, mode, **options))
    labels, mask = (tifffile.imread(volume / name) for name in ("labels.tif", "mask.tif"))
    labels[mask == 0] = np.random.default_rng(7).integers(0, 3, np.count_nonzero(mask == 0))
    tifffile.imwrite(volume / "labels.tif", labels, imagej=True, metadata={"axes": "ZYX"})
    other = run_in(tmp_path / "other", config_of(volume, mode, **options))
    assert one.weights == other.weights
    for run in (one, other):
        fit(run, unasked)
    assert_same_state(one.state, other.state)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_learns_and_says_what_the_network_sees(volume: Path, tmp_path: Path, mode: str) -> None:
    more = {
        "training__epochs": 4, "training__learning_rate": 0.01, "training__batch_size": 8,
        "data__augmentation": False,
    }  # fmt: skip
    run = run_in(tmp_path / "run", config_of(volume, mode, data__patches_per_image=10, **more))
    fit(run, unasked)
    assert run.state.best_dice > 0.42  # all of the most frequent class would be 0.31
    card = run.validator.predictor.card
    assert card.inputs == (6 if mode == "2.5d" else 2)
    assert bool(card.strides) == (mode == "3d")


def predicted_slices(run: Run) -> list[int]:
    """Return how many slices of images a validation predicts, call by call."""
    predictor, seen = run.validator.predictor, []
    logits = predictor.logits

    def watched(image: np.ndarray, **more: Any) -> torch.Tensor:
        seen.append(image.shape[1] if image.ndim == 4 else 1)
        return logits(image, **more)

    predictor.logits = watched  # type: ignore[method-assign,assignment]
    run.validator()
    predictor.logits = logits  # type: ignore[method-assign]
    return seen


@pytest.mark.parametrize("mode", ["2d", "2.5d"])
def test_only_annotated_slices_are_predicted(volume: Path, tmp_path: Path, mode: str) -> None:
    run = run_in(tmp_path / "run", config_of(volume, mode, data__mask=str(volume / "mask.tif")))
    assert predicted_slices(run) == [1, 1]


def test_a_volume_judged_in_blocks_has_the_scores_of_the_whole(
    volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"data__validation_slices": "0-13", "data__mask": str(volume / "mask.tif")}
    whole = run_in(tmp_path / "whole", config_of(volume, "3d", **options))
    assert len(whole.validator.scenes) == 1
    monkeypatch.setattr(validation, "BLOCK_VOXELS", 3 * 48 * 40)
    blocks = run_in(tmp_path / "blocks", config_of(volume, "3d", **options))
    assert len(blocks.validator.scenes) > 3
    one, other = whole.validator(), blocks.validator()
    assert one is not None
    assert other is not None
    assert other.scores.dice == pytest.approx(one.scores.dice, abs=2e-3)
    monkeypatch.undo()
    assert [len(scene.judged) for scene in blocks.validator.scenes] == [3, 3, 3, 1]


def loss_by_hand(run: Run, slices: Tile) -> float:
    """Return the mean loss of the annotated parts, each cut out of the prediction of its whole slices."""
    losses = []
    for part in run.validator.scenes:
        label = np.array(part.label())
        if (label >= 0).any():
            whole = replace(part, tile=slices)
            logits = whole.judged_part(run.validator.logits(whole))[..., *part.tile.write]
            losses.append(float(run.validator.task.judge(logits, torch.from_numpy(label).long())))
    assert 0 < len(losses) < len(run.validator.scenes)
    return float(np.mean(losses))


@pytest.mark.parametrize(("mode", "voxels"), [("2d", 20 * 20), ("2.5d", 20 * 20), ("3d", 24 * 24)])
def test_large_slices_judged_in_parts_have_the_scores_of_the_whole(
    volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, voxels: int
) -> None:
    options = {"data__validation_slices": "0-13", "data__mask": str(volume / "mask.tif")}
    whole = run_in(tmp_path / "whole", config_of(volume, mode, **options))
    monkeypatch.setattr(validation, "BLOCK_VOXELS", voxels)
    parts = run_in(tmp_path / "parts", config_of(volume, mode, **options))
    assert len(parts.validator.scenes) > len(whole.validator.scenes)
    one, other = whole.validator(), parts.validator()
    assert one is not None
    assert other is not None
    assert other.scores.dice == pytest.approx(one.scores.dice, abs=2e-3)
    assert other.predicted_share == pytest.approx(one.predicted_share, abs=2e-3)
    assert other.loss == pytest.approx(loss_by_hand(parts, whole.validator.scenes[0].tile), abs=2e-3)


def test_class_weights_are_told_and_used(volume: Path, tmp_path: Path) -> None:
    heard: list[Event] = []
    config = config_of(
        volume, "2d", training__class_weights="by-hand", training__class_weight_values=[0.5, 2.0, 7.5]
    )
    run = run_in(tmp_path / "run", config, heard.append)
    notes = [event.text for event in heard if isinstance(event, NoteEvent)]
    assert any("0 0.5, 1 2, 2 7.5" in note for note in notes)
    logits, label = torch.randn(1, 3, 8, 8), torch.full((1, 8, 8), 2)
    plain = run_in(tmp_path / "plain", config_of(volume, "2d", training__loss="ce"))
    run.config = plain.config
    run.follow_treatment()
    for task in (run.task, run.validator.task):
        weighted = task.judge(logits[0], label[0])
        assert float(weighted) == pytest.approx(7.5 * float(plain.task.judge(logits[0], label[0])), rel=1e-5)


def test_a_whole_training_in_three_dimensions_from_the_options_to_the_results(
    volume: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    config = config_of(volume, "3d", data__normalize_per="image", training__epochs=1)
    outcome = train(config, folder)
    assert 0 < outcome.metrics["val_dice"] <= 1
    run = run_in(folder, config)
    assert comparable(run.state.history)[-1]["epoch"] == 1


def test_images_too_large_for_a_gpu_are_sent_there_window_by_window(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = load_training_data(config_of(volume, "2d").data)
    need = 12 * 48 * 40 * (2 + 2)
    for have, fits in ((2 * need, True), (2 * need - 1, False)):
        monkeypatch.setattr(Hardware, "free_memory", lambda _, have=have: have)
        assert starting._fits(data.train, False, Hardware(torch.device("cuda"), torch.float32, False)) == fits
        assert starting._fits(data.train, False, Hardware(torch.device("cpu"), torch.float32, False))


def test_slices_nobody_annotated_lie_around_those_that_train_and_none_of_another_part(volume: Path) -> None:
    labels = tifffile.imread(volume / "labels.tif")
    labels[[1, 2, 4, 6, 7, 10, 11]] = 9
    tifffile.imwrite(volume / "labels.tif", labels, imagej=True, metadata={"axes": "ZYX"})
    options = {"data__unlabelled_value": 9, "data__validation_slices": "8,13"}
    data = load_training_data(config_of(volume, "3d", **options).data)
    assert [(part.first, len(part.counts_ZK)) for part in data.train] == [(0, 8), (9, 4), (14, 2)]
    assert [part.annotated for part in data.train] == [(0, 3, 5), (0, 3), (0, 1)]
    (judged,) = data.validation
    assert (len(judged.counts_ZK), judged.annotated) == (16, (8, 13))
    for part in data.train:
        hidden = [plane for plane in range(len(part.counts_ZK)) if plane not in part.annotated]
        assert (np.asarray(part.label_ZYX)[hidden] == -1).all()
