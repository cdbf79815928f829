"""Checking data: every way in which data can be bad is told, with its remedy, and nothing raises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from segcore.config import DataConfig, RunConfig, TrainingConfig
from segcore.data.for_training import check_run, with_training
from segcore.data.report import Report
from segcore.data.validate import check_data

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_stack(name: str, pixels: np.ndarray, axes: str | None = None) -> Path:
        path = tmp_path / f"{name}.tif"
        axes = axes or ("ZYX" if pixels.ndim == 3 else "YX")
        tifffile.imwrite(path, pixels, photometric="minisblack", metadata={"axes": axes}, compression="zlib")
        return path

    return write_stack


def grey(*shape: int, dtype: str = "uint16") -> np.ndarray:
    return np.random.default_rng(1).integers(0, 3000, shape).astype(dtype)


def classes(*shape: int, values: tuple[int, ...] = (0, 1), dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(2).choice(values, shape).astype(dtype)


def check(images: Path, labels: Path | None, **options: Any) -> Report:
    given = {"images": str(images), "labels": str(labels) if labels else None}
    return check_data(DataConfig(**{"patch_size": 32, **given, **options}))


def told(report: Report, level: str) -> list[str]:
    assert all(finding.what and finding.where for finding in report.findings)
    assert all(finding.remedy for finding in report.findings if finding.level != "info")
    return [f"{finding.what} {finding.remedy}" for finding in report.findings if finding.level == level]


def only(report: Report, level: str, *words: str) -> None:
    """Assert that there is one finding of `level`, that it says `words`, and that only errors block."""
    found = told(report, level)
    assert len(found) == 1, found
    for word in words:
        assert word in found[0]
    assert report.ok == (level != "error")


def test_good_data_has_no_findings_and_tells_what_it_is(write: Write) -> None:
    labels = classes(5, 40, 48)
    report = check(write("raw", grey(5, 40, 48)), write("labels", labels), class_names=["back", "cell"])
    assert report.findings == ()
    assert report.ok
    assert report.images is not None
    assert report.images.text == "5 × 40 × 48, ZYX, uint16"
    assert [(found.value, found.name, found.pixels) for found in report.classes] == [
        (0, "back", int((labels == 0).sum())),
        (1, "cell", int((labels == 1).sum())),
    ]
    assert sum(found.share for found in report.classes) == pytest.approx(1)


def test_a_report_survives_json(write: Write) -> None:
    report = check(write("raw", grey(3, 40, 48)), write("labels", classes(4, 40, 48)))
    assert Report.model_validate_json(report.model_dump_json()) == report
    assert '"ok":false' in report.model_dump_json()


def test_progress_counts_every_plane_of_both_files(write: Write) -> None:
    seen: list[tuple[int, int]] = []
    images, labels = write("raw", grey(3, 40, 48)), write("labels", classes(3, 40, 48))
    check_data(
        DataConfig(images=str(images), labels=str(labels), patch_size=32),
        lambda done, total: seen.append((done, total)),
    )
    assert seen == [(number, 6) for number in range(1, 7)]


def test_unreadable_files_are_both_reported(tmp_path: Path) -> None:
    (tmp_path / "raw.tif").write_text("these are no pixels")
    report = check(tmp_path / "raw.tif", tmp_path / "labels.tif")
    assert len(told(report, "error")) == 2
    assert "text file" in told(report, "error")[0]
    assert "does not exist" in told(report, "error")[1]
    assert (report.images, report.labels, report.classes) == (None, None, ())


def test_pixels_that_cannot_be_decoded_are_reported(write: Write) -> None:
    path = write("raw", grey(3, 40, 48))
    with tifffile.TiffFile(path) as tif:
        start, count = tif.pages[1].dataoffsets[0], tif.pages[1].databytecounts[0]
    content = bytearray(path.read_bytes())
    content[start : start + count] = bytes(count)
    path.write_bytes(bytes(content))
    only(check(path, write("labels", classes(3, 40, 48))), "error", "cannot be read")


@pytest.mark.parametrize(
    ("images", "image_axes", "labels", "remedy"),
    [
        ((5, 40, 48), "ZYX", (4, 40, 48), "one label slice per image slice: 5, not 4"),
        ((5, 40, 48), "ZYX", (5, 48, 40), "transpose"),
        ((5, 40, 48), "ZYX", (40, 48), "give the axes CYX"),
        ((5, 2, 40, 48), "CZYX", (5, 40, 48), "give the axes ZCYX"),
        ((5, 40, 48), "ZYX", (7, 64, 64), "drawn on these images"),
    ],
)
def test_shapes_that_differ_are_named_with_what_explains_them(
    write: Write, images: tuple[int, ...], image_axes: str, labels: tuple[int, ...], remedy: str
) -> None:
    report = check(write("raw", grey(*images), image_axes), write("labels", classes(*labels)))
    (error,) = [text for text in told(report, "error") if "differ in shape" in text]
    for shape in (images, labels):
        assert " × ".join(map(str, shape)) in error
    assert remedy in error


def test_fractions_are_no_labels(write: Write) -> None:
    labels = classes(5, 40, 48, dtype="float32")
    labels[3, 2, 1] = 0.5
    only(check(write("raw", grey(5, 40, 48)), write("labels", labels)), "error", "whole numbers", "float32")


def test_whole_floats_are_labels_with_a_warning(write: Write) -> None:
    report = check(write("raw", grey(5, 40, 48)), write("labels", classes(5, 40, 48, dtype="float32")))
    only(report, "warning", "float32", "8-bit")
    assert [found.value for found in report.classes] == [0, 1]


@pytest.mark.parametrize(("value", "words"), [(0, "empty"), (3, "all one class")])
def test_labels_of_one_value_are_an_error(write: Write, value: int, words: str) -> None:
    report = check(write("raw", grey(5, 40, 48)), write("labels", classes(5, 40, 48, values=(value,))))
    assert words in told(report, "error")[0]


def test_label_values_with_gaps_are_explained(write: Write) -> None:
    report = check(write("raw", grey(5, 40, 48)), write("labels", classes(5, 40, 48, values=(0, 255))))
    only(report, "info", "0, 255 are read as classes 0, 1")


@pytest.mark.parametrize(("objects", "level"), [(30, "warning"), (300, "error")])
def test_numbered_objects_suggest_foreground(write: Write, objects: int, level: str) -> None:
    labels = classes(5, 40, 48, values=tuple(range(objects)), dtype="uint16")
    paths = write("raw", grey(5, 40, 48)), write("labels", labels)
    only(check(*paths), level, str(objects), "data.labels_as")
    report = check(*paths, labels_as="foreground")
    assert report.findings == ()
    assert [found.value for found in report.classes] == [0, 1]


def test_grey_values_as_labels_stop_early_and_look_swapped(write: Write) -> None:
    images = write("raw", np.arange(6 * 64 * 64).reshape(6, 64, 64).astype(np.int32))
    report = check(write("labels", classes(6, 64, 64)), images)
    assert "more than" in told(report, "error")[0]
    assert "Swap" in told(report, "warning")[0]


def test_nan_is_told_with_its_slices(write: Write) -> None:
    images = grey(5, 40, 48, dtype="float32")
    images[1, 0, 0], images[4, 1, 1] = np.nan, np.inf
    report = check(write("raw", images), write("labels", classes(5, 40, 48)))
    only(report, "warning", "2 of 5 slices", "NaN")
    assert report.findings[0].where == "raw.tif, slices 1, 4"


def test_an_image_without_a_finite_value_is_an_error(write: Write) -> None:
    only(check(write("raw", np.full((2, 40, 40), np.nan, np.float32)), None), "error", "no finite value")


def test_constant_slices_and_channels_are_told(write: Write) -> None:
    images = grey(5, 2, 40, 48)
    images[2] = 7
    images[:, 1] = 9
    report = check(write("raw", images, "ZCYX"), write("labels", classes(5, 40, 48)))
    warnings = told(report, "warning")
    assert any("1 of 5 slices are constant" in text for text in warnings)
    assert any("Channel 1 is constant" in text for text in warnings)
    only(check(write("flat", np.full((2, 40, 40), 3, np.uint8)), None), "error", "image is constant")


@pytest.mark.parametrize(
    ("shape", "remedy"), [((3, 60, 100), "at most 48"), ((3, 20, 100), "too small"), ((3, 60, 3), "YXC")]
)
def test_a_patch_that_does_not_fit_names_one_that_does(
    write: Write, shape: tuple[int, ...], remedy: str
) -> None:
    report = check(write("raw", grey(*shape)), write("labels", classes(*shape)), patch_size=64)
    only(report, "error", "smaller than a patch (64 × 64 px)", remedy)


def test_without_labels_the_patch_size_does_not_matter(write: Write) -> None:
    assert check(write("raw", grey(3, 20, 20)), None, patch_size=64).findings == ()


def test_validation_slices_that_do_not_exist_are_an_error(write: Write) -> None:
    paths = write("raw", grey(5, 40, 48)), write("labels", classes(5, 40, 48))
    only(check(*paths, validation_slices="4-6"), "error", "5, 6", "0 to 4")


def test_a_class_that_cannot_be_learnt_or_measured_is_told(write: Write) -> None:
    labels = classes(5, 40, 48)
    labels[4, :9, :9] = 2
    paths = write("raw", grey(5, 40, 48)), write("labels", labels)
    only(check(*paths, validation_slices="4"), "warning", "value 2 occurs in no training slice")
    only(check(*paths, validation_slices="0"), "warning", "value 2 occurs in no validation slice")


def test_slices_nobody_annotated_are_told(write: Write) -> None:
    labels = classes(5, 40, 48)
    labels[[1, 3]] = 0
    report = check(write("raw", grey(5, 40, 48)), write("labels", labels))
    only(report, "info", "2 of 5 label slices")
    assert report.findings[0].where == "labels.tif, slices 1, 3"


def test_class_names_must_be_as_many_as_classes(write: Write) -> None:
    paths = write("raw", grey(5, 40, 48)), write("labels", classes(5, 40, 48))
    only(check(*paths, class_names=["a", "b", "c"]), "error", "3 names", "2 values: 0, 1")


def test_the_same_file_twice_and_labels_of_two_channels_are_errors(write: Write) -> None:
    path = write("labels", classes(5, 40, 48))
    assert any("same file" in text for text in told(check(path, path), "error"))
    pair = write("pair", classes(5, 2, 40, 48), "ZCYX")
    assert any("2 channels" in text for text in told(check(write("raw", grey(5, 40, 48)), pair), "error"))


def test_what_was_assumed_about_axes_is_told(tmp_path: Path, write: Write) -> None:
    path = tmp_path / "raw.tif"
    tifffile.imwrite(path, grey(5, 40, 48), photometric="minisblack", metadata=None)
    only(check(path, write("labels", classes(5, 40, 48))), "info", "axis of 5", "Z (a stack of slices)")


def test_of_very_many_images_some_are_looked_at_and_bad_files_are_named_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("segcore.data.validate.MOST_IMAGES", 3)
    for number in range(8):
        for folder, pixels in (("images", grey(40, 40)), ("labels", classes(40, 40))):
            (tmp_path / folder).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / folder / f"{number}.tif", pixels)
    report = check(tmp_path / "images", tmp_path / "labels")
    assert report.ok
    assert any("3 of 8 slices" in text for text in told(report, "info"))
    report = check(
        tmp_path / "images", tmp_path / "labels", annotated_slices="1,2"
    )  # 0, 4 and 7 are looked at
    assert report.ok
    assert sum(found.pixels for found in report.classes) == 2 * 40 * 40
    (tmp_path / "labels" / "1.tif").write_text("no image")
    tifffile.imwrite(tmp_path / "labels" / "6.tif", classes(40, 44))
    assert {error.where for error in check(tmp_path / "images", tmp_path / "labels").errors} == {
        "1.tif",
        "6.tif, 6.tif",
    }


@pytest.mark.parametrize("mode", ["2.5d", "3d"])
def test_a_single_slice_has_no_neighbours(write: Write, mode: str) -> None:
    report = check(write("i", grey(128, 48)), write("l", classes(128, 48)), mode=mode)
    only(report, "warning", mode, "single slice", "2d")


def test_every_channel_has_one_name(write: Write) -> None:
    paths = write("i", grey(128, 48)), write("l", classes(128, 48))
    only(check(*paths, channel_names=["DAPI", "GFP"]), "error", "2 names", "1 channel.")
    assert check(*paths, channel_names=["DAPI"]).ok


def by_hand(images: Path, labels: Path, *weights: float) -> Report:
    data = DataConfig(images=str(images), labels=str(labels), patch_size=32)
    training = TrainingConfig(class_weights="by-hand", class_weight_values=list(weights))
    return check_run(RunConfig(data=data, training=training))


def test_weights_by_hand_must_fit_the_classes_before_anything_begins(write: Write) -> None:
    paths = write("i", grey(5, 40, 48)), write("l", classes(5, 40, 48, values=(0, 3, 7)))
    assert by_hand(*paths, 1, 2, 0.5).findings == check(*paths).findings
    for weights in [(1, 2), (1, 2, 3, 4), ()]:
        report = by_hand(*paths, *weights)
        assert not report.ok
        assert f"class_weight_values has {len(weights)} weights" in report.errors[0].what
        assert "0, 3, 7" in report.errors[0].what
        assert report.errors[0].where == "l.tif"
    assert "must not be negative" in by_hand(*paths, 1, 2, -1).errors[0].what


def test_classes_nobody_looked_at_may_have_weights_too(write: Write) -> None:
    report = check(write("i", grey(5, 40, 48)), write("l", classes(5, 40, 48))).model_copy(
        update={"complete": False}
    )
    training = TrainingConfig(class_weights="by-hand", class_weight_values=[1, 2, 3])
    assert with_training(report, training) == report
    one = training.model_copy(update={"class_weight_values": [1.0]})
    assert not with_training(report, one).ok


def test_a_value_for_unannotated_pixels_that_is_nowhere_is_remarked(write: Write) -> None:
    images = write("i", grey(5, 40, 48))
    labels = write("l", classes(5, 40, 48, values=(0, 1, 2)))
    report = check(images, labels, unlabelled_value=9)
    assert report.ok
    (warning,) = told(report, "warning")
    assert "value 9" in warning
    assert "0, 1, 2" in warning
    assert not told(check(images, labels, unlabelled_value=2), "warning")


def test_axes_that_the_labels_overrule_are_named(write: Write) -> None:
    images, labels = write("i", grey(5, 40, 48)), write("l", classes(5, 40, 48))
    report = check(images, labels, axes="cyx")
    only(report, "warning", "data.axes says CYX", "read as ZYX")
    assert not told(check(images, labels, axes="ZYX"), "warning")


def test_labels_without_frames_are_taken_frame_by_frame(write: Write) -> None:
    labels = write("l", classes(6, 40, 48))
    only(check(write("i", grey(3, 2, 40, 48), "ZTYX"), labels), "warning", "frame by frame", "TZYX too")
    assert not told(check(write("j", grey(2, 3, 40, 48), "TZYX"), labels), "warning")
