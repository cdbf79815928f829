"""Targets of networks that answer whole objects, and the drawing of masks that overlap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from drawn_objects import ellipses
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segcore.models.object_targets import class_target, cover, joined, object_target
from segcore.models.painting import Painter, overlap


@settings(max_examples=30, deadline=None)
@given(ellipses())
def test_masks_and_boxes_are_those_of_the_objects(labels: np.ndarray) -> None:
    target = object_target(torch.from_numpy(labels))
    numbers = np.unique(labels[labels > 0])
    assert len(target.masks) == len(target.boxes) == len(target.classes) == len(numbers)
    places = ndimage.find_objects(labels)
    for mask, box, number in zip(target.masks.numpy(), target.boxes.tolist(), numbers, strict=True):
        assert np.array_equal(mask, labels == number)
        rows, columns = places[number - 1]
        assert box == [columns.start, rows.start, columns.stop, rows.stop]
    assert (target.classes == 1).all()


def test_an_object_is_of_the_class_most_of_it_has() -> None:
    labels = torch.tensor([[5, 5, 5, 0], [9, 9, -1, 0], [7, 0, 0, 0]])
    kinds = torch.tensor([[3, 3, 1, 2], [0, 2, 2, 0], [0, 0, 0, 0]])
    assert object_target(labels, kinds).classes.tolist() == [3, 1, 2]


def test_classes_are_objects_too_and_what_is_unannotated_is_in_none() -> None:
    classes = torch.tensor([[0, 0, 2], [-1, 2, 2]])
    target = class_target(classes)
    assert target.classes.tolist() == [0, 2]
    assert target.masks.sum((1, 2)).tolist() == [2, 3]
    both = joined(target, object_target(torch.zeros(2, 3, dtype=torch.int32)))
    assert both.classes.tolist() == [0, 2]


def test_only_what_nobody_annotated_is_covered() -> None:
    image = torch.randn(2, 3, 4, 5) + 10
    labels = torch.zeros(2, 4, 5, dtype=torch.int32)
    labels[1, 2:, 1] = -1
    covered = cover(image, labels)
    assert (covered[1, :, 2:, 1] == 0).all()
    assert torch.equal(covered[0], image[0])
    assert int((covered == 0).sum()) == 6


MASKS = st.lists(
    st.tuples(st.integers(-6, 20), st.integers(-6, 24), st.integers(1, 9), st.integers(1, 9)),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(MASKS, st.integers(1, 6), st.floats(0, 1))
def test_what_is_drawn_stays_and_is_as_large_as_asked_for(
    masks: list[tuple[int, int, int, int]], least: int, share: float
) -> None:
    painter = Painter((16, 20), share, least)
    whole, before = np.zeros((16, 20), np.int32), 0
    for number, (top, left, height, width) in enumerate(masks):
        became = painter.add(np.ones((height, width), bool), (top, left), 1 - number / 20, 1 + number % 3)
        found = painter.objects()
        assert found.count == before + became
        assert (found.labels[whole > 0] == whole[whole > 0]).all()
        if became:
            assert (found.labels == found.count).sum() >= least
        whole, before = found.labels.copy(), found.count
    found = painter.objects()
    assert set(np.unique(found.labels)) - {0} == set(range(1, found.count + 1))
    assert (np.diff(found.scores) <= 0).all()
    assert np.array_equal(found.class_map() > 0, found.labels > 0)


@pytest.mark.parametrize("corner", [(-3, -2), (0, 0), (5, 7), (-9, 1), (2, 99), (-99, -99)])
def test_the_part_of_an_image_is_the_part_of_what_lies_on_it(corner: tuple[int, int]) -> None:
    image, mask = np.zeros((8, 9)), np.arange(20.0).reshape(4, 5) + 1
    inside, within = overlap(corner, mask.shape, image.shape)
    image[inside] = mask[within]
    for row in range(8):
        for column in range(9):
            at = (row - corner[0], column - corner[1])
            covered = 0 <= at[0] < 4 and 0 <= at[1] < 5
            assert image[row, column] == (mask[at] if covered else 0)
