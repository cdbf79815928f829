"""Stacks: what the viewer draws is what the files hold, of any size, and only inside the workspace."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from tabs_workspace import make_result, make_run, make_services, write_labels, write_stack

from app import stacks
from app.services import Services
from app.stacks import StackReader, View
from segcore.data import thinning
from segcore.errors import DataError

IMAGE, LABELS = "data/images.tif", "data/labels.tif"


@pytest.fixture
def services(tmp_path: Path) -> Services:
    services = make_services(tmp_path)
    write_stack(services)
    write_labels(services)
    return services


@pytest.fixture
def reader(services: Services) -> StackReader:
    return StackReader(services)


def pixels(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_label_values_are_those_of_the_whole_file(reader: StackReader) -> None:
    # The first plane lacks 0; its colours must be those of the other planes all the same.
    assert reader.label_values(LABELS) == (0, 7, 255)


def test_an_image_is_no_label_file(services: Services, reader: StackReader) -> None:
    tifffile.imwrite(services.workspace.data / "float.tif", np.zeros((8, 8), np.float32))
    with pytest.raises(DataError, match="not a label image"):
        reader.label_values("data/float.tif")


def test_every_plane_can_be_seen_and_hidden_classes_are_not_painted(reader: StackReader) -> None:
    drawn = [pixels(reader.draw(View(IMAGE, index=index))["src"]) for index in range(3)]
    assert not np.array_equal(drawn[0], drawn[1])
    painted = pixels(reader.draw(View(IMAGE, LABELS, 1, opacity=1.0))["src"])
    assert len(np.unique(painted.reshape(-1, 3), axis=0)) == 3
    bare = pixels(reader.draw(View(IMAGE, LABELS, 1, opacity=1.0, hidden=(0, 7, 255)))["src"])
    assert np.array_equal(bare, drawn[1])


def test_a_plane_beyond_the_end_is_the_last(reader: StackReader) -> None:
    last = reader.draw(View(IMAGE, index=2))
    assert reader.draw(View(IMAGE, index=99))["src"] == last["src"]


def test_a_detail_of_a_huge_plane_is_cut_from_the_file(
    reader: StackReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = View(IMAGE, LABELS, 1)
    whole = reader.draw(view)
    assert whole["step"] == 1
    window = pixels(reader.detail(view, whole["limits"], [5, 30, 10, 45]))
    assert np.array_equal(window, pixels(whole["src"])[5:30, 10:45])
    monkeypatch.setattr(stacks, "LONGEST_SIDE", 10)
    coarse = reader.detail(view, whole["limits"], [5, 30, 10, 45])
    assert np.array_equal(pixels(coarse), window[::4, ::4])


@pytest.mark.parametrize("band", [1, 70, 700, 10**6])
def test_a_plane_read_in_bands_is_the_plane(
    reader: StackReader, monkeypatch: pytest.MonkeyPatch, band: int
) -> None:
    monkeypatch.setattr(stacks, "LONGEST_SIDE", 20)
    monkeypatch.setattr(thinning, "BAND_BYTES", band)
    picture = reader.draw(View(IMAGE, index=1, low=0, high=100))
    plane = reader.planes(IMAGE).read(1)[0]
    assert (picture["step"], picture["height"], picture["width"]) == (3, 40, 50)
    brightest = np.argmax(plane[::3, ::3])
    assert np.argmax(pixels(picture["src"])[..., 0]) == brightest


@pytest.mark.parametrize("bounds", [[9, 9, 0, 5], [-5, -1, 0, 5], [0, 5, 60, 90]])
def test_a_window_without_pixels_draws_nothing(reader: StackReader, bounds: list[int]) -> None:
    view = View(IMAGE)
    assert reader.detail(view, reader.draw(view)["limits"], bounds) == ""


def test_a_changed_file_is_drawn_anew(services: Services, reader: StackReader) -> None:
    before = reader.draw(View(IMAGE))["src"]
    write_stack(services, seed=1)
    assert reader.draw(View(IMAGE))["src"] != before


def test_labels_of_another_size_are_refused_with_both_sizes(services: Services, reader: StackReader) -> None:
    tifffile.imwrite(
        services.workspace.data / "small-labels.tif",
        np.zeros((3, 40, 49), np.uint8),
        photometric="minisblack",
    )
    with pytest.raises(DataError, match=r"3 × 40 × 49.*3 × 40 × 50"):
        reader.draw(View(IMAGE, "data/small-labels.tif"))


@pytest.mark.parametrize(
    "path", ["../../etc/passwd", "/etc/passwd", ".segcore/queue.db", "data", "data/gone.tif"]
)
def test_nothing_outside_the_workspace_is_drawn(reader: StackReader, path: str) -> None:
    for view in (View(path), View(IMAGE, path)):
        with pytest.raises(DataError):
            reader.draw(view)


def test_a_view_from_the_page_is_checked(reader: StackReader) -> None:
    view = View(IMAGE, LABELS, 1, hidden=(7,))
    assert View.of(reader.draw(view)["request"]) == view
    for broken in ({}, {**reader.draw(view)["request"], "index": "one"}):
        with pytest.raises(DataError):
            View.of(broken)


@pytest.mark.parametrize("file_format", ["tiff", "ome-zarr"])
def test_a_result_leads_to_its_image_and_the_image_to_its_labels(
    services: Services, reader: StackReader, file_format: str
) -> None:
    result = make_result(services, file_format=file_format)
    drawn = reader.draw(View(IMAGE, result, 1, opacity=1.0))
    assert len(np.unique(pixels(drawn["src"]).reshape(-1, 3), axis=0)) == 2
    make_run(services)
    assert reader.image_of(result) == IMAGE
    assert reader.image_of(IMAGE) == IMAGE
    assert reader.belonging(IMAGE) == [LABELS, result] or reader.belonging(IMAGE) == [result, LABELS]
    assert reader.stacks() == [IMAGE, LABELS, result]
    services.resolve(IMAGE).unlink()
    assert reader.image_of(result) == result


def test_only_labels_of_its_size_and_name_are_suggested(services: Services, reader: StackReader) -> None:
    assert reader.suggestion(IMAGE) == LABELS
    assert reader.suggestion(LABELS) == ""
    for name in ("b_raw", "a_raw", "a_labels", "b_labels"):
        tifffile.imwrite(services.workspace.data / f"{name}.tif", np.zeros((9, 9), np.uint8))
    assert reader.suggestion("data/a_raw.tif") == "data/a_labels.tif"
    assert reader.suggestion("data/b_raw.tif") == "data/b_labels.tif"
    (services.workspace.data / "b_labels.tif").unlink()
    tifffile.imwrite(services.workspace.data / "a_labels.tif", np.zeros((9, 8), np.uint8))
    assert reader.suggestion("data/b_raw.tif") == ""


def test_channels_are_chosen_three_at_most(services: Services, reader: StackReader) -> None:
    image = np.zeros((5, 12, 14), np.uint8)
    image[3, 2:4] = 200
    tifffile.imwrite(
        services.workspace.data / "five.tif", image, photometric="minisblack", metadata={"axes": "CYX"}
    )
    base = View("data/five.tif", low=0, high=100)
    assert pixels(reader.draw(replace(base, channels=(0, 1, 2)))["src"]).max() == 0
    grey = pixels(reader.draw(replace(base, channels=(3,)))["src"])
    assert (grey[2:4] == 255).all()
    assert pixels(reader.draw(replace(base, channels=(0, 1, 2, 3, 4)))["src"]).max() == 0
