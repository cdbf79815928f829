"""Labels that were turned or shifted are recognised and brought back; those that fit are left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from doctored import blobs, cured, found, kinds, read_labels, write_folders, write_stack
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from segcore.data.doctor.alignment import NEAR, TURNS, border_map, find_position, match_slice, turned_labels

IMAGES, LABELS = blobs(4, seed=3)
SHIFTS = st.integers(-14, 14)


def _moved(labels: np.ndarray, rows: int, columns: int) -> np.ndarray:
    return np.roll(labels, (rows, columns), (-2, -1))


@settings(max_examples=12, deadline=None)
@given(SHIFTS, SHIFTS, st.sampled_from(TURNS))
def test_what_was_done_is_undone(rows: int, columns: int, turn: str) -> None:
    harmed = _moved(turned_labels(LABELS[0], turn), rows, columns)
    match = match_slice(IMAGES[:1], harmed)
    assert match is not None
    position = find_position([match])
    if turn == "none" and max(abs(rows), abs(columns)) < NEAR:
        assert position is None
        return
    if position is None:  # just beyond NEAR the labels still fit nearly as well
        assert turn == "none"
        assert max(abs(rows), abs(columns)) <= 2 * NEAR
        return
    repaired = _moved(turned_labels(harmed, position.turn), position.rows, position.columns)
    inner = (slice(20, -20), slice(20, -20))
    true = ndimage.binary_dilation(border_map(LABELS[0]) > 0, iterations=NEAR)[inner]
    assert true[border_map(repaired)[inner] > 0].mean() > 0.9


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_chance_moves_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    image = ndimage.gaussian_filter(random.normal(size=(2, 96, 96)), (0, 2, 2))
    label = ndimage.gaussian_filter(random.normal(size=(96, 96)), 5) > 0
    match = match_slice(image, label)
    assert match is not None
    assert find_position([match]) is None


def test_walls_with_an_edge_on_either_side_are_no_shift() -> None:
    cells = np.indices((128, 128)).sum(0) // 32 + np.indices((128, 128))[0] // 40 * 10
    walls = ndimage.gaussian_filter(border_map(cells), 4)[None]
    match = match_slice(walls, cells)
    assert match is not None
    assert find_position([match]) is None


@pytest.mark.parametrize("labels", [np.zeros((64, 64), int), np.eye(20, dtype=int)])
def test_too_little_says_nothing(labels: np.ndarray) -> None:
    assert match_slice(np.ones((1, *labels.shape)), labels) is None


def test_a_shifted_stack_is_shifted_back(tmp_path: Path) -> None:
    data = write_stack(tmp_path, IMAGES, _moved(LABELS, 9, -7))
    assert found(data, "shifted").recipe == ("labels.shift -9 7",)
    inner = np.s_[:, 12:-12, 12:-12]
    assert np.array_equal(read_labels(cured(data, "shifted"))[inner], LABELS[inner])


@pytest.mark.parametrize("axis", ["Y", "X"])
def test_a_flipped_stack_is_flipped_back(tmp_path: Path, axis: str) -> None:
    data = write_stack(tmp_path, IMAGES, np.flip(LABELS, " YX".index(axis)))
    assert found(data, "flipped").recipe == (f"labels.flip {axis}",)
    assert np.array_equal(read_labels(cured(data, "flipped")), LABELS)


def test_labels_turned_by_a_quarter_are_turned_back(tmp_path: Path) -> None:
    data = write_stack(tmp_path, IMAGES, np.rot90(LABELS, 1, (1, 2)))
    assert np.array_equal(read_labels(cured(data, "transposed")), LABELS)


def test_square_labels_that_are_transposed_are_noticed(tmp_path: Path) -> None:
    data = write_stack(tmp_path, IMAGES, LABELS.transpose(0, 2, 1))
    assert np.array_equal(read_labels(cured(data, "transposed")), LABELS)


def test_only_the_images_that_are_off_are_moved(tmp_path: Path) -> None:
    labels = [LABELS[0], LABELS[1][::-1, ::-1], LABELS[2], LABELS[3]]
    data = write_folders(tmp_path, IMAGES, labels)
    assert found(data, "flipped").recipe == ("[p01.tif] labels.flip Y", "[p01.tif] labels.flip X")
    assert np.array_equal(read_labels(cured(data, "flipped")), LABELS)


def test_labels_beyond_the_rim_of_the_image_do_not_wrap(tmp_path: Path) -> None:
    shifted = np.zeros_like(LABELS)
    shifted[:, 10:, 8:] = LABELS[:, :-10, :-8]
    assert kinds(write_stack(tmp_path, IMAGES, shifted)) == ["shifted"]
