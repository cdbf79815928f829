"""Rims around and between objects: what they are, and that a part of them is what the whole has there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from segcore.data.open import open_source
from segcore.data.recipe import parse_recipe, repair_labels
from segcore.data.source import ImageSource

LABELS = np.kron(np.random.default_rng(3).integers(0, 4, (2, 6, 7)), np.ones((1, 7, 6), int)).astype(np.uint8)
LABELS[1, :20] = 0


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> ImageSource:
    path: Path = tmp_path_factory.mktemp("labels") / "labels.tif"
    tifffile.imwrite(path, LABELS, imagej=True, metadata={"axes": "ZYX"})
    return open_source(path)


def repaired(labels: ImageSource, line: str) -> np.ndarray:
    source = repair_labels(labels, parse_recipe([line]))
    return source.read((slice(None),) * 3)


def test_around_objects_is_background_and_beyond_nobody_annotated(labels: ImageSource) -> None:
    result = repaired(labels, "labels.surround 3 255")
    for plane, before in zip(result, LABELS, strict=True):
        far = distance_transform_edt(before == 0) > 3
        np.testing.assert_array_equal(plane, np.where(far, 255, before))


def test_a_slice_without_objects_is_unannotated_throughout(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "empty.tif", np.zeros((40, 40), np.uint8))
    source = repair_labels(open_source(tmp_path / "empty.tif"), parse_recipe(["labels.surround 2 9"]))
    assert (source.read((slice(None), slice(None))) == 9).all()


def test_borders_lie_within_objects_and_keep_touching_ones_apart(labels: ImageSource) -> None:
    result = repaired(labels, "labels.borders 1")
    np.testing.assert_array_equal(result > 0, LABELS > 0)
    inner = result == 1
    for plane, before in zip(inner, LABELS, strict=True):
        rows, columns = np.nonzero(plane)
        for row, column in zip(rows, columns, strict=True):
            near = before[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2]
            assert (near == before[row, column]).all()


@given(st.data())
def test_a_part_is_what_the_whole_has_there(labels: ImageSource, data: st.DataObject) -> None:
    line = data.draw(st.sampled_from(["labels.surround 4 255", "labels.borders 2"]))
    region = []
    for size in LABELS.shape:
        start = data.draw(st.integers(0, size))
        region.append(slice(start, data.draw(st.integers(start, size))))
    source = repair_labels(labels, parse_recipe([line]))
    np.testing.assert_array_equal(source.read(tuple(region)), repaired(labels, line)[tuple(region)])
