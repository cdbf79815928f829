"""Choosing files: what is uploaded or browsed to ends up in the list, as a file or as a folder."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from tabs_workspace import make_services, write_labels, write_stack

from app import catalog, files_input
from app.services import Services


@pytest.fixture
def services(tmp_path: Path) -> Services:
    services = make_services(tmp_path)
    write_stack(services)
    write_labels(services)
    return services


def test_a_file_of_a_folder_offers_all_files_of_the_folder(services: Services) -> None:
    chosen = str(services.workspace.data / "images.tif")
    path, message, folder, button = files_input.take_chosen(services, catalog.IMAGES, chosen)
    assert (path, folder, message.visible) == ("data/images.tif", "data", False)
    assert button.visible
    assert "2 files" in button.value


def test_a_folder_is_taken_for_images_and_refused_for_models(services: Services) -> None:
    chosen = str(services.workspace.data)
    assert files_input.take_chosen(services, catalog.IMAGES, chosen)[0] == "data"
    _, message, *_ = files_input.take_chosen(services, (".pth",), chosen)
    assert message.visible
    assert "is not one of" in message.value


@pytest.mark.parametrize("chosen", ["/etc", "data/none.tif"])
def test_what_cannot_be_chosen_is_explained(services: Services, chosen: str) -> None:
    _, message, *_ = files_input.take_chosen(services, catalog.IMAGES, chosen)
    assert message.visible


def test_uploads_become_a_file_or_a_folder(services: Services, tmp_path: Path) -> None:
    one, other = tmp_path / "cells_1.tif", tmp_path / "cells_2.tif"
    for path in (one, other):
        path.write_bytes(b"II*\0")
    packed = tmp_path / "nuclei.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(one, "a/1.tif")
        archive.write(other, "b/1.tif")
    saved = [
        files_input.take_upload(services, catalog.IMAGES, files)[0].value
        for files in ([str(one)], [str(one), str(other)], [str(packed)])
    ]
    assert saved == ["data/cells_1.tif", "data/cells", "data/nuclei"]
    offered = {path for _, path in files_input.offered(services, catalog.IMAGES)}
    assert set(saved) <= offered
    _, message = files_input.take_upload(services, catalog.IMAGES, [str(tmp_path / "gone.tif")])
    assert message.visible
