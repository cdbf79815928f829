"""Labels survive the way to class indices and back; values are counted as they are."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from segcore.data.manifest import count_values, decode_labels, encode_labels
from segcore.data.open import open_source
from segcore.data.planes import Planes
from segcore.data.recipe import parse_recipe
from segcore.errors import DataError


@settings(deadline=None, max_examples=50)
@given(
    values=st.sets(st.integers(-300, 70_000), min_size=1, max_size=40),
    dtype=st.sampled_from(["int32", "int64", "float64"]),
    seed=st.integers(0, 9),
)
def test_labels_survive_the_way_to_indices_and_back(values: set[int], dtype: str, seed: int) -> None:
    known = tuple(sorted(values))
    labels = np.random.default_rng(seed).choice(known, (1, 11, 13)).astype(dtype)
    indices = encode_labels(labels, known, "classes")
    assert indices.shape == (11, 13)
    assert indices.dtype == np.int16
    assert np.array_equal(decode_labels(indices, known), labels[0])


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ((0, 255), "uint8"),
        ((0, 256), "uint16"),
        ((0, 70_000), "uint32"),
        ((-1, 127), "int8"),
        ((-1, 128), "int16"),
    ],
)
def test_output_has_the_smallest_type_that_holds_all_values(values: tuple[int, ...], dtype: str) -> None:
    assert decode_labels(np.zeros((2, 2), np.int16), values).dtype == dtype


def test_unknown_values_are_named() -> None:
    with pytest.raises(DataError, match=r"unknown values: 3, 9; known are 0, 255"):
        encode_labels(np.array([[0, 9], [3, 255]]), (0, 255), "classes")


def test_fractions_and_colours_are_no_labels() -> None:
    with pytest.raises(DataError, match="whole numbers"):
        encode_labels(np.array([[0.0, 0.5]]), (0, 1), "classes")
    with pytest.raises(DataError, match="whole numbers"):
        encode_labels(np.array([[0.0, np.nan]], np.float32), (0, 1), "classes")
    with pytest.raises(DataError, match="3 channels"):
        encode_labels(np.zeros((3, 4, 4), np.uint8), (0, 1), "classes")


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "int32", "float32"])
def test_every_pixel_is_counted_once(tmp_path: Path, dtype: str) -> None:
    labels = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 5, (3, 16, 20)).astype(dtype)
    tifffile.imwrite(tmp_path / "labels.tif", labels, photometric="minisblack", compression="zlib")
    planes = Planes(open_source(tmp_path / "labels.tif"))
    read = np.stack([planes.read(index) for index in range(planes.count)])
    table = count_values(read, "classes")
    assert table == {int(value): int((labels == value).sum()) for value in np.unique(labels)}
    assert list(table) == sorted(table)
    objects = count_values(read, "foreground")
    assert objects == {0: int((labels == 0).sum()), 1: int((labels > 0).sum())}
    assert np.array_equal(encode_labels(planes.read(1), (0, 1), "foreground"), (labels[1] > 0))


@pytest.mark.parametrize(
    ("values", "classes", "remedy"),
    [
        ((0, 255), (0, 1), "labels.values 0=0 255=1"),
        ((0, 1), (0, 255), "labels.values 0=0 1=255"),
        ((255,), (0, 1), "labels.values 255=1"),
        ((1, 2, 3), (0, 1, 2), "labels.values 1=0 2=1 3=2"),
        ((0, 7, 8, 9), (0, 1), "--data.labels-as foreground"),
        ((0, 9), (0, 1, 2), "labels.values OLD=NEW"),
    ],
)
def test_the_remedy_names_the_repair_that_makes_labels_known(
    values: tuple[int, ...], classes: tuple[int, ...], remedy: str
) -> None:
    plane = np.resize(np.array(values, np.uint8), (6, 7))
    with pytest.raises(DataError, match="unknown values") as caught:
        encode_labels(plane, classes, "classes")
    assert remedy in caught.value.remedy
    line = re.search(r'"(labels\.values [-=0-9 ]+)"', caught.value.remedy)
    if line:
        (step,) = parse_recipe([line[1]])
        table = dict(map(int, pair.split("=")) for pair in step.arguments)
        repaired = np.vectorize(lambda value: table.get(value, value))(plane)
        assert set(np.unique(encode_labels(repaired, classes, "classes"))) <= set(range(len(classes)))
