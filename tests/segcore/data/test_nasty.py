"""Every nasty file is read rightly or refused in words that help, soon and without much memory."""

from __future__ import annotations

import contextlib
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nasty_containers
import nasty_pictures
import nasty_tiff  # noqa: F401 - registers its files
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nasty import COLOUR, DEEP, GREY, NASTY, Nasty, Reads, Refused
from PIL import Image

from segcore.config import DataConfig
from segcore.data.open import open_source
from segcore.data.source import ImageSource
from segcore.data.validate import check_data
from segcore.errors import DataError
from segcore.workspace import Workspace

MOST_MEMORY = 200 * 2**20


@pytest.fixture(params=NASTY, ids=lambda nasty: nasty.name)
def nasty(request: pytest.FixtureRequest) -> Nasty:
    return request.param


def read_as_the_app_does(workspace: Workspace, path: Path) -> tuple[ImageSource, np.ndarray]:
    source = open_source(workspace.address(str(path)))
    return source, source.read((slice(None),) * len(source.axes))


@pytest.mark.timeout(30)
def test_a_nasty_file_is_read_rightly_or_refused_in_words_that_help(nasty: Nasty, tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "workspace")
    path = nasty.make(workspace.data)
    tracemalloc.start()
    try:
        if isinstance(nasty.expectation, Reads):
            source, pixels = read_as_the_app_does(workspace, path)
        else:
            with pytest.raises(DataError) as caught:
                read_as_the_app_does(workspace, path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MOST_MEMORY
    if isinstance(nasty.expectation, Reads):
        assert source.axes == nasty.expectation.axes
        assert source.dtype == nasty.expectation.pixels.dtype
        np.testing.assert_allclose(pixels, nasty.expectation.pixels, rtol=0, atol=nasty.expectation.within)
        assert nasty.expectation.notes in " ".join(source.notes)
        return
    assert re.search(nasty.expectation.words, caught.value.message)
    assert path.name.partition("::")[0] in caught.value.message
    assert caught.value.remedy


def test_the_check_tells_of_a_nasty_file_and_never_fails(nasty: Nasty, tmp_path: Path) -> None:
    workspace = Workspace.open(tmp_path / "workspace")
    path = nasty.make(workspace.data)
    np.save(tmp_path / "good.npy", GREY)
    images = check_data(DataConfig(images=str(path)))
    labels = check_data(DataConfig(images=str(tmp_path / "good.npy"), labels=str(path)))
    assert all(error.what and error.remedy for error in (*images.errors, *labels.errors))
    outside = isinstance(nasty.expectation, Refused) and "outside" in nasty.expectation.words
    if isinstance(nasty.expectation, Refused) and not outside:  # only the app is confined to a workspace
        assert images.errors
        assert labels.errors


DAMAGED: dict[str, Callable[[Path], Path]] = {
    "npy": lambda folder: nasty_containers.npy(folder, DEEP),
    "hdf5": lambda folder: nasty_containers.hdf5(folder, DEEP, chunks=(20, 25), compression="gzip"),
    "nifti": nasty_containers.nifti,
    "nifti-gz": lambda folder: nasty_containers.nifti(folder, "image.nii.gz"),
    "png": lambda folder: nasty_pictures.picture(folder, Image.fromarray(COLOUR)),
    "jpeg": lambda folder: nasty_pictures.picture(folder, Image.fromarray(COLOUR), "image.jpg"),
    "bmp": lambda folder: nasty_pictures.picture(folder, Image.fromarray(COLOUR), "image.bmp"),
}


@pytest.mark.parametrize("kind", DAMAGED)
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_but_never_crashes(tmp_path: Path, kind: str, data: Any) -> None:
    path = DAMAGED[kind](tmp_path)
    content = bytearray(path.read_bytes())
    for _ in range(3):  # headers come first, and are what a reader believes
        last = data.draw(st.sampled_from([min(400, len(content)), len(content)])) - 1
        content[data.draw(st.integers(0, last))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    with contextlib.suppress(DataError):
        source = open_source(path)
        if np.prod([float(size) for size in source.shape]) < 10**7:
            assert source.read((slice(None),) * len(source.axes)).shape == source.shape


def test_the_collection_is_what_it_claims() -> None:
    assert len({nasty.name for nasty in NASTY}) == len(NASTY) >= 60
