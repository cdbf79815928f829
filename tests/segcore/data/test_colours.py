"""Masks in colours become label values by a stated table, and are refused where colours are no classes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from segcore.data.colours import count_colours
from segcore.data.labels import label_table, open_labels, open_mask, value_names
from segcore.data.open import open_source
from segcore.data.recipe import parse_recipe, repair_labels
from segcore.errors import DataError

DATA = Path(__file__).parents[3] / os.environ.get("SEGCORE_TEST_DATA", "../shared/data")
BLACK, BLUE, GREEN, RED = (0, 0, 0), (0, 0, 255), (0, 255, 0), (255, 0, 0)


def paint(path: Path, *colours: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Write a mask in these colours at random; return which of them every pixel has."""
    chosen = np.random.default_rng(seed).integers(0, len(colours), (12, 17))
    Image.fromarray(np.array(colours, np.uint8)[chosen]).save(path)
    return chosen


def whole(source: Any) -> np.ndarray:
    return source.read((slice(None),) * len(source.axes))


def test_black_is_0_and_other_colours_count_up_by_red_green_and_blue(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    chosen = paint(path, GREEN, BLACK, RED, BLUE)
    labels = open_labels(path)
    assert np.array_equal(whole(labels), np.array([2, 0, 3, 1])[chosen])
    assert value_names(labels) == {0: "#000000", 1: "#0000ff", 2: "#00ff00", 3: "#ff0000"}
    assert "0000ff = 1, 00ff00 = 2, ff0000 = 3" in labels.notes[-1]


def test_a_colour_has_the_same_value_in_all_files(tmp_path: Path) -> None:
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    paint(one, BLACK, RED)
    paint(two, BLUE, GREEN)
    table = label_table([one, two])
    assert np.unique(whole(open_labels(one, table=table))).tolist() == [0, 3]
    assert np.unique(whole(open_labels(two, table=table))).tolist() == [1, 2]


def test_a_colour_that_no_table_knows_is_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    paint(one, BLACK, RED)
    paint(two, BLUE, RED)
    with pytest.raises(DataError, match="colour 0000ff"):
        whole(open_labels(two, table=label_table([one])))


def test_a_grey_mask_in_colour_keeps_its_grey_values(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    chosen = paint(path, *[(value,) * 3 for value in range(100)])
    assert np.array_equal(whole(open_labels(path)), chosen)
    assert label_table([path]).colours is None


def test_transparent_pixels_are_black(tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    chosen = np.random.default_rng(0).integers(0, 3, (12, 17))
    pixels = np.array([(*RED, 255), (*GREEN, 0), (*BLACK, 0)], np.uint8)[chosen]
    tifffile.imwrite(path, pixels, photometric="rgb", extrasamples=["unassalpha"])
    assert np.array_equal(whole(open_labels(path)), np.array([1, 0, 0])[chosen])


def test_a_palette_is_read_as_its_indices(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    chosen = np.random.default_rng(0).integers(0, 3, (12, 17), np.uint8)
    picture = Image.fromarray(chosen)
    picture.putpalette([*RED, *GREEN, *BLUE])
    picture.save(path)
    assert np.array_equal(whole(open_labels(path)), chosen)


def test_smoothed_colours_are_refused_until_a_repair_says_which_are_meant(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    chosen = np.repeat(np.repeat(np.random.default_rng(0).integers(0, 3, (12, 17)), 8, 0), 8, 1)
    sharp = Image.fromarray(np.array([BLACK, RED, GREEN], np.uint8)[chosen])
    sharp.resize((68, 48), Image.Resampling.BICUBIC).save(path)
    labels = open_labels(path)
    assert len(count_colours(open_source(path))) > 32
    assert "too many" in labels.notes[-1]
    for refused in (labels, open_labels(path, table=label_table([path]))):
        with pytest.raises(DataError, match=r"labels\.colours"):
            whole(refused)
    steps = parse_recipe(["labels.colours 000000=0 ff0000=1 00ff00=2"])
    repaired = whole(repair_labels(labels, steps))
    middles = chosen[4::8, 4::8]
    assert np.array_equal(repaired[2::4, 2::4], middles)


def test_a_repair_of_colours_needs_colours(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 9), np.uint8))
    with pytest.raises(DataError, match="no mask in colours"):
        repair_labels(open_labels(tmp_path / "a.tif"), parse_recipe(["labels.colours ff0000=1"]))


def test_three_samples_in_front_are_slices_unless_the_image_is_one_plane(tmp_path: Path) -> None:
    path, image = tmp_path / "mask.tif", tmp_path / "image.tif"
    planar = np.moveaxis(np.array([BLACK, RED], np.uint8)[np.eye(9, dtype=int)], -1, 0)
    tifffile.imwrite(path, planar, photometric="rgb", planarconfig="separate")
    tifffile.imwrite(image, np.zeros((9, 9), np.uint8))
    assert open_labels(path).axes == "ZYX"
    assert np.array_equal(whole(open_labels(path, open_source(image))), np.eye(9))
    tifffile.imwrite(image, np.zeros((3, 9, 9), np.uint8), photometric="minisblack")
    assert open_labels(path, open_source(image)).axes == "ZYX"


def test_a_mask_is_annotated_where_any_colour_is(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    chosen = paint(path, (*BLACK, 255), (*GREEN, 255))
    assert np.array_equal(whole(open_mask(path)), chosen)


@pytest.mark.realdata
def test_real_masks_in_colours_are_the_labels_made_of_them() -> None:
    folder = DATA / "sandstone_microct_4class"
    if not folder.is_dir():
        pytest.skip(f"the real data sets are not at {DATA}")
    masks = sorted((folder / "masks_rgb_original").iterdir())[:3]
    table = label_table(masks)
    expected = open_source(folder / "labels.tif")
    # Their table is by blue, red, green, yellow; ours by blue, green, red, yellow.
    order = np.array([1, 3, 2, 4])
    for index, mask in enumerate(masks):
        plane = expected.read((slice(index, index + 1), slice(None), slice(None)))[0]
        assert np.array_equal(whole(open_labels(mask, table=table)), order[plane])


def test_the_colours_of_masks_are_counted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = []
    for number, colour in enumerate([(255, 0, 0), (0, 255, 0)]):
        pixels = np.zeros((8, 9, 3), np.uint8)
        pixels[2:5, 2:5] = colour
        path = tmp_path / f"{number}.png"
        Image.fromarray(pixels).save(path)
        os.utime(path, (1, 1))
        masks.append(path)
    table = label_table(masks)
    alone = value_names(open_labels(masks[0]))
    monkeypatch.setattr("segcore.data.colours.count_colours", None)
    monkeypatch.setattr("segcore.data.labels.count_colours", None)
    assert label_table(masks) == table
    assert value_names(open_labels(masks[0])) == alone
    assert np.array_equal(whole(open_labels(masks[1], table=table))[2:5, 2:5], np.full((3, 3), 1))
