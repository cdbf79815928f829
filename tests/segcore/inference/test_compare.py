"""Evaluation as a job: the scores of `segcore evaluate` to the last digit, and what every slice shows."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given
from hypothesis import strategies as st

from segcore import predictor
from segcore.card import ModelCard, read_config, write_config
from segcore.config import RunConfig, build_config
from segcore.data.collection import open_collection
from segcore.data.dataset import data_hash
from segcore.errors import DataError
from segcore.events import Request
from segcore.inference.compare import compare
from segcore.inference.evaluate import evaluate
from segcore.inference.run import segment
from segcore.inference.scorer import OpenSlice
from segcore.jobs import comparison
from segcore.jobs.comparison import (
    UNANNOTATED,
    ComparisonWriter,
    ScoredSlice,
    read_comparison,
    read_picture,
    thin_step,
)
from segcore.jobs.job import COMPARISON
from segcore.metrics.overlap import Confusion
from segcore.models.saved import save_weights
from segcore.models.unet import UNet

MakeConfig = Callable[..., RunConfig]
VALUES = np.array([0, 100, 255])


@pytest.fixture
def labels(tmp_path: Path) -> np.ndarray:
    array = np.random.default_rng(5).choice(VALUES.astype(np.uint8), (3, 40, 33))
    tifffile.imwrite(tmp_path / "labels.tif", array, imagej=True, metadata={"axes": "ZYX"})
    return array


def read_again(config: RunConfig, folder: Path) -> RunConfig:
    """Return the options as a job reads them: from its file, which names every option."""
    folder.mkdir(exist_ok=True)
    write_config(folder / "config.json", config)
    return read_config(folder / "config.json")[0]


def scores_of(folder: Path) -> dict[str, object]:
    results = json.loads((folder / "results.json").read_text())
    names = ("val_dice", "val_dice_per_class", "val_iou_per_class", "mean_iou", "part", "images", "slices")
    return {name: results[name] for name in names}


def test_a_job_finds_what_the_command_tells_and_shows_every_pixel_of_it(
    make_config: MakeConfig, labels: np.ndarray, tmp_path: Path, listener
) -> None:
    config = make_config(data={"labels": str(tmp_path / "labels.tif")})
    told = evaluate(config, listener)
    folder = tmp_path / "job"
    outcome = compare(read_again(config, folder), folder, listener)
    assert outcome.request is None
    assert scores_of(folder) == {name: told[name] for name in scores_of(folder)}

    segment(make_config(), tmp_path / "result", listener)
    predicted = np.searchsorted(VALUES, tifffile.imread(tmp_path / "result" / "segmentation.tif"))
    found = read_comparison(folder)
    assert found is not None
    assert sorted(one.index for one in found.worst) == [0, 1, 2]
    assert [one.mean_dice for one in found.worst] == sorted(one.mean_dice for one in found.worst)
    for one in found.worst:
        shown = read_picture(folder, one.index)
        assert shown is not None
        assert np.array_equal(shown[0], predicted[one.index])
        assert np.array_equal(shown[1], np.searchsorted(VALUES, labels[one.index]))
        for index, value in enumerate(VALUES):
            own, theirs = shown == index
            size = own.sum() + theirs.sum()
            assert one.dice.get(str(value)) == (2 * (own & theirs).sum() / size if size else None)
    with (folder / COMPARISON / "slices.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [row["name"] for row in rows] == ["slice 0", "slice 1", "slice 2"]
    best = found.worst[-1]
    assert float(rows[best.index]["mean dice"]) == best.mean_dice


def test_of_its_own_images_a_job_reads_what_the_training_read(
    make_config: MakeConfig, model_folder: Path, card: ModelCard, image_file: Path, tmp_path: Path, listener
) -> None:
    objects = np.random.default_rng(5).choice(np.array([0, 1, 2, 77], np.uint8), (3, 40, 33))
    tifffile.imwrite(tmp_path / "objects.tif", objects, imagej=True, metadata={"axes": "ZYX"})
    data = {"images": str(image_file), "labels": str(tmp_path / "objects.tif"), "labels_as": "foreground"}
    trained = build_config({"model": {"features": 4, "layers": 2}, "data": data})
    known = {"class_values": (0, 1), "class_names": ("0", "1")}
    known["data_hash"] = data_hash(open_collection(trained.data))
    write_config(model_folder / "config.json", trained, card.model_copy(update=known))
    save_weights(UNet(1, 2, 4, 2), model_folder / "best_model.pth")
    part = [{"image": "image.tif", "slices": [1, 3], "rows": [0, 17]}]
    (model_folder / "split.json").write_text(json.dumps({"train": [], "validation": part, "test": []}))

    config = make_config(data={"images": None})
    told = evaluate(config, listener, part="validation")
    folder = tmp_path / "job"
    compare(read_again(config, folder), folder, listener, part="validation")
    assert scores_of(folder) == {name: told[name] for name in scores_of(folder)}
    found = read_comparison(folder)
    assert found is not None
    assert found.data.labels_as == "foreground"
    assert sorted(one.index for one in found.worst) == [1, 2]
    for one in found.worst:
        shown = read_picture(folder, one.index)
        assert shown is not None
        assert (shown[:, 17:] == UNANNOTATED).all()
        assert np.array_equal(shown[1, :17], objects[one.index, :17] > 0)


@pytest.mark.parametrize("request_", [Request.PAUSE, Request.STOP, Request.DISCARD])
def test_one_that_is_stopped_leaves_nothing(
    make_config: MakeConfig,
    labels: np.ndarray,
    tmp_path: Path,
    listener,
    monkeypatch: pytest.MonkeyPatch,
    request_: Request,
) -> None:
    monkeypatch.setitem(predictor.BATCH_PIXELS, "cpu", 1)
    folder = tmp_path / "job"
    config = read_again(make_config(data={"labels": str(tmp_path / "labels.tif")}), folder)
    answers: Iterator[Request | None] = iter([None, request_])
    assert compare(config, folder, listener, lambda: next(answers)).request is request_
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    assert [event.done for event in listener.of("progress")] == [1]


def test_a_large_slice_tells_how_far_it_is_and_is_stopped_in_its_midst(
    make_config: MakeConfig, tmp_path: Path, listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(predictor.BATCH_PIXELS, "cpu", 1)
    random = np.random.default_rng(5)
    tifffile.imwrite(tmp_path / "large.tif", random.integers(0, 256, (150, 150)).astype(np.uint8))
    tifffile.imwrite(tmp_path / "labels.tif", random.choice(VALUES.astype(np.uint8), (150, 150)))
    data = {"images": str(tmp_path / "large.tif"), "labels": str(tmp_path / "labels.tif")}
    config = make_config(data=data, inference={"tile_size": 64})
    answers: Iterator[Request | None] = iter([None, None, Request.PAUSE])
    assert compare(config, tmp_path / "job", listener, lambda: next(answers)).request is Request.PAUSE
    told = [(event.done, event.total, event.unit) for event in listener.of("progress")]
    assert told == [(1, 9, "tile"), (2, 9, "tile")]
    listener.events.clear()
    assert compare(config, tmp_path / "job", listener).metrics["slices"] == 1
    assert listener.of("progress")[-1].done == 9


def test_one_that_fails_leaves_nothing(make_config: MakeConfig, tmp_path: Path, listener) -> None:
    wrong = np.zeros((3, 40, 33), np.uint8)
    wrong[2] = 7
    tifffile.imwrite(tmp_path / "labels.tif", wrong, imagej=True, metadata={"axes": "ZYX"})
    folder = tmp_path / "job"
    with pytest.raises(DataError, match="7"):
        compare(make_config(data={"labels": str(tmp_path / "labels.tif")}), folder, listener)
    assert not list(folder.iterdir())


def test_large_slices_are_shown_thinned_out_and_counted_whole(
    make_config: MakeConfig, labels: np.ndarray, tmp_path: Path, listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(data={"labels": str(tmp_path / "labels.tif")})
    compare(config, tmp_path / "whole", listener)
    monkeypatch.setattr(comparison, "LONGEST_SIDE", 14)
    compare(config, tmp_path / "thin", listener)
    assert scores_of(tmp_path / "thin") == scores_of(tmp_path / "whole")
    for index in range(3):
        whole, thin = (read_picture(tmp_path / name, index) for name in ("whole", "thin"))
        assert whole is not None
        assert thin is not None
        assert np.array_equal(thin, whole[:, ::3, ::3])


def scored(index: int) -> ScoredSlice:
    return ScoredSlice(index=index, name=str(index), mean_dice=0.5, dice={}, iou={})


def test_one_that_was_believed_dead_spoils_nothing_of_the_other(tmp_path: Path) -> None:
    writers = [ComparisonWriter(tmp_path, (0, 1)) for _ in range(2)]
    for writer in writers:
        writer.add(scored(3), np.ones((2, 2, 2), np.uint8))
    assert read_comparison(tmp_path) is None, "nobody sees half of one"
    writers[1].close(build_config({}).data)
    writers[0].give_up()
    assert [path.name for path in tmp_path.iterdir()] == [COMPARISON]
    found = read_comparison(tmp_path)
    assert found is not None
    assert [one.index for one in found.worst] == [3]
    assert read_picture(tmp_path, 3) is not None


@pytest.mark.parametrize(("classes", "shown"), [(255, True), (256, False)])
def test_no_class_is_shown_as_what_nobody_annotated(tmp_path: Path, classes: int, shown: bool) -> None:
    writer = ComparisonWriter(tmp_path, range(classes))
    writer.add(scored(0), np.full((2, 2, 2), classes - 1, np.uint8))
    writer.close(build_config({}).data)
    assert (read_picture(tmp_path, 0) is not None) == shown
    assert (tmp_path / COMPARISON / "slices.csv").read_text().count("\n") == 2


@given(st.lists(st.sampled_from([0.1, 0.5, 0.5, 0.9, float("nan")]), min_size=1, max_size=12))
def test_only_the_worst_slices_keep_their_pictures(
    tmp_path_factory: pytest.TempPathFactory, scores: list[float]
) -> None:
    run = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "MOST_PICTURES", 3)
        writer = ComparisonWriter(run, (0, 1))
        for index, score in enumerate(scores):
            scored = ScoredSlice(index=index, name=str(index), mean_dice=score, dice={}, iou={})
            writer.add(scored, np.full((2, 2, 2), index, np.uint8))
        writer.close(build_config({}).data)
    order = sorted(range(len(scores)), key=lambda index: (np.nan_to_num(scores[index], nan=2), index))
    found = read_comparison(run)
    assert found is not None
    assert [one.index for one in found.worst] == order[:3]
    kept = {index for index in range(len(scores)) if read_picture(run, index) is not None}
    assert kept == set(order[:3])


@given(st.integers(1, 9), st.integers(1, 30), st.integers(1, 30), st.integers(1, 12), st.integers(1, 12))
def test_a_slice_is_the_same_however_it_is_divided(
    longest: int, height: int, width: int, rows: int, columns: int
) -> None:
    rng = np.random.default_rng(height * 31 + width)
    index_YX = torch.from_numpy(rng.integers(0, 3, (height, width)))
    target_YX = torch.from_numpy(rng.integers(-1, 3, (height, width)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "LONGEST_SIDE", longest)
        whole, parts = (OpenSlice(Confusion(3), height, width) for _ in range(2))
        step = thin_step(height, width)
    whole.add(index_YX, target_YX, 0, 0)
    for row in range(0, height, rows):
        for column in range(0, width, columns):
            part = slice(row, row + rows), slice(column, column + columns)
            parts.add(index_YX[part], target_YX[part], row, column)
    assert torch.equal(parts.counts.counts_KK, whole.counts.counts_KK)
    assert np.array_equal(parts.shown_2YX, whole.shown_2YX)
    thin_YX = target_YX[::step, ::step].numpy()
    assert np.array_equal(whole.shown_2YX[1], np.where(thin_YX < 0, UNANNOTATED, thin_YX))


@given(st.integers(1, 5000), st.integers(1, 5000))
def test_a_picture_is_never_longer_than_it_may_be(height: int, width: int) -> None:
    step = thin_step(height, width)
    assert -(-max(height, width) // step) <= comparison.LONGEST_SIDE
    assert step == 1 or -(-max(height, width) // (step - 1)) > comparison.LONGEST_SIDE
