"""COCO JSON becomes labels: values by category or object, small on top, crowds left out; errors are told."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from segcore.data.coco import coco_images, open_coco
from segcore.data.drawn import DrawnLabels
from segcore.data.kept_planes import KeptPlanes
from segcore.data.labels import annotated_part, open_labels, value_names
from segcore.data.open import open_source
from segcore.errors import DataError

DATA = Path(__file__).parents[3] / os.environ.get("SEGCORE_TEST_DATA", "../shared/data")
SIZE = (12, 16)
Write = Callable[..., Path]


def box(top: int, left: int, bottom: int, right: int) -> list[list[float]]:
    return [[left, top, right, top, right, bottom, left, bottom]]


def runs(pixels: np.ndarray) -> dict[str, Any]:
    flat = pixels.ravel("F").astype(int)
    ends = [*np.flatnonzero(np.diff(flat)) + 1, flat.size]
    counts = np.diff([0, *ends]).tolist()
    return {"size": list(pixels.shape), "counts": [0, *counts] if flat[0] else counts}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_json(objects: list[dict[str, Any]], **changes: Any) -> Path:
        content: dict[str, Any] = {
            "images": [{"id": 7, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
            "categories": [{"id": 0, "name": "cell"}, {"id": 5, "name": "debris"}],
            "annotations": [
                {"id": at, "image_id": 7, "category_id": 0, "iscrowd": 0} | entry
                for at, entry in enumerate(objects)
            ],
        } | changes
        path = tmp_path / "annotations.json"
        path.write_text(json.dumps(content))
        return path

    return write_json


def whole(source: Any) -> np.ndarray:
    return source.read((slice(None),) * len(source.axes))


def test_category_0_is_a_class_and_the_names_are_kept(write: Write) -> None:
    path = write([
        {"segmentation": box(1, 1, 4, 4)},
        {"segmentation": box(6, 8, 9, 12), "category_id": 5},
    ])  # fmt: skip
    labels = open_labels(path)
    expected = np.zeros(SIZE, int)
    expected[1:4, 1:4], expected[6:9, 8:12] = 1, 2
    assert np.array_equal(whole(labels), expected)
    assert value_names(labels) == {1: "cell", 2: "debris"}
    assert "1 = cell, 2 = debris" in labels.notes[0]
    assert annotated_part(labels) is None


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_small_object_lies_on_the_large_one_whatever_their_order(
    write: Write, order: tuple[int, ...]
) -> None:
    objects = [
        {"segmentation": box(0, 0, 12, 16)},
        {"segmentation": box(4, 4, 6, 6), "category_id": 5},
    ]
    assert whole(open_coco(write([objects[at] for at in order])))[4, 4] == 2


def test_all_meanings_agree(write: Write) -> None:
    path = write([
        {"segmentation": box(0, 0, 5, 5)},
        {"segmentation": box(3, 3, 9, 14), "category_id": 5},
        {"segmentation": box(7, 1, 10, 4)},
    ])  # fmt: skip
    classes, objects, both = (
        whole(open_coco(path, meaning=meaning)) for meaning in ("semantic", "instance", "panoptic")
    )
    assert set(np.unique(objects)) == {0, 1, 2, 3}
    assert np.array_equal(both // 1000, classes)
    assert set(np.unique(both)) == {0, 1001, 1002, 2001}
    assert np.array_equal(objects > 0, classes > 0)


def test_a_crowd_is_not_annotated_but_for_the_objects_on_it(write: Write) -> None:
    crowd = np.zeros(SIZE, bool)
    crowd[2:8, 2:10] = True
    path = write([
        {"segmentation": runs(crowd), "iscrowd": 1},
        {"segmentation": box(4, 4, 6, 6)},
    ])  # fmt: skip
    labels = open_labels(path)
    mask = annotated_part(labels)
    assert mask is not None
    expected = ~crowd
    expected[4:6, 4:6] = True
    assert np.array_equal(whole(mask) > 0, expected)
    assert np.array_equal(whole(labels) > 0, expected & crowd)


def test_a_picture_is_found_by_the_name_of_the_image(write: Write, tmp_path: Path) -> None:
    images = [
        {"id": at, "file_name": name, "height": SIZE[0], "width": SIZE[1]}
        for at, name in enumerate(["one/a.png", "two\\a.png", "b.png"])
    ]
    path = write([{"segmentation": box(0, 0, 4, 4), "image_id": 1}], images=images)
    for name, pixels in (("two/a.png", 16), ("one/a.png", 0), ("b.tif", 0)):
        image = tmp_path / name
        image.parent.mkdir(exist_ok=True)
        zeros = np.zeros(SIZE, np.uint8)
        tifffile.imwrite(image, zeros) if name.endswith("tif") else Image.fromarray(zeros).save(image)
        assert np.count_nonzero(whole(open_labels(path, open_source(image)))) == pixels
    assert np.count_nonzero(whole(open_labels(f"{path}::two/a.png"))) == 16
    with pytest.raises(DataError, match=r"one/a\.png, two.a\.png, b\.png"):
        open_labels(path)
    with pytest.raises(DataError, match=r"says nothing about c\.png"):
        open_labels(f"{path}::c.png")
    assert [image.file_name for image in coco_images(path)] == ["one/a.png", "two\\a.png", "b.png"]


def test_an_image_of_another_size_or_with_slices_is_refused(write: Write, tmp_path: Path) -> None:
    path = write([])
    for shape, words in (((12, 17), "12 × 17"), ((3, *SIZE), "3 slices")):
        tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, np.uint8), photometric="minisblack")
        with pytest.raises(DataError, match=words):
            open_labels(path, open_source(tmp_path / "a.tif"))


def test_a_changed_file_is_read_again(write: Write) -> None:
    assert not whole(open_labels(write([]))).any()
    assert whole(open_labels(write([{"segmentation": box(0, 0, 4, 4)}]))).any()


def test_all_problems_are_told_at_once(write: Write) -> None:
    path = write([
        {"segmentation": box(0, 0, 4, 4), "image_id": 8},
        {"segmentation": box(0, 0, 4, 4), "category_id": 3},
        {"segmentation": [[1, 2, 3, 4]]},
        {"segmentation": [[1, 2, 3, 4, float("nan"), 1]]},
        {"segmentation": {"size": [12, 16], "counts": [5, 5]}},
        {"segmentation": {"size": [10**6, 10**6], "counts": [10**12]}},
        {"segmentation": {"size": [12, 16], "counts": "~~~"}},
        {"bbox": [0, 0, 4, 4]},
    ])  # fmt: skip
    with pytest.raises(DataError) as caught:
        open_labels(path)
    for words in (
        "annotation 0 is about image 8", "annotation 1 has the category 3", "annotation 2 has a polygon",
        "annotation 3 has a polygon", "annotation 4 has run lengths that fill 10 of 192 pixels",
        "annotation 5 has run lengths for the size [1000000, 1000000]", "annotation 6 has compressed",
        "annotation 7 has no outline",
    ):  # fmt: skip
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"categories": [{"id": 1}, {"id": 1}]}, "two categories have the id 1"),
        ({"categories": [{"name": "cell"}]}, "no whole number"),
        ({"images": [{"id": 7, "file_name": "a.png"}]}, "the height None"),
        ({"images": [{"id": 7, "file_name": "a.png", "height": 10**6, "width": 10**6}]}, "1000000"),
        ({"images": {}}, "no list 'images'"),
        ({"annotations": [3]}, "no list 'annotations'"),
    ],
)
def test_a_damaged_table_is_refused(write: Write, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        open_labels(write([], **changes))


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "3", "[]", "null", "\xff"])
def test_what_is_no_coco_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "annotations.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError):
        open_labels(path)


@pytest.mark.realdata
def test_the_nuclei_in_real_images_are_all_there() -> None:
    folder = DATA / "coco_he_nuclei"
    if not folder.is_dir():
        pytest.skip(f"the real data sets are not at {DATA}")
    image = open_source(folder / "images" / "0022.png")
    objects = whole(open_coco(folder / "annotations.json", like=image, meaning="instance"))
    assert len(np.unique(objects)) == 1391 + 1
    classes = whole(open_labels(folder / "annotations.json", image))
    assert np.array_equal(classes, (objects > 0).astype(int))
    # Nuclei are stained: darker than what lies between them.
    grey = whole(image).mean(-1)
    assert grey[classes == 1].mean() < grey[classes == 0].mean() - 20


def test_a_picture_is_drawn_once_for_all_who_read_it(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write([{"segmentation": box(1, 1, 4, 4)}, {"segmentation": box(6, 8, 9, 12), "category_id": 5}])
    expected = whole(open_coco(path))
    drawn: list[int] = []
    draw = DrawnLabels._draw
    monkeypatch.setattr(DrawnLabels, "_draw", lambda self, *at: drawn.append(1) or draw(self, *at))
    again = open_coco(path)
    assert np.array_equal(whole(again), expected)
    assert np.array_equal(again.read((slice(5, 10), slice(7, 13))), expected[5:10, 7:13])
    assert not drawn
    objects = whole(open_coco(path, meaning="instance"))
    assert drawn
    assert np.array_equal(objects > 0, expected > 0)


def test_what_was_drawn_is_forgotten_when_the_file_changes(write: Write) -> None:
    whole(open_coco(write([{"segmentation": box(1, 1, 4, 4)}])))
    changed = whole(open_coco(write([{"segmentation": box(1, 1, 4, 4)}, {"segmentation": box(6, 8, 9, 12)}])))
    assert changed[7, 9] == 1


def test_what_is_read_may_be_written_to(write: Write) -> None:
    path = write([{"segmentation": box(1, 1, 4, 4)}])
    whole(open_coco(path))[:] = 7
    assert whole(open_coco(path)).max() == 1


def test_kept_planes_stay_within_their_budget() -> None:
    kept = KeptPlanes(budget=4 * 100)
    for number in range(9):
        kept.keep(number, np.full((10, 10), number, np.uint8))
    assert [number for number in range(9) if kept.find(number) is not None] == [5, 6, 7, 8]
    kept.find(5)
    kept.keep(9, np.zeros((10, 10), np.uint8))
    assert [number for number in range(10) if kept.find(number) is not None] == [5, 7, 8, 9]
    kept.keep("large", np.zeros((11, 10), np.uint8))
    assert kept.find("large") is None
