"""Scores of objects: against brute force over all pairs and matchings, and against the COCO tools."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segcore.errors import ConfigError
from segcore.metrics.coco import CocoCounts
from segcore.metrics.instances import THRESHOLDS, InstanceCounts, overlapping

LABELS = arrays(np.int32, (6, 7), elements=st.integers(0, 4))
SPARSE = arrays(np.int32, (6, 7), elements=st.integers(-1, 3))


def counted(*pairs: tuple[np.ndarray, np.ndarray]) -> InstanceCounts:
    """Return the counts of some images."""
    counts = InstanceCounts()
    for prediction, target in pairs:
        counts.update(prediction, target)
    return counts


def objects(labels: np.ndarray) -> list[np.ndarray]:
    """Return the mask of every object."""
    return [labels == value for value in np.unique(labels) if value > 0]


def best_matching(prediction: np.ndarray, target: np.ndarray, threshold: float) -> tuple[int, float]:
    """Return pairs and their IoU of the best of all matchings one with one, by trying all of them."""
    rows, columns = objects(target), objects(prediction)
    iou = np.zeros((max(len(rows), len(columns)),) * 2)
    for row, one in enumerate(rows):
        for column, other in enumerate(columns):
            iou[row, column] = (one & other).sum() / (one | other).sum()
    tried = []
    for order in permutations(range(len(iou))):
        chosen = iou[range(len(iou)), order] if len(iou) else np.zeros(0)
        found = chosen[chosen >= threshold]
        tried.append((len(found), float(found.sum())))
    return max(tried)


def moved(labels: np.ndarray, seed: int) -> np.ndarray:
    """Return another segmentation of the same objects: a few pixels belong to others."""
    random = np.random.default_rng(seed)
    return np.where(random.random(labels.shape) < 0.15, random.integers(0, 5, labels.shape), labels)


@given(target=LABELS, seed=st.integers(0, 999))
@settings(deadline=None, max_examples=40)
def test_counts_are_those_of_the_best_of_all_matchings(target: np.ndarray, seed: int) -> None:
    prediction = moved(target, seed)
    counts = counted((prediction, target))
    assert (counts.annotated, counts.predicted) == (len(objects(target)), len(objects(prediction)))
    for number, threshold in enumerate(THRESHOLDS):
        pairs, iou = best_matching(prediction, target, threshold)
        assert counts.found_T[number] == pairs
        assert counts.overlap_T[number] == pytest.approx(iou)


def test_an_object_that_is_cut_in_halves_is_found_once_at_one_half() -> None:
    target = np.array([[1, 1, 2, 2, 0, 0]])
    halves = np.array([[1, 2, 3, 4, 5, 5]])
    counts = counted((halves, target))
    assert counts.found_T.tolist() == [2, *[0] * 9]
    assert counts.overlap_T[0] == 1
    # The other way round, and a chain in which the wrong choice would lose a pair.
    assert counted((target, halves)).found_T[0] == 2
    chain = counted((np.array([[1, 1, 2, 2]]), np.array([[1, 2, 2, 2]])))
    assert chain.found_T[0] == 2
    assert chain.overlap_T[0] == pytest.approx(1 / 2 + 2 / 3)


@given(pairs=st.lists(st.tuples(SPARSE, SPARSE), min_size=1, max_size=3))
@settings(deadline=None, max_examples=30)
def test_images_added_up_are_one_image_with_all_objects(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    # Objects of other images have other values, so that they are others in the one image, too.
    apart = [
        tuple(np.where(image > 0, image + 10 * number, image) for image in pair)
        for number, pair in enumerate(pairs)
    ]
    together = counted(tuple(np.concatenate(images) for images in zip(*apart, strict=True)))
    one_by_one, merged = counted(*pairs), InstanceCounts()
    for pair in pairs:
        merged = merged + counted(pair)
    for counts in (one_by_one, merged):
        assert (counts.annotated, counts.predicted) == (together.annotated, together.predicted)
        assert np.array_equal(counts.found_T, together.found_T)
        assert np.allclose(counts.overlap_T, together.overlap_T)
    a, b = one_by_one.scores(), together.scores()
    assert a.average_precision == pytest.approx(b.average_precision, nan_ok=True)


@given(target=LABELS, seed=st.integers(0, 999))
@settings(deadline=None, max_examples=30)
def test_scores_are_their_definitions(target: np.ndarray, seed: int) -> None:
    counts = counted((moved(target, seed), target))
    scores = counts.scores()
    for number, threshold in enumerate(THRESHOLDS):
        hits = int(counts.found_T[number])
        alarms, misses = counts.predicted - hits, counts.annotated - hits
        if not hits + alarms + misses:
            assert math.isnan(scores.average_precision[threshold])
            continue
        assert scores.average_precision[threshold] == pytest.approx(hits / (hits + alarms + misses))
        assert scores.f1[threshold] == pytest.approx(hits / (hits + alarms / 2 + misses / 2))
        quality = counts.overlap_T[number] / (hits + alarms / 2 + misses / 2)
        assert scores.panoptic_quality[threshold] == pytest.approx(quality)
        assert scores.panoptic_quality[threshold] == pytest.approx(
            scores.segmentation_quality[threshold] * scores.f1[threshold]
        )
    if hits + alarms + misses:
        mean = sum(scores.average_precision.values()) / len(THRESHOLDS)
        assert scores.mean_average_precision == pytest.approx(mean)


def test_extremes() -> None:
    target = np.zeros((8, 8), np.uint16)
    target[1:4, 1:4], target[5:, 5:] = 7, 60_000
    right = counted((target.astype(np.int64), target)).scores()
    assert right.mean_average_precision == 1
    assert set(right.panoptic_quality.values()) == {1}
    nothing = counted((np.zeros_like(target), target)).scores()
    assert set(nothing.panoptic_quality.values()) == set(nothing.f1.values()) == {0}
    assert math.isnan(nothing.precision[0.5])
    empty = counted((np.zeros_like(target), np.zeros_like(target))).scores()
    assert math.isnan(empty.mean_average_precision)
    with pytest.raises(ConfigError, match=r"0\.3 is not between 0\.5 and 1"):
        InstanceCounts((0.3,))
    with pytest.raises(ValueError, match="shape"):
        overlapping(target, target[:3])


@given(target=LABELS, seed=st.integers(0, 999), share=st.floats(0, 1))
@settings(deadline=None, max_examples=40)
def test_what_nobody_annotated_says_nothing_about_a_prediction(
    target: np.ndarray, seed: int, share: float
) -> None:
    random = np.random.default_rng(seed)
    void = random.random(target.shape) < share
    target, prediction = np.where(void, -1, target), moved(target, seed)
    kept = [mask for mask in objects(prediction) if (mask & void).sum() <= mask.sum() / 2]
    clean = np.zeros_like(target)
    for number, mask in enumerate(kept, start=1):
        clean[mask & ~void] = number
    counts, expected = counted((prediction, target)), counted((clean, np.maximum(target, 0)))
    assert (counts.annotated, counts.predicted) == (expected.annotated, expected.predicted)
    assert np.array_equal(counts.found_T, expected.found_T)


def scattered(seed: int, count: int = 130) -> np.ndarray:
    """Return an image of squares of several sizes that do not touch."""
    random = np.random.default_rng(seed)
    labels, number = np.zeros((130, 110), np.int32), 0
    for row in range(0, 126, 10):
        for column in range(0, 106, 10):
            if number < count and random.random() < 0.9:
                number += 1
                height, width = random.integers(4, 9, 2)
                labels[row : row + height, column : column + width] = number
    return labels


def shaken(labels: np.ndarray, seed: int) -> tuple[np.ndarray, dict[int, float]]:
    """Return the objects shifted by up to 2 px, some missing, with a score for each."""
    random = np.random.default_rng(seed)
    result = np.zeros_like(labels)
    for value in np.unique(labels)[1:]:
        if random.random() < 0.85:
            shift = tuple(random.integers(-1, 2, 2))
            result[np.roll(labels == value, shift, (0, 1))] = value
    return result, {int(value): float(random.random()) for value in np.unique(result)[1:]}


def area_under_curve(
    images: list[tuple[np.ndarray, np.ndarray, dict[int, float]]], threshold: float
) -> float:
    """Return COCO's average precision by its definition: 101 recall levels, surest objects first."""
    ranked, there = [], 0
    for prediction, target, scores in images:
        overlaps = overlapping(prediction, target)
        there += overlaps.annotated
        found = {
            int(overlaps.predicted_values[column])
            for (_, column), iou in zip(overlaps.pair_P2, overlaps.iou_P, strict=True)
            if iou >= threshold
        }
        ranked += [(score, value in found) for value, score in scores.items()]
    ranked.sort(key=lambda entry: -entry[0])
    hits = np.cumsum([right for _, right in ranked])
    precision, recall = hits / np.arange(1, len(hits) + 1), hits / there
    levels = np.linspace(0, 1, 101)
    return float(np.mean([precision[recall >= level].max(initial=0) for level in levels]))


