"""GeoJSON as QuPath writes it becomes labels: holes, classes by name, planes; bad files are told of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from segcore.config import DataConfig
from segcore.data.labels import annotated_part, label_table, open_labels, open_mask, value_names
from segcore.data.open import open_source
from segcore.data.opening import common_table
from segcore.data.source import ImageSource
from segcore.errors import DataError

SIZE = (20, 30)


def image(folder: Path, slices: int = 1) -> ImageSource:
    path = folder / "image.tif"
    tifffile.imwrite(path, np.zeros((slices, *SIZE), np.uint8), photometric="minisblack")
    return open_source(path)


def ring(top: int, left: int, bottom: int, right: int) -> list[list[int]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]


def feature(coordinates: Any, name: str = "", kind: str = "Polygon", **geometry: Any) -> dict[str, Any]:
    properties = {"classification": {"name": name}} if name else {}
    return {
        "type": "Feature",
        "geometry": {"type": kind, "coordinates": coordinates, **geometry},
        "properties": properties,
    }


def save(path: Path, *features: Any) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def whole(source: Any) -> np.ndarray:
    return source.read((slice(None),) * len(source.axes))


def area(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    pixels = np.zeros(SIZE, int)
    pixels[top:bottom, left:right] = 1
    return pixels


def test_classes_are_numbered_by_the_alphabet_and_holes_stay_open(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.geojson",
        feature([ring(0, 0, 10, 12), ring(2, 2, 5, 5)], "Tumour"),
        feature([[ring(12, 0, 15, 5)], [ring(12, 10, 15, 14)]], "Stroma", "MultiPolygon"),
    )
    labels = open_labels(path, image(tmp_path))
    expected = 2 * (area(0, 0, 10, 12) - area(2, 2, 5, 5)) + area(12, 0, 15, 5) + area(12, 10, 15, 14)
    assert np.array_equal(whole(labels), expected)
    assert value_names(labels) == {1: "Stroma", 2: "Tumour"}
    assert np.array_equal(whole(open_labels(path, image(tmp_path), "foreground")), expected > 0)
    objects = whole(open_labels(path, image(tmp_path), "objects"))
    assert np.array_equal(objects > 0, expected > 0)
    assert not set(np.unique(objects[expected == 1])) & set(np.unique(objects[expected == 2]))
    assert np.array_equal(whole(open_mask(path, image(tmp_path))), expected > 0)


@pytest.mark.parametrize("reverse", [False, True])
def test_small_objects_lie_on_large_ones(tmp_path: Path, reverse: bool) -> None:
    features = [feature([ring(0, 0, 20, 30)], "Tissue"), feature([ring(4, 4, 6, 6)], "Cell")]
    path = save(tmp_path / "a.geojson", *(reversed(features) if reverse else features))
    assert whole(open_labels(path, image(tmp_path)))[4, 4] == 1


def test_a_class_has_the_same_value_in_all_files(tmp_path: Path) -> None:
    one = save(tmp_path / "one.geojson", feature([ring(0, 0, 5, 5)], "Tumour"))
    two = save(tmp_path / "two.geojson", feature([ring(0, 0, 5, 5)], "Stroma"), feature([ring(5, 5, 9, 9)]))
    table = label_table([one, two])
    labels = open_labels(one, image(tmp_path), table=table)
    assert value_names(labels) == {1: "Stroma", 2: "Tumour", 3: "unclassified"}
    assert whole(labels).max() == 2
    assert whole(open_labels(two, image(tmp_path), table=table)).max() == 3


def test_a_class_has_the_same_value_although_some_labels_are_pictures(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "drawn.tif", np.zeros(SIZE, np.uint8))
    files = [tmp_path / "drawn.tif"]
    files += [
        save(tmp_path / f"{name}.geojson", feature([ring(0, 0, 5, 5)], name)) for name in ("Tumour", "Gland")
    ]
    table = common_table([str(file) for file in files], DataConfig())
    assert [whole(open_labels(file, image(tmp_path), table=table)).max() for file in files] == [0, 2, 1]


def test_a_list_of_features_in_a_json_file_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "objects.json"
    path.write_text(json.dumps([feature([ring(0, 0, 5, 5)]), feature([ring(5, 5, 9, 9)])]))
    assert np.unique(whole(open_labels(path, image(tmp_path)))).tolist() == [0, 1, 2]


def test_objects_lie_in_their_planes_and_the_others_are_not_annotated(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.geojson",
        feature([ring(0, 0, 5, 5)], plane={"c": -1, "z": 2, "t": 0}),
        feature([ring(5, 5, 9, 9)]),
    )
    labels = open_labels(path, image(tmp_path, 4), "foreground")
    assert whole(labels).any((1, 2)).tolist() == [True, False, True, False]
    mask = annotated_part(labels)
    assert mask is not None
    assert whole(mask).all((1, 2)).tolist() == [True, False, True, False]
    with pytest.raises(DataError, match="slice 2, frame 0"):
        open_labels(path, image(tmp_path, 2))


def test_points_are_left_out_and_told(tmp_path: Path) -> None:
    path = save(tmp_path / "a.geojson", feature([3, 3], kind="Point"), feature([ring(0, 0, 5, 5)]))
    labels = open_labels(path, image(tmp_path))
    assert np.array_equal(whole(labels), area(0, 0, 5, 5))
    assert "1 objects are points" in labels.notes[0]


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.geojson",
        feature([[[0, 0], [1, 1]]]),
        feature([[[0, 0], [1, "x"], [2, 2]]]),
        feature([[[0, 0], [1e300, 1], [2, 2]]]),
        feature([]),
        feature(None),
        {"type": "Feature"},
        7,
        feature([ring(0, 0, 5, 5)]),
    )
    with pytest.raises(DataError) as caught:
        open_labels(path, image(tmp_path))
    assert [number for number in range(8) if f"feature {number}:" in str(caught.value)] == list(range(7))


@pytest.mark.parametrize("text", ["{}", "[]", "[1]", '{"type": "FeatureCollection"}', "{"])
def test_what_is_no_geojson_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.geojson"
    path.write_text(text)
    with pytest.raises(DataError):
        open_labels(path, image(tmp_path))
