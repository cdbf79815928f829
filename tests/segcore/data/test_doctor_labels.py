"""The data doctor recognises what was done to label values and undoes it; sound labels are left alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from doctored import (
    blobs,
    cured,
    found,
    kinds,
    read_labels,
    write_folders,
    write_stack,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from segcore.config import DataConfig
from segcore.data.doctor import examine
from segcore.data.doctor.facts import label_facts
from segcore.data.doctor.values import add_up, drawn_values

IMAGES, LABELS = blobs(6)


def test_sound_data_is_left_alone(tmp_path: Path) -> None:
    assert kinds(write_stack(tmp_path / "stack", IMAGES, LABELS)) == []
    assert kinds(write_folders(tmp_path / "folders", IMAGES, LABELS)) == []


def test_noise_and_missing_labels_are_left_alone(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (4, 64, 64)).astype(np.uint8)
    scribbles = np.zeros((4, 64, 64), np.uint8)
    scribbles[:, 20, 5:50] = 1
    scribbles[:, 40, 5:50] = 2
    assert kinds(write_stack(tmp_path, noise, scribbles, unlabelled_value=0)) == []
    assert examine(None, DataConfig(images=str(tmp_path / "raw.tif"))).proposals == ()


def test_binary_labels_of_0_and_255_are_good_as_they_are(tmp_path: Path) -> None:
    data = write_stack(tmp_path, IMAGES, (LABELS > 0).astype(np.uint8) * 255)
    proposal = found(data, "values")
    assert proposal.optional
    assert proposal.finding.level == "info"
    after = cured(data, "values")
    assert np.array_equal(read_labels(after), LABELS > 0)


def test_gaps_in_the_values_are_closed_if_asked(tmp_path: Path) -> None:
    data = write_stack(tmp_path, IMAGES, np.array([3, 7, 30], np.uint8)[LABELS])
    assert found(data, "values").optional
    assert np.array_equal(read_labels(cured(data, "values")), LABELS)


@pytest.mark.parametrize("values", [(0, 1 / 255, 2 / 255), (0.5, 1.5, 2.5)])
def test_float_labels_become_classes(tmp_path: Path, values: tuple[float, ...]) -> None:
    data = write_stack(tmp_path, IMAGES, np.array(values, np.float32)[LABELS])
    assert np.array_equal(read_labels(cured(data, "fractions")), LABELS)


def test_labels_that_are_nearly_whole_are_rounded(tmp_path: Path) -> None:
    data = write_stack(tmp_path, IMAGES, np.array([0.0, 0.999, 2.001], np.float32)[LABELS])
    assert found(data, "fractions").recipe == ("labels.round",)
    assert np.array_equal(read_labels(cured(data, "fractions")), LABELS)


def test_whole_floats_are_only_mentioned(tmp_path: Path) -> None:
    proposal = found(write_stack(tmp_path, IMAGES, LABELS.astype(np.float32)), "fractions")
    assert proposal.finding.level == "info"
    assert not proposal.repairs


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_smoothed_labels_get_their_classes_back(tmp_path: Path, dtype: type) -> None:
    true = np.array([0, 120, 240], np.float64)[LABELS]
    soft = np.array([ndimage.zoom(ndimage.zoom(plane, 0.5, order=1), 2, order=1) for plane in true])
    data = write_stack(tmp_path, IMAGES, soft.astype(dtype))
    assert found(data, "soft-edges").recipe == ("labels.nearest 0 120 240",)
    after = cured(data, "soft-edges")
    repaired = read_labels(after)
    assert set(np.unique(repaired)) == {0, 120, 240}
    assert np.mean(repaired == true) > 0.95


def test_labels_saved_as_jpeg_get_their_classes_back(tmp_path: Path) -> None:
    data = write_folders(tmp_path, IMAGES, LABELS)
    for number, plane in enumerate(LABELS):
        (tmp_path / "labels" / f"p{number:02d}.tif").unlink()
        Image.fromarray(plane * 100).save(tmp_path / "labels" / f"p{number:02d}.jpg", quality=85)
    assert found(data, "soft-edges").recipe == ("labels.nearest 0 100 200",)
    assert np.mean(read_labels(cured(data, "soft-edges")) == LABELS * 100) > 0.98


COLOURS = np.array([[0, 0, 255], [255, 0, 0], [0, 255, 0]], np.uint8)


def _write_colours(folder: Path, blur: float) -> DataConfig:
    data = write_folders(folder, IMAGES, LABELS)
    for number, plane in enumerate(LABELS):
        (folder / "labels" / f"p{number:02d}.tif").unlink()
        painted = COLOURS[plane].astype(float)
        soft = ndimage.gaussian_filter(painted, (blur, blur, 0)) if blur else painted
        Image.fromarray(soft.astype(np.uint8)).save(folder / "labels" / f"p{number:02d}.png")
    return data


def test_colours_can_be_written_into_the_run(tmp_path: Path) -> None:
    data = _write_colours(tmp_path, 0)
    assert found(data, "colours").optional
    before = read_labels(data)
    assert np.array_equal(read_labels(cured(data, "colours")), before)


def test_smoothed_colours_become_the_nearest_painted_one(tmp_path: Path) -> None:
    data = _write_colours(tmp_path, 0.8)
    proposal = found(data, "colours")
    assert proposal.finding.level == "error"
    repaired = read_labels(cured(data, "colours"))
    assert np.mean(repaired == np.array([1, 3, 2])[LABELS]) > 0.97


def test_numbered_objects_are_read_as_foreground(tmp_path: Path) -> None:
    objects = np.array([ndimage.label(plane == 1)[0] for plane in LABELS]).astype(np.uint16)
    data = write_stack(tmp_path, IMAGES, objects)
    assert found(data, "instances").options == {"labels_as": "foreground"}
    assert cured(data, "instances").labels_as == "foreground"


def test_objects_without_background_get_a_rim_of_it(tmp_path: Path) -> None:
    objects = np.array([ndimage.label(plane == 1)[0] for plane in LABELS]).astype(np.uint16)
    proposal = found(write_stack(tmp_path, IMAGES, objects, unlabelled_value=0), "instances")
    assert proposal.recipe == ("labels.surround 4 255",)
    assert proposal.options == {"labels_as": "foreground", "unlabelled_value": 255}


def test_classes_read_as_foreground_are_noticed(tmp_path: Path) -> None:
    data = write_stack(tmp_path, IMAGES, LABELS, labels_as="foreground")
    assert found(data, "classes").options == {"labels_as": "classes"}


def test_a_speck_with_a_value_of_its_own_is_no_smoothed_edge(tmp_path: Path) -> None:
    labels = LABELS.copy()
    labels[3, 50, 50:53] = 1
    labels[3, 51, 50:52] = 7
    assert "soft-edges" not in kinds(write_stack(tmp_path, IMAGES, labels))


def test_masks_of_two_conventions_become_one(tmp_path: Path) -> None:
    binary = (LABELS > 0).astype(np.uint8)
    data = write_folders(
        tmp_path, IMAGES, [plane * (255 if at % 2 else 1) for at, plane in enumerate(binary)]
    )
    assert not found(data, "values").optional
    assert np.array_equal(read_labels(cured(data, "values")), binary)


def test_slices_nobody_annotated_are_told_from_empty_ones(tmp_path: Path) -> None:
    labels = LABELS.copy()
    labels[[0, 2, 3, 5]] = 0
    data = write_stack(tmp_path / "sparse", IMAGES, labels)
    assert found(data, "unannotated").options == {"annotated_slices": "1,4"}
    cured(data, "unannotated")
    images = np.where((np.arange(6) % 3 == 1)[:, None, None], IMAGES, 60 + IMAGES // 16)
    assert "unannotated" not in kinds(write_stack(tmp_path / "empty", images, labels))


@given(
    st.lists(st.integers(0, 60_000), min_size=2, max_size=12, unique=True),
    st.integers(1, 4),
    st.integers(0, 9),
)
@settings(max_examples=25, deadline=None)
def test_labels_that_were_never_smoothed_are_not_called_smoothed(
    values: list[int], block: int, seed: int
) -> None:
    small = np.random.default_rng(seed).integers(0, len(values), (24, 24))
    plane = np.array(values)[np.kron(small, np.ones((block, block), int))]
    facts = label_facts(plane, plane)
    assert drawn_values(add_up([facts])) == []


@given(st.lists(st.integers(0, 255), min_size=2, max_size=4, unique=True), st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_what_was_drawn_is_found_under_smoothed_edges(values: list[int], seed: int) -> None:
    drawn = sorted(values)
    small = np.random.default_rng(seed).integers(0, len(drawn), (6, 6))
    small.flat[: len(drawn)] = np.arange(len(drawn))
    sharp = np.array(drawn, float)[np.kron(small, np.ones((20, 20), int))]
    soft = ndimage.gaussian_filter(sharp, 1.0)
    found_values = drawn_values(add_up([label_facts(soft, soft, objects=False)]))
    assert [round(value, 6) for value in found_values] == drawn
