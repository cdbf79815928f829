"""Overlap scores: bounds, merging, absent classes, pixels without annotation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segcore.metrics.overlap import Confusion
from segcore.tiling import IGNORE, tile_grid


def _pair(seed: int, classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    shape = (31, 23)
    random = np.random.default_rng(seed)
    prediction = random.integers(0, classes, shape)
    target = np.where(random.random(shape) < 0.6, prediction, random.integers(0, classes, shape))
    return torch.from_numpy(prediction), torch.from_numpy(target)


def _counted(prediction: torch.Tensor, target: torch.Tensor, classes: int = 3) -> Confusion:
    confusion = Confusion(classes)
    confusion.update(prediction, target)
    return confusion


def test_equal_is_one_and_disjoint_is_zero() -> None:
    target = torch.tensor([[0, 0, 1, 1]])
    assert _counted(target, target, 2).dice() == [1, 1]
    assert _counted(target, target, 2).iou() == [1, 1]
    assert _counted(1 - target, target, 2).dice() == [0, 0]
    assert _counted(1 - target, target, 2).mean_iou == 0


@given(seed=st.integers(0, 1000))
@settings(deadline=None, max_examples=20)
def test_scores_are_those_of_sets_of_pixels(seed: int) -> None:
    prediction, target = _pair(seed)
    confusion = _counted(prediction, target)
    for index in range(3):
        found, true = prediction == index, target == index
        both, either = (found & true).sum().item(), (found | true).sum().item()
        assert confusion.iou()[index] == pytest.approx(both / either)
        assert confusion.dice()[index] == pytest.approx(2 * both / (found.sum() + true.sum()).item())


@given(seed=st.integers(0, 1000), tile=st.integers(1, 30))
@settings(deadline=None, max_examples=20)
def test_tiles_added_up_are_the_whole(seed: int, tile: int) -> None:
    prediction, target = _pair(seed)
    target[3:7] = IGNORE
    parts, merged = Confusion(3), Confusion(3)
    for piece in tile_grid((31, 23), (tile, tile), (0, 0), (1, 1)):
        parts.update(prediction[piece.write], target[piece.write])
        merged = merged + _counted(prediction[piece.write], target[piece.write])
    assert torch.equal(parts.counts_KK, _counted(prediction, target).counts_KK)
    assert torch.equal(merged.counts_KK, parts.counts_KK)


def test_a_pixel_without_annotation_changes_no_count() -> None:
    prediction, target = _pair(1)
    target[:10] = IGNORE
    confusion = _counted(prediction, target)
    assert torch.equal(confusion.counts_KK, _counted(prediction[10:], target[10:]).counts_KK)
    prediction[:10] = 2
    assert torch.equal(confusion.counts_KK, _counted(prediction, target).counts_KK)


@pytest.mark.parametrize("dtypes", [(torch.uint8, torch.int16), (torch.int64, torch.int8)])
def test_every_integer_type_counts(dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    prediction, target = _pair(2, classes=20)
    small = _counted(prediction.to(dtypes[0]), target.to(dtypes[1]), 20)
    assert torch.equal(small.counts_KK, _counted(prediction, target, 20).counts_KK)


def test_a_class_absent_in_both_is_left_out() -> None:
    target = torch.tensor([[0, 0, 2, 2]])
    confusion = _counted(torch.tensor([[0, 0, 2, 0]]), target)
    assert math.isnan(confusion.dice()[1])
    scores = confusion.scores((0, 100, 255))
    assert scores.dice == pytest.approx({"0": 4 / 5, "255": 2 / 3})
    assert scores.iou == pytest.approx({"0": 2 / 3, "255": 1 / 2})
    assert scores.mean_dice == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert scores.mean_iou == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_a_class_predicted_but_nowhere_annotated_scores_zero() -> None:
    confusion = _counted(torch.tensor([[0, 1]]), torch.tensor([[0, 0]]))
    assert confusion.dice()[1] == 0


def test_nothing_counted_is_not_a_number() -> None:
    confusion = _counted(torch.tensor([[0, 1]]), torch.tensor([[IGNORE, IGNORE]]))
    assert math.isnan(confusion.mean_dice)
    assert confusion.scores((0, 1, 2)).dice == {}


@given(seed=st.integers(0, 1000), classes=st.integers(1, 5))
@settings(deadline=None, max_examples=15)
def test_scores_are_those_of_scikit_learn(seed: int, classes: int) -> None:
    from sklearn import metrics

    prediction, target = _pair(seed, classes)
    target[5:9, 3:] = IGNORE
    known = target != IGNORE
    found, true = prediction[known].numpy(), target[known].numpy()
    confusion = _counted(prediction, target, classes)
    options = {"labels": list(range(classes)), "average": None, "zero_division": np.nan}
    assert confusion.precision() == pytest.approx(
        metrics.precision_score(true, found, **options), nan_ok=True
    )
    assert confusion.recall() == pytest.approx(metrics.recall_score(true, found, **options), nan_ok=True)
    assert confusion.dice() == pytest.approx(metrics.f1_score(true, found, **options), nan_ok=True)
    assert confusion.accuracy == pytest.approx(metrics.accuracy_score(true, found))


@given(seed=st.integers(0, 1000), classes=st.integers(1, 5))
@settings(deadline=None, max_examples=15)
def test_overlaps_of_what_there_is_are_those_of_scikit_learn(seed: int, classes: int) -> None:
    from sklearn import metrics

    prediction, target = _pair(seed, classes)
    target[5:9, 3:] = IGNORE
    known = target != IGNORE
    found, true = prediction[known].numpy(), target[known].numpy()
    there = np.union1d(found, true).tolist()
    ours = _counted(prediction, target, classes).iou()
    expected = metrics.jaccard_score(true, found, labels=there, average=None)
    assert [ours[index] for index in there] == pytest.approx(expected.tolist())


def test_a_class_nobody_predicted_has_no_precision_and_one_nobody_annotated_no_recall() -> None:
    scores = _counted(torch.tensor([0, 0, 2, 2]), torch.tensor([0, 1, 0, IGNORE])).scores([5, 6, 7])
    assert scores.precision == {"5": 0.5, "7": 0.0}
    assert scores.recall == {"5": 0.5, "6": 0.0}
    assert scores.accuracy == pytest.approx(1 / 3)
    assert math.isnan(Confusion(2).scores([0, 1]).accuracy)
