"""One suite for every kind of label file: on the grid of its image, and any part is that of the whole."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from roifile import ImagejRoi

from segcore.data.labels import annotated_part, open_labels, open_mask, value_names
from segcore.data.open import open_source
from segcore.data.recipe import parse_recipe, repair_labels
from segcore.data.source import ImageSource

SIZE = (21, 34)
SLICES = 3
BOXES = [(2, 3, 9, 12), (10, 15, 19, 30)]
"""Rows and columns of two objects, `(top, left, bottom, right)`, of the classes 1 and 2."""


def classes() -> np.ndarray:
    """Return what every kind of file says: two rectangles."""
    labels = np.zeros(SIZE, np.uint8)
    for value, (top, left, bottom, right) in enumerate(BOXES, 1):
        labels[top:bottom, left:right] = value
    return labels


def corners(box: tuple[int, int, int, int]) -> list[list[int]]:
    top, left, bottom, right = box
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def tiff(folder: Path) -> str:
    tifffile.imwrite(folder / "labels.tif", classes())
    return str(folder / "labels.tif")


def stack(folder: Path) -> str:
    tifffile.imwrite(folder / "labels.tif", np.stack([classes()] * SLICES), photometric="minisblack")
    return str(folder / "labels.tif")


def colours(folder: Path) -> str:
    table = np.array([(0, 0, 0), (0, 0, 255), (255, 0, 0)], np.uint8)
    Image.fromarray(table[classes()]).save(folder / "labels.png")
    return str(folder / "labels.png")


def palette(folder: Path) -> str:
    picture = Image.fromarray(classes())
    picture.putpalette([0, 0, 0, 0, 0, 255, 255, 0, 0])
    picture.save(folder / "labels.png")
    return str(folder / "labels.png")


def coco(folder: Path) -> str:
    content = {
        "images": [{"id": 0, "file_name": "image.tif", "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": 0, "name": "cell"}, {"id": 1, "name": "nucleus"}],
        "annotations": [
            {"id": at, "image_id": 0, "category_id": at, "segmentation": [np.ravel(corners(box)).tolist()]}
            for at, box in enumerate(BOXES)
        ] + [{"id": 9, "image_id": 0, "category_id": 0, "iscrowd": 1, "segmentation": [[0, 0, 0, 2, 2, 2]]}],
    }  # fmt: skip
    (folder / "labels.json").write_text(json.dumps(content))
    return f"{folder / 'labels.json'}::image.tif"


def rois(folder: Path) -> str:
    with zipfile.ZipFile(folder / "labels.zip", "w") as archive:
        for at, box in enumerate(BOXES):
            roi = ImagejRoi.frompoints(np.array(corners(box)))
            roi.group = at + 1
            archive.writestr(f"{at}.roi", roi.tobytes())
    return str(folder / "labels.zip")


def rois_in_a_slice(folder: Path) -> str:
    with zipfile.ZipFile(folder / "labels.zip", "w") as archive:
        for at, box in enumerate(BOXES):
            roi = ImagejRoi.frompoints(np.array(corners(box)))
            roi.group, roi.position = at + 1, 2
            archive.writestr(f"{at}.roi", roi.tobytes())
    return str(folder / "labels.zip")


def geojson(folder: Path) -> str:
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [corners(box)]},
            "properties": {"classification": {"name": f"class {value}"}},
        }
        for value, box in enumerate(BOXES)
    ]
    (folder / "labels.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return str(folder / "labels.geojson")


Write = Callable[[Path], str]
KINDS: list[tuple[Write, int, str]] = [
    (tiff, 1, ""), (stack, SLICES, ""), (colours, 1, ""), (palette, 1, ""), (coco, 1, ""), (rois, 1, ""),
    (rois, SLICES, ""), (rois_in_a_slice, SLICES, ""), (geojson, 1, ""), (geojson, SLICES, ""),
    (tiff, 1, "labels.values 1=1"), (tiff, 1, "labels.nearest 0 1 2"), (stack, SLICES, "labels.round"),
    (colours, 1, "labels.colours 000000=0 0000ff=1 ff0000=2"), (stack, SLICES, "labels.objects"),
    (rois, SLICES, "labels.shift 0 0"),
]  # fmt: skip


@pytest.fixture(params=KINDS, ids=lambda kind: f"{kind[0].__name__}-{kind[1]}-{kind[2].partition(' ')[0]}")
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[ImageSource, ImageSource]:
    """Return an image and its labels."""
    write, slices, line = request.param
    shape = SIZE if slices == 1 else (slices, *SIZE)
    tifffile.imwrite(tmp_path / "image.tif", np.zeros(shape, np.uint8), photometric="minisblack")
    image = open_source(tmp_path / "image.tif")
    labels = open_labels(write(tmp_path), image)
    return image, repair_labels(labels, parse_recipe([line]))


def whole(source: ImageSource) -> np.ndarray:
    return source.read((slice(None),) * len(source.axes))


def test_labels_lie_on_the_grid_of_their_image(opened: tuple[ImageSource, ImageSource]) -> None:
    image, labels = opened
    assert (labels.axes, labels.shape) == (image.axes, image.shape)
    assert labels.dtype.kind in "iu"
    pixels = whole(labels)
    assert pixels.dtype == labels.dtype
    expected = np.broadcast_to(classes(), labels.shape)
    mask = annotated_part(labels)
    annotated = whole(mask) > 0 if mask else np.ones(labels.shape, bool)
    assert np.array_equal(pixels[annotated], expected[annotated])
    assert annotated.any()


def test_every_region_is_that_part_of_the_whole(opened: tuple[ImageSource, ImageSource]) -> None:
    _, labels = opened
    mask = annotated_part(labels)
    rng = np.random.default_rng(0)
    for source in filter(None, (labels, mask)):
        pixels = whole(source)
        for _ in range(12):
            region = tuple(slice(*sorted(rng.integers(0, size + 1, 2).tolist())) for size in source.shape)
            assert np.array_equal(source.read(region), pixels[region])


def test_what_is_read_belongs_to_the_reader(opened: tuple[ImageSource, ImageSource]) -> None:
    _, labels = opened
    first = whole(labels)
    expected = first.copy()
    first[...] = 1
    assert np.array_equal(whole(labels), expected)


def test_a_region_that_is_none_is_refused(opened: tuple[ImageSource, ImageSource]) -> None:
    _, labels = opened
    with pytest.raises(IndexError):
        labels.read((slice(None),))
    with pytest.raises(IndexError):
        labels.read((slice(None, None, 2),) * len(labels.axes))


def test_no_file_stays_open(opened: tuple[ImageSource, ImageSource]) -> None:
    _, labels = opened
    whole(labels)
    links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
    assert str(labels.path) not in [os.readlink(link) for link in links if link.is_symlink()]


def test_names_are_those_of_values_that_can_occur(opened: tuple[ImageSource, ImageSource]) -> None:
    _, labels = opened
    assert set(value_names(labels)) <= {0, 1, 2}


@pytest.mark.parametrize("write", [tiff, colours, rois, geojson])
def test_all_of_them_can_be_masks(write: Write, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "image.tif", np.zeros(SIZE, np.uint8))
    mask = open_mask(write(tmp_path), open_source(tmp_path / "image.tif"))
    assert np.array_equal(whole(mask), (classes() > 0).astype(np.uint8))
