"""The desk of the data: what the page shows is what was chosen, in the workspace, true to the files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from tabs_workspace import make_services, write_labels, write_stack

from app.data_desk import DataDesk
from app.data_facts import readings, sizes_text
from app.services import Services
from segcore.config import DataConfig, TrainingSet
from segcore.errors import DataError

PAIR = DataConfig(images="data/images.tif", labels="data/labels.tif")


@pytest.fixture
def services(tmp_path: Path) -> Services:
    """Three slices of 40 × 50 with their labels, and a folder of two images of two channels."""
    services = make_services(tmp_path)
    write_stack(services)
    write_labels(services)
    for folder in ("set", "set_masks"):
        (services.workspace.data / folder).mkdir()
    for number in range(2):
        image = np.arange(2 * 32 * 40, dtype=np.uint16).reshape(2, 32, 40) + number
        name = f"{number}.tif"
        tifffile.imwrite(
            services.workspace.data / "set" / name, image, photometric="minisblack", metadata={"axes": "CYX"}
        )
        tifffile.imwrite(
            services.workspace.data / "set_masks" / name, np.full((32, 40), number + 1, np.uint8)
        )
    return services


def test_paths_go_there_and_back(services: Services) -> None:
    more = TrainingSet(images="data/set", labels="data/set_masks", use="validation")
    data = PAIR.model_copy(update={"images": "data/images.tif;data/images.tif", "sets": [more]})
    located = services.data.located(data)
    assert all(Path(part).is_file() for part in (located.images or "").split(";"))
    assert Path(located.sets[0].labels).is_dir()
    assert services.data.shown(located) == data


@pytest.mark.parametrize("name", ["images", "labels", "mask"])
def test_nothing_outside_the_workspace_is_located(services: Services, name: str) -> None:
    for outside in (
        "../x.tif",
        "/etc/passwd",
        "data/../../x.h5::raw",
        ".segcore/identity",
        "data/*/../../..",
    ):
        with pytest.raises(DataError, match="outside the workspace"):
            services.data.located(PAIR.model_copy(update={name: outside}))


def test_servers_are_not_asked_unless_somebody_allows_it(services: Services) -> None:
    with pytest.raises(DataError, match="workspace"):
        services.data.located(DataConfig(images="https://example.org/image.zarr"))


def test_a_folder_is_shown_with_its_channels_and_pairs(services: Services) -> None:
    data = DataConfig(
        images="data/set", labels="data/set_masks", channels="1", channel_names=["DNA"], pixel_size="0.5"
    )
    overview = services.data.overview(data)
    assert (overview.axes, overview.shape, overview.given) == ("CYX", (2, 32, 40), False)
    assert [(one.used, one.name) for one in overview.channels] == [(False, ""), (True, "DNA")]
    assert overview.channels[0].high < overview.channels[1].high
    assert [Path(pair.name).stem for pair in overview.pairs] == [
        Path(pair.labels).stem for pair in overview.pairs
    ]
    assert "0.5" in overview.pixel_size


def test_images_are_described_although_their_labels_do_not_fit(services: Services) -> None:
    tifffile.imwrite(
        services.workspace.data / "small.tif", np.zeros((3, 8, 8), np.uint8), photometric="minisblack"
    )
    overview = services.data.overview(PAIR.model_copy(update={"labels": "data/small.tif"}))
    assert overview.shape == (3, 40, 50)


def test_a_shot_shows_every_nth_pixel_and_what_nobody_annotated(services: Services) -> None:
    stack = tifffile.imread(services.workspace.data / "images.tif")
    labels = tifffile.imread(services.workspace.data / "labels.tif")
    shot = services.data.shot(PAIR.model_copy(update={"unlabelled_value": 7}), 1, limit=25)
    np.testing.assert_array_equal(shot.image_CYX, stack[1, None, ::2, ::2])
    np.testing.assert_array_equal(shot.labels_YX, labels[1, ::2, ::2])
    np.testing.assert_array_equal(shot.hidden_YX, labels[1, ::2, ::2] == 7)


def test_repairs_are_shown_but_never_written(services: Services) -> None:
    before = (services.workspace.data / "labels.tif").read_bytes()
    plain = services.data.shot(PAIR, 1, 64)
    flipped = services.data.shot(PAIR.model_copy(update={"recipe": ["labels.flip Y"]}), 1, 64)
    assert plain.labels_YX is not None
    np.testing.assert_array_equal(flipped.labels_YX, plain.labels_YX[::-1])
    np.testing.assert_array_equal(flipped.image_CYX, plain.image_CYX)
    assert (services.workspace.data / "labels.tif").read_bytes() == before


def test_what_is_kept_follows_the_files(services: Services) -> None:
    first = services.data.collection(PAIR)
    assert services.data.collection(PAIR) is first
    path = services.workspace.data / "images.tif"
    tifffile.imwrite(
        path, np.zeros((3, 40, 50), np.uint16), photometric="minisblack", metadata={"axes": "ZYX"}
    )
    os.utime(path, ns=(1, 1))
    assert services.data.shot(PAIR, 0, 64).image_CYX.max() == 0


def test_a_file_that_is_added_to_a_folder_is_seen(services: Services) -> None:
    data = DataConfig(images="data/set")
    assert len(services.data.listing(data, labelled=False).items) == 2
    folder = services.workspace.data / "set"
    tifffile.imwrite(folder / "2.tif", np.zeros((2, 32, 40), np.uint16), metadata={"axes": "CYX"})
    os.utime(folder, ns=(5, 5))
    assert len(services.data.listing(data, labelled=False).items) == 3


def test_every_reading_keeps_rows_before_columns_and_names_each_axis_once() -> None:
    for axes, shape in (("YX", (4, 5)), ("ZYX", (3, 4, 5)), ("YXC", (4, 5, 3)), ("CZYX", (2, 3, 4, 5))):
        found = readings(axes, shape)
        assert found[0] == axes
        for one in found:
            assert len(set(one)) == len(one) == len(shape)
            assert "YX" in one
            assert sizes_text(one, shape).count("·") == len(shape) - 1


def test_the_desk_needs_no_files_to_begin(tmp_path: Path) -> None:
    desk = DataDesk(make_services(tmp_path).workspace)
    with pytest.raises(DataError, match="not in the workspace"):
        desk.overview(DataConfig(images="data/none.tif"))
