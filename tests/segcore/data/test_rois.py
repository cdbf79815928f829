"""ImageJ ROIs become labels: shapes, slices, classes; damaged and bloated files are refused."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import tifffile
from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi

from segcore.data import rois
from segcore.data.labels import annotated_part, label_table, open_labels, open_mask, value_names
from segcore.data.open import open_source
from segcore.data.source import ImageSource
from segcore.errors import DataError

SIZE = (30, 40)
Image = Callable[..., ImageSource]


@pytest.fixture
def image(tmp_path: Path) -> Image:
    def write(axes: str = "YX", *outer: int) -> ImageSource:
        path = tmp_path / f"{axes}.tif"
        pixels = np.zeros((*outer, *SIZE), np.uint8)
        tifffile.imwrite(path, pixels, ome=True, metadata={"axes": axes}, photometric="minisblack")
        return open_source(path)

    return write


def polygon(top: int, left: int, bottom: int, right: int, **changes: Any) -> ImagejRoi:
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    return changed(ImagejRoi.frompoints(corners), changes)


def changed(roi: ImagejRoi, changes: dict[str, Any]) -> ImagejRoi:
    for name, value in changes.items():
        setattr(roi, name, value)
    return roi


def bounded(kind: ROI_TYPE, top: int, left: int, bottom: int, right: int) -> ImagejRoi:
    return changed(ImagejRoi(), {"roitype": kind, "top": top, "left": left, "bottom": bottom, "right": right})


def save(path: Path, *drawn: ImagejRoi) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for at, roi in enumerate(drawn):
            archive.writestr(f"{at:04}-{at:04}.roi", roi.tobytes())
    return path


def whole(source: Any) -> np.ndarray:
    return source.read((slice(None),) * len(source.axes))


def area(top: int, left: int, bottom: int, right: int) -> np.ndarray:
    pixels = np.zeros(SIZE, bool)
    pixels[top:bottom, left:right] = True
    return pixels


@pytest.mark.parametrize("roi", [polygon(5, 6, 15, 26), bounded(ROI_TYPE.RECT, 5, 6, 15, 26)])
def test_a_roi_covers_its_pixels(image: Image, tmp_path: Path, roi: ImagejRoi) -> None:
    path = tmp_path / "one.roi"
    path.write_bytes(roi.tobytes())
    assert np.array_equal(whole(open_labels(path, image())), area(5, 6, 15, 26))


def test_a_freehand_roi_with_fractions_covers_the_centres_within(image: Image, tmp_path: Path) -> None:
    ring = np.array([[6.4, 5.4], [20.6, 5.4], [20.6, 12.6], [6.4, 12.6]], np.float32)
    roi = changed(ImagejRoi.frompoints(ring), {"roitype": ROI_TYPE.FREEHAND})
    labels = open_labels(save(tmp_path / "set.zip", roi), image())
    assert np.array_equal(whole(labels), area(5, 6, 13, 21))


def test_an_oval_has_the_area_of_an_ellipse(image: Image, tmp_path: Path) -> None:
    oval = bounded(ROI_TYPE.OVAL, 2, 4, 26, 36)
    pixels = whole(open_labels(save(tmp_path / "set.zip", oval), image()))
    assert abs(pixels.sum() - np.pi * 12 * 16) < 15
    assert np.array_equal(pixels, pixels[::1, ::-1])
    assert pixels[2:26, 4:36].sum() == pixels.sum()


def test_a_composite_keeps_its_hole(image: Image, tmp_path: Path) -> None:
    outer, hole = [(4, 2), (30, 2), (30, 22), (4, 22)], [(10, 8), (20, 8), (20, 16), (10, 16)]
    path = [part for ring in (outer, hole) for part in ring_path(ring)]
    roi = changed(
        bounded(ROI_TYPE.RECT, 2, 4, 22, 30),
        {"multi_coordinates": np.array(path, ">f4"), "shape_roi_size": len(path),
         "options": ROI_OPTIONS(0)},
    )  # fmt: skip
    labels = whole(open_labels(save(tmp_path / "set.zip", roi), image()))
    assert np.array_equal(labels, area(2, 4, 22, 30) & ~area(8, 10, 16, 20))


def ring_path(ring: list[tuple[int, int]]) -> list[float]:
    first, *others = ring
    return [0, *first, *(number for corner in others for number in (1, *corner)), 4]


def test_rois_lie_in_their_slices_and_the_others_are_not_annotated(image: Image, tmp_path: Path) -> None:
    path = save(tmp_path / "set.zip", polygon(1, 1, 9, 9, position=2), polygon(3, 3, 12, 12, position=4))
    labels = open_labels(path, image("ZYX", 5), "foreground")
    expected = np.zeros((5, *SIZE), bool)
    expected[1], expected[3] = area(1, 1, 9, 9), area(3, 3, 12, 12)
    assert np.array_equal(whole(labels), expected)
    mask = annotated_part(labels)
    assert mask is not None
    assert whole(mask).any((1, 2)).tolist() == [False, True, False, True, False]
    assert np.array_equal(whole(open_mask(path, image("ZYX", 5))), expected)


def test_rois_without_a_slice_lie_in_all(image: Image, tmp_path: Path) -> None:
    labels = open_labels(save(tmp_path / "set.zip", polygon(1, 1, 9, 9)), image("ZYX", 3))
    assert np.array_equal(whole(labels), np.stack([area(1, 1, 9, 9)] * 3))
    assert annotated_part(labels) is None
    assert "every one" in " ".join(labels.notes)


def test_positions_in_a_hyperstack_count_channels_first(image: Image, tmp_path: Path) -> None:
    stack = image("TZCYX", 2, 3, 2)
    plain = save(tmp_path / "plain.zip", polygon(1, 1, 9, 9, position=2 * 3 + 2 * 1 + 2))
    named = save(tmp_path / "named.zip", polygon(1, 1, 9, 9, t_position=2, z_position=2))
    expected = np.zeros((2, 3, *SIZE), bool)
    expected[1, 1] = area(1, 1, 9, 9)
    for path in (plain, named):
        assert np.array_equal(whole(open_labels(path, stack)), expected)
    every_frame = save(tmp_path / "frames.zip", polygon(1, 1, 9, 9, z_position=3))
    assert whole(open_labels(every_frame, stack)).any((2, 3)).tolist() == [[False, False, True]] * 2


def test_a_slice_that_is_not_there_is_told(image: Image, tmp_path: Path) -> None:
    path = save(tmp_path / "set.zip", polygon(1, 1, 9, 9, position=6, name="far"))
    with pytest.raises(DataError, match=r"far lie in slices that ZYX\.tif"):
        open_labels(path, image("ZYX", 5))


def test_groups_tell_the_classes(image: Image, tmp_path: Path) -> None:
    path = save(tmp_path / "set.zip", polygon(0, 0, 9, 9, group=3), polygon(9, 9, 20, 20, group=1))
    labels = open_labels(path, image())
    assert np.array_equal(whole(labels), area(0, 0, 9, 9) * 3 + area(9, 9, 20, 20))
    assert np.array_equal(whole(open_labels(path, image(), "foreground")), whole(labels) > 0)
    alike = save(tmp_path / "alike.zip", polygon(0, 0, 9, 9, group=3), polygon(9, 9, 20, 20, group=3))
    objects = whole(open_labels(alike, image(), "objects"))
    assert np.array_equal(objects, area(0, 0, 9, 9) + area(9, 9, 20, 20) * 2)
    mixed = save(tmp_path / "mixed.zip", polygon(0, 0, 9, 9, group=3), polygon(9, 9, 20, 20))
    with pytest.raises(DataError, match="1 of 2 ROIs have no group"):
        open_labels(mixed, image())


def test_names_tell_the_classes_the_same_in_all_files(image: Image, tmp_path: Path) -> None:
    one = save(
        tmp_path / "one.zip", polygon(0, 0, 9, 9, name="nucleus-1"), polygon(9, 9, 20, 20, name="nucleus-2")
    )
    two = save(tmp_path / "two.zip", polygon(0, 0, 9, 9, name="Membrane"))
    assert np.unique(whole(open_labels(one, image()))).tolist() == [0, 1]
    table = label_table([one, two])
    labels = open_labels(one, image(), table=table)
    assert value_names(labels) == {1: "Membrane", 2: "nucleus"}
    assert np.unique(whole(labels)).tolist() == [0, 2]
    assert np.unique(whole(open_labels(two, image(), table=table))).tolist() == [0, 1]


def test_rois_without_classes_are_objects_with_numbers(image: Image, tmp_path: Path) -> None:
    for names in (("", ""), (str(UUID(int=1)), str(UUID(int=2))), ("0001-0002", "0003-0004")):
        drawn = [polygon(at, at, at + 9, at + 9, name=name) for at, name in zip((0, 12), names, strict=True)]
        path = save(tmp_path / "set.zip", *drawn)
        assert np.unique(whole(open_labels(path, image()))).tolist() == [0, 1, 2]
        assert label_table([path]).names is None


def test_points_are_left_out_and_told(image: Image, tmp_path: Path) -> None:
    point = changed(ImagejRoi.frompoints(np.array([[3, 3]])), {"roitype": ROI_TYPE.POINT})
    labels = open_labels(save(tmp_path / "set.zip", point, polygon(0, 0, 9, 9)), image())
    assert np.array_equal(whole(labels), area(0, 0, 9, 9))
    assert "1 ROIs are points" in labels.notes[0]


def test_rois_need_their_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no size of their own"):
        open_labels(save(tmp_path / "set.zip", polygon(0, 0, 9, 9)))


def test_a_bloated_set_is_refused(image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("big.roi", b"Iout" + bytes(rois.MOST_BYTES))
    assert path.stat().st_size < 100_000
    with pytest.raises(DataError, match="more than 16 MB"):
        open_labels(path, image())
    small = save(tmp_path / "set.zip", *[polygon(0, 0, 9, 9)] * 5)
    monkeypatch.setattr(rois, "MOST_BYTES_TOGETHER", 500)
    with pytest.raises(DataError, match="unpack"):
        open_labels(small, image())
    monkeypatch.setattr(rois, "MOST_ROIS", 4)
    with pytest.raises(DataError, match="5 ROIs"):
        open_labels(small, image())


def test_damaged_files_are_refused(image: Image, tmp_path: Path) -> None:
    good = polygon(0, 0, 9, 9).tobytes()
    composite = changed(
        bounded(ROI_TYPE.RECT, 0, 0, 9, 9),
        {"multi_coordinates": np.array([1, 2, 9], ">f4"), "shape_roi_size": 3},
    ).tobytes()
    for at, content in enumerate((b"", b"Iout", good[:66], b"x" * 200, composite)):
        path = tmp_path / f"{at}.roi"
        path.write_bytes(content)
        with pytest.raises(DataError):
            open_labels(path, image())
    for at, content in enumerate((b"PK\x03\x04", good, empty_zip())):
        path = tmp_path / f"{at}.zip"
        path.write_bytes(content)
        with pytest.raises(DataError):
            open_labels(path, image())


def empty_zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("readme.txt", "no ROI")
    return stream.getvalue()