def test_coco_scores_are_the_areas_under_the_curves() -> None:
    images = []
    for seed in range(3):
        target = scattered(seed)
        prediction, scores = shaken(target, seed + 10)
        images.append((prediction, target, scores))
    coco, counts = CocoCounts(), InstanceCounts()
    for prediction, target, scores in images:
        coco.update(prediction, target, scores)
        counts.update(prediction, target)
    found = coco.scores()
    for number, threshold in enumerate(THRESHOLDS):
        expected = area_under_curve(images, threshold)
        assert found.average_precision[threshold] == pytest.approx(expected, abs=1e-6)
        # Two ways to count the objects that are found: the COCO tools', and ours.
        share = counts.found_T[number] / counts.annotated
        assert found.average_recall[threshold] == pytest.approx(share)
    assert 0.1 < found.mean_average_precision < 0.9


def test_coco_scores_mind_classes_and_forgive_what_nobody_annotated() -> None:
    target = scattered(1)
    right, wrong = CocoCounts(), CocoCounts()
    classes = {int(value): 1 + int(value) % 2 for value in np.unique(target)[1:]}
    right.update(target, target, None, classes, classes)
    assert right.scores().mean_average_precision == pytest.approx(1)
    wrong.update(target, target, None, {value: 3 - kind for value, kind in classes.items()}, classes)
    assert wrong.scores().mean_average_precision == 0
    half = CocoCounts()
    half.update(target, np.where(np.arange(110) < 50, target, -1))
    assert half.scores().mean_average_precision == pytest.approx(1)
    nothing = CocoCounts()
    nothing.update(np.zeros_like(target), target)
    assert nothing.scores().mean_average_precision == 0
    assert math.isnan(CocoCounts().scores().mean_average_precision)
