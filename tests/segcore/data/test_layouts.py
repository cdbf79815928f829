"""Layouts: the ways in which people keep images and labels are paired rightly, without a word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from made_folders import listed, make, pairs, said

from segcore.config import DataConfig
from segcore.data.found import natural
from segcore.data.items import list_items

LAYOUTS: dict[str, tuple[list[str], dict[str, str], dict[str, str]]] = {
    "folders": (
        ["images/b.png", "images/a10.png", "images/a2.png", "masks/a2.tif", "masks/a10.tif", "masks/b.tif"],
        {"images": "images", "labels": "masks"},
        {"a2.png": "masks/a2.tif", "a10.png": "masks/a10.tif", "b.png": "masks/b.tif"},
    ),
    "suffix in another folder": (
        ["i/x.png", "i/y.png", "l/x_mask.png", "l/y_mask.png"],
        {"images": "i", "labels": "l"},
        {"x.png": "l/x_mask.png", "y.png": "l/y_mask.png"},
    ),
    "suffix in the same folder": (
        ["x.png", "x_mask.png", "y.png", "y-labels.tif", "z_raw.tif", "z_seg.tif", "README.md", "Thumbs.db"],
        {"images": ".", "labels": "."},
        {"x.png": "x_mask.png", "y.png": "y-labels.tif", "z_raw.tif": "z_seg.tif"},
    ),
    "prefix": (["x.tif", "mask_x.tif"], {"images": "."}, {"x.tif": "mask_x.tif"}),
    "numbers behind words": (
        ["img1.tif", "img2.tif", "label1.tif", "label2.tif"],
        {"images": "."},
        {"img1.tif": "label1.tif", "img2.tif": "label2.tif"},
    ),
    "images called like labels": (
        ["roi_1.tif", "roi_1_mask.tif", "roi_2.tif", "roi_2_mask.tif"],
        {"images": "."},
        {"roi_1.tif": "roi_1_mask.tif", "roi_2.tif": "roi_2_mask.tif"},
    ),
    "images called like labels, in folders": (
        ["i/seg_1.tif", "i/mask_1.tif", "l/seg_1_mask.tif", "l/mask_1_mask.tif"],
        {"images": "i", "labels": "l"},
        {"seg_1.tif": "l/seg_1_mask.tif", "mask_1.tif": "l/mask_1_mask.tif"},
    ),
    "one name, two endings": (
        ["image1.jpg", "image1.png", "image2.jpg", "image2.png"],
        {"images": ".", "labels": "."},
        {"image1.jpg": "image1.png", "image2.jpg": "image2.png"},
    ),
    "hierarchy": (
        ["e_raw_data/Pos1/1.tif", "e_raw_data/Pos2/1.tif", "e_masks/Pos1/1.tif", "e_masks/Pos2/1.tif"],
        {"images": "e_raw_data", "labels": "e_masks"},
        {"Pos1/1.tif": "e_masks/Pos1/1.tif", "Pos2/1.tif": "e_masks/Pos2/1.tif"},
    ),
    "hierarchy from above": (
        ["e_raw_data/Pos1/1.tif", "f_raw_data/Pos1/1.tif", "e_masks/Pos1/1.tif", "f_masks/Pos1/1.tif"],
        {"images": "."},
        {"e_raw_data/Pos1/1.tif": "e_masks/Pos1/1.tif", "f_raw_data/Pos1/1.tif": "f_masks/Pos1/1.tif"},
    ),
    "nnU-Net": (
        ["imagesTr/x.nii.gz", "imagesTr/y.nii.gz", "labelsTr/x.nii.gz", "labelsTr/y.nii.gz", "dataset.json"],
        {"images": "."},
        {"imagesTr/x.nii.gz": "labelsTr/x.nii.gz", "imagesTr/y.nii.gz": "labelsTr/y.nii.gz"},
    ),
    "cell tracking": (
        ["01/t000.tif", "01/t001.tif", "01_GT/SEG/man_seg000.tif", "01_GT/SEG/man_seg001.tif"],
        {"images": "."},
        {"01/t000.tif": "01_GT/SEG/man_seg000.tif", "01/t001.tif": "01_GT/SEG/man_seg001.tif"},
    ),
    "patterns": (
        ["a_bf.tif", "a_outline.tif", "b_bf.tif", "b_outline.tif", "notes.txt"],
        {"images": "*_bf.tif", "labels": "*_outline.tif"},
        {"a_bf.tif": "a_outline.tif", "b_bf.tif": "b_outline.tif"},
    ),
    "patterns over folders": (
        ["p1/raw.tif", "p1/drawn.tif", "p2/deep/raw.tif", "p2/deep/drawn.tif"],
        {"images": "**/raw.tif", "labels": "**/drawn.tif"},
        {"p1/raw.tif": "p1/drawn.tif", "p2/deep/raw.tif": "p2/deep/drawn.tif"},
    ),
    "labels within the images": (
        ["a.tif", "b.tif", "masks/a.tif", "masks/b.tif"],
        {"images": ".", "labels": "masks"},
        {"a.tif": "masks/a.tif", "b.tif": "masks/b.tif"},
    ),
    "Zarr": (
        ["i/a.zarr/.zarray", "i/b.ome.zarr/zarr.json", "l/a.zarr/.zarray", "l/b.zarr/.zarray"],
        {"images": "i", "labels": "l"},
        {"a.zarr": "l/a.zarr", "b.ome.zarr": "l/b.zarr"},
    ),
    "DICOM series": (
        ["i/p1/1.dcm", "i/p1/2.dcm", "i/p2/1.dcm", "l/p1.nii.gz", "l/p2.nii.gz"],
        {"images": "i", "labels": "l"},
        {"p1": "l/p1.nii.gz", "p2": "l/p2.nii.gz"},
    ),
    "one file in a folder of labels": (
        ["a.tif", "l/a.tif", "l/b.tif"], {"images": "a.tif", "labels": "l"}, {"a.tif": "l/a.tif"}
    ),
    "ROI sets": (
        ["a.tif", "a_RoiSet.zip", "b.tif", "b.geojson"],
        {"images": "."},
        {"a.tif": "a_RoiSet.zip", "b.tif": "b.geojson"},
    ),
    "arrays of one file": (
        ["v.h5"], {"images": "v.h5::raw", "labels": "v.h5::label"}, {"v.h5::raw": "v.h5::label"}
    ),
    "the only two files": (["raw.tif", "labels_x.tif"], {"images": "."}, {"raw.tif": "labels_x.tif"}),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_people_have_is_paired(layout: str, tmp_path: Path) -> None:
    files, places, expected = LAYOUTS[layout]
    make(tmp_path, *files)
    listing = listed(tmp_path, **places)
    assert pairs(listing, tmp_path) == expected
    assert not said(listing)
    assert not said(listing, "error")
    assert [item.name for item in listing.items] == sorted(expected, key=natural)


SETS = {
    "bacteria_phase_omnipose": 4,
    "coco_he_nuclei": 6,
    "confocal3d_ovule_cells": 1,
    "confocal3d_ovule_nuclei": 2,
    "dsb2018_nuclei": 60,
    "imc_5channel_pancreas": 2,
    "isbi2012_em_membrane": 1,
    "sparse_bbbc007_nuclei": 1,
    "sparse_maize_scribbles": 1,
}


@pytest.mark.realdata
@pytest.mark.parametrize("name", SETS)
def test_the_folder_of_a_real_set_is_enough(name: str, real_data: Callable[[str], Path]) -> None:
    folder = str(real_data(name))
    listing = list_items(DataConfig(images=folder, labels=folder))
    assert len(listing.items) == SETS[name]
    assert not said(listing, "error")
