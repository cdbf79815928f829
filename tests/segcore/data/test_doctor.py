"""The data doctor recognises files, slices and channels that do not fit, and counts what is there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from doctored import (
    SIZE,
    blobs,
    cured,
    diagnosis,
    found,
    kinds,
    read_labels,
    write_folders,
    write_stack,
)
from scipy import ndimage

from segcore.config import DataConfig
from segcore.data.collection import open_collection
from segcore.data.doctor import Proposal, accept, examine
from segcore.data.doctor.survey import evenly
from segcore.data.report import Finding

IMAGES, LABELS = blobs(6)


@pytest.mark.parametrize("folders", [False, True])
def test_swapped_files_are_exchanged(tmp_path: Path, folders: bool) -> None:
    write = write_folders if folders else write_stack
    data = write(tmp_path, LABELS, IMAGES)
    assert np.array_equal(read_labels(cured(data, "swapped")), LABELS)


def test_transposed_labels_of_oblong_images_fit_again(tmp_path: Path) -> None:
    images, labels = IMAGES[:, :128], LABELS[:, :128]
    data = write_stack(tmp_path, images, labels.transpose(0, 2, 1))
    assert np.array_equal(read_labels(cured(data, "transposed")), labels)


def test_inverted_images_are_found_and_only_they(tmp_path: Path) -> None:
    harmed = [255 - plane if number in (1, 4) else plane for number, plane in enumerate(IMAGES)]
    data = write_folders(tmp_path, [*harmed, *IMAGES[:1] // 2], [*LABELS, *LABELS[:1]])
    proposal = found(data, "inverted")
    assert proposal.recipe == ("[p01.tif] images.invert", "[p04.tif] images.invert")
    cured(data, "inverted")


def test_copies_are_left_out_and_both_are_named(tmp_path: Path) -> None:
    images, labels = IMAGES.copy(), LABELS.copy()
    images[5], labels[5] = images[0], labels[0]
    data = write_stack(tmp_path, images, labels, validation_slices="5")
    proposal = found(data, "duplicates")
    assert proposal.recipe == ("slices.drop 5",)
    assert "slice 0" in proposal.finding.what
    assert "slice 5" in proposal.finding.what
    assert "both sides" in proposal.finding.what


def test_a_copy_of_other_brightness_is_a_copy(tmp_path: Path) -> None:
    images, labels = IMAGES.copy(), LABELS.copy()
    images[4] = images[0] * 0.6 + 20
    labels[4] = labels[0]
    assert found(write_stack(tmp_path, images, labels), "duplicates").recipe == ("slices.drop 4",)


def test_neighbours_that_look_alike_call_for_blocks(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    volume = ndimage.gaussian_filter(random.normal(size=(20, SIZE, SIZE)), (6, 4, 4))
    labels = (volume > 0).astype(np.uint8)
    images = (volume / np.abs(volume).max() * 100 + 128).astype(np.uint8)
    data = write_stack(tmp_path, images, labels)
    proposal = found(data, "leakage")
    assert proposal.options == {"split_by": "blocks"}
    cured(data, "leakage")


def test_constant_and_overexposed_slices_are_left_out_together(tmp_path: Path) -> None:
    images = IMAGES.copy()
    images[2] = 17
    images[4] = np.where(LABELS[4] > 0, 250, images[4])
    data = write_stack(tmp_path, images, LABELS)
    proposals = [found(data, "constant"), found(data, "saturated")]
    after = accept(data, proposals)
    assert after.recipe == ["slices.drop 2,4"]
    assert open_collection(after).count == 4
    assert kinds(after) == []


def test_a_white_background_is_not_overexposed(tmp_path: Path) -> None:
    images = IMAGES.copy()
    images[LABELS == 2] = 255
    assert "saturated" not in kinds(write_stack(tmp_path, images, LABELS))


def test_images_of_different_types_get_one(tmp_path: Path) -> None:
    planes = [plane.astype(np.uint16) * 200 if number % 2 else plane for number, plane in enumerate(IMAGES)]
    data = write_folders(tmp_path, planes, LABELS)
    after = cured(data, "depths")
    assert open_collection(after).dtype == np.uint16


def test_exposures_that_differ_are_normalised_per_image(tmp_path: Path) -> None:
    planes = [plane.astype(np.uint16) * (100 if number % 2 else 1) for number, plane in enumerate(IMAGES)]
    data = write_folders(tmp_path, planes, LABELS)
    assert cured(data, "exposures").normalize_per == "image"


def test_empty_and_repeated_channels_are_left_out(tmp_path: Path) -> None:
    other = IMAGES[::-1]
    images = np.stack([IMAGES, np.zeros_like(IMAGES), other, IMAGES], 1)
    data = write_stack(tmp_path, images, LABELS)
    assert found(data, "channels").options == {"channels": "0,2"}
    assert open_collection(cured(data, "channels")).channels == 2


def test_the_table_counts_annotated_pixels_and_suggests_weights(tmp_path: Path) -> None:
    data = write_folders(tmp_path, IMAGES, LABELS, unlabelled_value=2)
    result = diagnosis(data)
    for row, plane in zip(result.rows, LABELS, strict=True):
        assert row.pixels == {0: int((plane == 0).sum()), 1: int((plane == 1).sum())}
        assert (row.slices, row.of) == (1, 1)
    weights = result.weights["inverse"]
    counts = {value: int((value == LABELS).sum()) for value in (0, 1)}
    assert weights[0] * counts[0] == pytest.approx(weights[1] * counts[1])


def test_histograms_show_every_normalisation(tmp_path: Path) -> None:
    planes = [plane // (1 + number % 3) for number, plane in enumerate(IMAGES)]
    result = diagnosis(write_folders(tmp_path, planes, LABELS))
    assert {(each.kind, each.per) for each in result.normalized} == {
        ("percentile", "set"), ("percentile", "image"), ("z-score", "set"), ("z-score", "image"),
        ("min-max", "set"), ("min-max", "image"), ("none", "set"),
    }  # fmt: skip
    counted = sum(result.raw[0].counts)
    assert all(sum(each.histogram.counts) == counted for each in result.normalized)


def test_no_file_is_touched_and_pictures_show_both_sides(tmp_path: Path) -> None:
    images = IMAGES.copy()
    images[2] = 17
    data = write_stack(tmp_path, images, np.roll(LABELS, (0, 9, -7), (0, 1, 2)))
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in tmp_path.iterdir()}
    pictures = [proposal.picture() for proposal in diagnosis(data).proposals if proposal.picture]
    assert len(pictures) == 2
    for picture in pictures:
        assert picture.before.dtype == np.uint8
        assert picture.before.shape[2] == 3
        assert not np.array_equal(picture.before, picture.after)
    assert before == {path: hashlib.sha256(path.read_bytes()).digest() for path in tmp_path.iterdir()}


def test_a_file_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    data = write_folders(tmp_path, IMAGES, LABELS)
    (tmp_path / "images" / "p03.tif").write_bytes(b"II*\0 cut off")
    result = diagnosis(data)
    assert len(result.rows) == 5
    assert any("p03.tif" in note for note in result.notes)


def test_repairs_are_written_in_the_order_in_which_they_are_made() -> None:
    def proposal(kind: str, *recipe: str) -> Proposal:
        return Proposal(kind, Finding(level="info", what="", where=""), recipe)  # type: ignore[arg-type]

    data = DataConfig(recipe=["images.invert"])
    chosen = [
        proposal("saturated", "slices.drop 3"), proposal("shifted", "labels.shift 1 2"),
        proposal("constant", "slices.drop 1,4-5", "[b] slices.drop 0"),
        proposal("colours", "labels.colours ff0000=1"), proposal("swapped", "pair.swap"),
    ]  # fmt: skip
    assert accept(data, chosen).recipe == [
        "images.invert", "pair.swap", "labels.colours ff0000=1", "labels.shift 1 2",
        "slices.drop 1,3-5", "[b] slices.drop 0",
    ]  # fmt: skip
    assert data.recipe == ["images.invert"]


@pytest.mark.parametrize(("count", "most"), [(0, 5), (1, 5), (7, 6), (1000, 400), (401, 400), (10**9, 33)])
def test_slices_are_chosen_evenly_within_the_bound(count: int, most: int) -> None:
    for pairs in (False, True):
        chosen = evenly(count, most, pairs)
        assert len(chosen) <= most
        assert chosen == sorted(set(chosen))
        assert all(0 <= at < count for at in chosen)
        if count > most:
            assert chosen[0] == 0
            assert chosen[-1] == count - 1


def test_a_large_set_is_looked_at_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segcore.data.doctor.survey.SLICES", 8)
    tifffile.imwrite(tmp_path / "raw.tif", np.tile(IMAGES, (10, 1, 1))[:, :64, :64], metadata={"axes": "ZYX"})
    tifffile.imwrite(
        tmp_path / "labels.tif", np.tile(LABELS, (10, 1, 1))[:, :64, :64], metadata={"axes": "ZYX"}
    )
    data = DataConfig(images=str(tmp_path / "raw.tif"), labels=str(tmp_path / "labels.tif"))
    steps: list[tuple[int, int]] = []
    result = examine(open_collection(data), data, lambda done, total: steps.append((done, total)))
    assert steps == [(at + 1, 8) for at in range(8)]
    assert len(result.rows) == 8
    assert "8 of 60 slices" in result.notes[0]


def test_slices_that_options_name_stay_the_same_when_others_are_left_out(tmp_path: Path) -> None:
    images = IMAGES.copy()
    images[2] = 17
    data = write_stack(tmp_path, images, LABELS, validation_slices="0,4-5", annotated_slices="0-2,4-5")
    after = cured(data, "constant")
    assert (after.validation_slices, after.annotated_slices) == ("0,3-4", "0-1,3-4")
    before, collection = open_collection(data), open_collection(after)
    for old, new in ((0, 0), (4, 3), (5, 4)):
        assert np.array_equal(before.read(old), collection.read(new))


ODD = {
    "infinite": (np.where(IMAGES > 100, np.inf, IMAGES).astype(np.float32), LABELS),
    "nothing but NaN": (np.full(IMAGES.shape, np.nan, np.float32), LABELS),
    "large": ((IMAGES * 1e36).astype(np.float32), LABELS),
    "64 bit": (IMAGES.astype(np.uint64) * 2**56, LABELS.astype(np.int64)),
    "binary": (IMAGES > 100, LABELS > 0),
    "half precision": (IMAGES.astype(np.float16), LABELS),
    "negative labels": (IMAGES, LABELS.astype(np.int16) - 1),
    "infinite labels": (IMAGES, np.where(LABELS == 0, np.inf, LABELS).astype(np.float32)),
    "noise as labels": (IMAGES, np.random.default_rng(0).integers(0, 65535, IMAGES.shape).astype(np.uint16)),
    "a pixel": (IMAGES[:1, :1, :1], LABELS[:1, :1, :1]),
    "a few pixels": (IMAGES[:, :3, :4], LABELS[:, :3, :4]),
    "nothing": (IMAGES * 0, LABELS * 0),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_data_stops_nothing(tmp_path: Path, kind: str) -> None:
    images, labels = (pixels[..., :64, :64] for pixels in ODD[kind])
    np.save(tmp_path / "raw.npy", images)
    np.save(tmp_path / "labels.npy", labels)
    data = DataConfig(images=str(tmp_path / "raw.npy"), labels=str(tmp_path / "labels.npy"))
    result = diagnosis(data)
    assert len(result.rows) == len(images)
    for proposal in result.proposals:
        accept(data, [proposal])
        if proposal.picture:
            proposal.picture()
