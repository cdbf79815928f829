"""Items: every file below a folder is an item, is named in a finding, or is no image; sets, masks, COCO."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from made_folders import listed, make, pairs, said

from segcore.config import DataConfig
from segcore.data.items import list_items


def test_a_given_suffix_goes_before_the_usual_words(tmp_path: Path) -> None:
    make(tmp_path, "a_mask.tif", "a_mask_drawn.tif", "b_mask.tif", "drawn_b_mask.tif")
    listing = listed(tmp_path, images=".", label_suffix="_drawn")
    assert pairs(listing, tmp_path) == {"a_mask.tif": "a_mask_drawn.tif"}
    assert "b_mask.tif" in said(listing)
    listing = listed(tmp_path, images=".", label_suffix="drawn_")
    assert pairs(listing, tmp_path) == {"b_mask.tif": "drawn_b_mask.tif"}


def test_channel_files_become_one_image(tmp_path: Path) -> None:
    make(tmp_path, "i/a_DAPI.tif", "i/a_GFP.tif", "i/b_GFP.tif", "i/b_DAPI.tif", "i/c_GFP.tif", "i/d.tif")
    make(tmp_path, "l/a.tif", "l/b.tif", "l/c.tif")
    listing = listed(tmp_path, images="i", labels="l", channel_suffixes=["_GFP", "_DAPI"])
    assert pairs(listing, tmp_path) == {"a": "l/a.tif", "b": "l/b.tif"}
    assert [Path(file).name for file in listing.items[1].images] == ["b_GFP.tif", "b_DAPI.tif"]
    assert "c_GFP.tif" in said(listing)
    assert "d.tif" in said(listing)


def test_a_second_file_of_a_channel_is_named(tmp_path: Path) -> None:
    make(tmp_path, *(f"i/1_{channel}" for channel in ("DAPI.tif", "DAPI.png", "GFP.tif")), "l/1.tif")
    listing = listed(tmp_path, images="i", labels="l", channel_suffixes=["_DAPI", "_GFP"])
    assert len(listing.items) == 1
    assert "Second files of the same channel" in said(listing)


def test_labels_may_be_named_like_one_of_the_channels(tmp_path: Path) -> None:
    make(tmp_path, "a_w1.tif", "a_w2.tif", "a_w1_mask.tif", "b_w1.tif", "b_w2.tif", "b_mask.tif")
    listing = listed(tmp_path, images=".", channel_suffixes=["_w1", "_w2"])
    assert pairs(listing, tmp_path) == {"a": "a_w1_mask.tif", "b": "b_mask.tif"}
    assert not listing.findings


def test_the_images_of_nnunet_may_lie_beside_their_labels(tmp_path: Path) -> None:
    make(tmp_path, "x_0000.nii.gz", "x_0001.nii.gz", "x.nii.gz")
    listing = listed(tmp_path, images=".", labels=".", channel_suffixes=["_0000", "_0001"])
    assert pairs(listing, tmp_path) == {"x": "x.nii.gz"}
    assert len(listing.items[0].images) == 2


def test_channels_of_nnunet_are_recognised_by_their_labels(tmp_path: Path) -> None:
    names = [f"imagesTr/{case}_000{channel}.nii.gz" for case in "xy" for channel in range(2)]
    make(tmp_path, *names, "labelsTr/x.nii.gz", "labelsTr/y.nii.gz")
    listing = listed(tmp_path, images="imagesTr", labels="labelsTr")
    assert pairs(listing, tmp_path) == {"x": "labelsTr/x.nii.gz", "y": "labelsTr/y.nii.gz"}
    assert [len(item.images) for item in listing.items] == [2, 2]


def test_numbered_slices_are_no_channels(tmp_path: Path) -> None:
    make(tmp_path, *(f"{kind}/x_00{number:02}.tif" for kind in ("i", "l") for number in range(12)))
    assert len(listed(tmp_path, images="i", labels="l").items) == 12


def test_files_named_one_by_one_are_channels_of_one_image(tmp_path: Path) -> None:
    listing = listed(tmp_path, images="a.tif;b.tif", labels="l.tif")
    assert listing.items[0].images == (str(tmp_path / "a.tif"), str(tmp_path / "b.tif"))
    assert not listing.findings


def test_unpaired_and_doubly_paired_files_are_named(tmp_path: Path) -> None:
    make(tmp_path, "i/a.tif", "i/alone.tif", "i/twice.tif", "i/two.tif", "i/two.png")
    make(tmp_path, "l/a.tif", "l/lost.tif", "l/twice_mask.tif", "l/twice_labels.tif", "l/two.tif")
    listing = listed(tmp_path, images="i", labels="l")
    assert pairs(listing, tmp_path) == {"a.tif": "l/a.tif"}
    for name in ("alone.tif", "lost.tif", "twice.tif", "twice_mask.tif", "two.png"):
        assert name in said(listing)


def test_many_unpaired_files_are_counted(tmp_path: Path) -> None:
    make(tmp_path, "i/a.tif", "l/a.tif", *(f"i/{number}.tif" for number in range(25)))
    listing = listed(tmp_path, images="i", labels="l")
    assert "(25)" in said(listing)
    assert "9.tif and 15 more" in said(listing)


def test_no_pair_at_all_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    make(tmp_path, "i/a.tif", "i/b.tif", "l/c.tif", "l/d.tif")
    for places in ({"images": "i", "labels": "l"}, {"images": "i"}, {"images": "i", "labels": "l/c.tif"}):
        listing = listed(tmp_path, **places)
        assert not listing.items
        assert any(finding.level == "error" and finding.remedy for finding in listing.findings)


def test_nothing_named_is_an_error_and_not_the_current_folder() -> None:
    listing = list_items(DataConfig())
    assert not listing.items
    assert said(listing, "error")


def test_labels_that_are_not_there_are_an_error(tmp_path: Path) -> None:
    make(tmp_path, "i/a.tif", "i/b.tif")
    assert "gone does not exist" in said(listed(tmp_path, images="i", labels="gone"), "error")


def test_a_dicom_series_needs_no_endings(tmp_path: Path) -> None:
    make(tmp_path, "l/p1.tif", "l/p2.tif")
    for name in ("i/p1/IM1", "i/p1/IM2", "i/p2/IM1"):
        make(tmp_path, name)
        (tmp_path / name).write_bytes(bytes(128) + b"DICM")
    assert pairs(listed(tmp_path, images="i", labels="l"), tmp_path) == {"p1": "l/p1.tif", "p2": "l/p2.tif"}


@pytest.mark.parametrize("images", ["empty", "*.tif"])
def test_no_image_at_all_is_an_error(images: str, tmp_path: Path) -> None:
    make(tmp_path, "empty/notes.txt")
    for labelled in (True, False):
        assert said(listed(tmp_path, labelled, images=images, labels=images), "error")


def test_a_coco_file_describes_all_images_of_a_folder(tmp_path: Path) -> None:
    make(tmp_path, "images/a.png", "images/b.png", "images/c.png")
    pictures = [
        {"id": n, "file_name": f"images/{name}.png", "width": 8, "height": 8} for n, name in enumerate("bax")
    ]
    content = {"images": pictures, "annotations": [], "categories": [{"id": 1, "name": "cell"}]}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    for places in ({"images": "images", "labels": "coco.json"}, {"images": "."}):
        listing = listed(tmp_path, **places)
        found = [Path(item.labels).name for item in listing.items]
        assert [item.labels.split("::")[1] for item in listing.items] == ["images/a.png", "images/b.png"], (
            found
        )
        assert "c.png" in said(listing)
        assert "x.png" in said(listing)
    single = listed(tmp_path, images="images/a.png", labels="coco.json")
    assert single.items[0].labels.endswith("coco.json::images/a.png")


def test_a_json_that_is_no_coco_is_an_error(tmp_path: Path) -> None:
    make(tmp_path, "images/a.png", "images/b.png")
    (tmp_path / "coco.json").write_text("[1, 2]")
    assert said(listed(tmp_path, images="images", labels="coco.json"), "error")


def test_sets_keep_their_use_and_names_stay_unique(tmp_path: Path) -> None:
    make(tmp_path, "a/images/1.tif", "a/masks/1.tif", "b/images/1.tif", "b/masks/1.tif")
    sets = [{"images": f"{tmp_path}/b/images", "labels": f"{tmp_path}/b/masks", "use": "validation"}]
    listing = listed(tmp_path, images="a/images", labels="a/masks", sets=sets)
    assert pairs(listing, tmp_path) == {"a/images/1.tif": "a/masks/1.tif", "b/images/1.tif": "b/masks/1.tif"}
    assert [item.use for item in listing.items] == ["split", "validation"]


def test_sets_of_one_file_each_are_named_by_it(tmp_path: Path) -> None:
    sets = [{"images": f"{tmp_path}/p{number}/raw.tif", "labels": "l.tif"} for number in (2, 3)]
    listing = listed(tmp_path, images="p1/raw.tif", labels="l.tif", sets=sets)
    assert [item.name for item in listing.items] == ["p1/raw.tif", "p2/raw.tif", "p3/raw.tif"]


def test_an_image_in_sets_of_different_use_is_an_error(tmp_path: Path) -> None:
    make(tmp_path, "images/1.tif", "masks/1.tif")
    sets = [{"images": f"{tmp_path}/images", "labels": f"{tmp_path}/masks", "use": "test"}]
    listing = listed(tmp_path, images="images", labels="masks", sets=sets)
    assert "1.tif" in said(listing, "error")
    assert len({item.name for item in listing.items}) == 2


def test_masks_are_paired_like_labels(tmp_path: Path) -> None:
    make(tmp_path, "i/a.tif", "i/b.tif", "l/a.tif", "l/b.tif", "m/a_mask.tif", "m/x.tif")
    listing = listed(tmp_path, images="i", labels="l", mask="m")
    assert [Path(item.mask).name if item.mask else "" for item in listing.items] == ["a_mask.tif", ""]
    assert "b.tif" in said(listing)
    assert "x.tif" in said(listing)
    assert said(listed(tmp_path, images="i", labels="l", mask="m/x.tif"), "error")
    assert listed(tmp_path, images="i/a.tif", labels="l/a.tif", mask="m/x.tif").items[0].mask


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "secret/b.tif", "i/a.tif", "l/a.tif", "l/b.tif", "l/folder/c.tif")
    (tmp_path / "i" / "b.tif").symlink_to(tmp_path / "secret" / "b.tif")
    (tmp_path / "i" / "folder").symlink_to(tmp_path / "secret", target_is_directory=True)
    (tmp_path / "i" / "round").symlink_to(tmp_path / "i", target_is_directory=True)
    (tmp_path / "i" / "again.tif").symlink_to(tmp_path / "i" / "a.tif")
    (tmp_path / "i" / "gone.tif").symlink_to(tmp_path / "i" / "nowhere.tif")
    listing = listed(tmp_path, images="i", labels="l")
    assert pairs(listing, tmp_path) == {"a.tif": "l/a.tif"}
    assert "b.tif, folder, gone.tif" in said(listing)


@pytest.mark.skipif(os.name == "nt", reason="no pipes, and all names are text")
def test_pipes_and_names_that_are_no_text_are_no_images(tmp_path: Path) -> None:
    make(tmp_path, "a.tif", "a_mask.tif")
    os.mkfifo(tmp_path / "b.tif")
    os.close(os.open(os.fsencode(str(tmp_path)) + b"/gr\xfcn.tif", os.O_CREAT | os.O_WRONLY))
    listing = listed(tmp_path, images=".")
    assert pairs(listing, tmp_path) == {"a.tif": "a_mask.tif"}
    assert said(listing).isascii()
    assert "gr" in said(listing)


def test_masks_among_the_images_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "i/a.tif", "l/a.tif")
    assert "data.mask" in said(listed(tmp_path, images="i", labels="l", mask="i"), "error")


def test_a_folder_that_may_not_be_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "i/a.tif")

    def refuse(path: object) -> None:
        raise PermissionError(13, "denied", str(path))

    monkeypatch.setattr("segcore.data.found.os.scandir", refuse)
    listing = listed(tmp_path, images="i", labels="i")
    assert "Cannot be read: i." in said(listing)
    assert said(listing, "error")


def test_what_is_no_image_is_left_out_quietly_unless_nobody_knows_it(tmp_path: Path) -> None:
    make(tmp_path, "a.tif", "a_mask.tif", ".hidden.tif", ".git/x.tif", "notes.csv", "b.tiff2", "Thumbs.db")
    listing = listed(tmp_path, images=".")
    assert pairs(listing, tmp_path) == {"a.tif": "a_mask.tif"}
    assert [finding.level for finding in listing.findings] == ["info"]
    assert "b.tiff2" in listing.findings[0].what


def test_images_to_be_segmented_need_no_labels(tmp_path: Path) -> None:
    make(tmp_path, "a.tif", "a_mask.tif", "b.tif", "roi_1.tif", "masks/c.tif")
    listing = listed(tmp_path, False, images=".")
    assert [item.name for item in listing.items] == ["a.tif", "b.tif", "masks/c.tif", "roi_1.tif"]
    assert "a_mask.tif" in said(listing, "info")


def test_a_folder_of_thousands_reports_progress(tmp_path: Path) -> None:
    for folder in ("i", "l"):
        (tmp_path / folder).mkdir()
        for number in range(1500):
            (tmp_path / folder / f"{number}.tif").touch()
    calls: list[int] = []
    data = DataConfig(images=str(tmp_path / "i"), labels=str(tmp_path / "l"))
    listing = list_items(data, progress=calls.append)
    assert [item.name for item in listing.items] == [f"{number}.tif" for number in range(1500)]
    assert calls == [1000, 1500, 1000, 1500]


CHANNELS = ("i/s0_DAPI.tif", "i/s0_GFP.tif", "i/s1_DAPI.tif", "i/s1_GFP.tif")
REMEDY = "data.channel_suffixes to _DAPI,_GFP."


@pytest.mark.parametrize("names", [("l/s0.tif", "l/s1.tif"), ("l/s0_mask.tif", "l/s1_mask.tif")])
def test_files_that_look_like_channels_point_to_the_option(tmp_path: Path, names: tuple[str, ...]) -> None:
    make(tmp_path, *CHANNELS, *names)
    listing = listed(tmp_path, images="i", labels="l")
    (error,) = [finding for finding in listing.findings if finding.level == "error"]
    assert REMEDY in error.remedy
    joined = listed(tmp_path, images="i", labels="l", channel_suffixes=["_DAPI", "_GFP"])
    assert pairs(joined, tmp_path) == dict(zip(("s0", "s1"), names, strict=True))


def test_what_is_segmented_may_look_like_channels_too(tmp_path: Path) -> None:
    make(tmp_path, *CHANNELS)
    (finding,) = listed(tmp_path, labelled=False, images="i").findings
    assert (finding.level, REMEDY in finding.remedy) == ("info", True)
    assert not listed(tmp_path, labelled=False, images="i", channel_suffixes=["_DAPI", "_GFP"]).findings


@pytest.mark.parametrize(
    "names",
    [
        ("i/s0_DAPI.tif", "i/s0_GFP.tif", "i/s1_DAPI.tif"),
        ("i/a_1.tif", "i/a_2.tif", "i/b_1.tif", "i/b_2.tif"),
        ("i/cell_left.tif", "i/cell_right.tif"),
        ("i/DAPI.tif", "i/GFP.tif"),
    ],
)
def test_other_names_are_no_channels(tmp_path: Path, names: tuple[str, ...]) -> None:
    make(tmp_path, *names, "l/other.tif")
    assert not listed(tmp_path, labelled=False, images="i").findings
    findings = listed(tmp_path, images="i", labels="l").findings
    assert not any("channel" in finding.remedy for finding in findings)
