"""Every nasty file is read rightly or refused in words that help, soon and without much memory."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path

import nasty_containers  # noqa: F401 - registers its files
import nasty_pictures  # noqa: F401
import nasty_tiff  # noqa: F401
import numpy as np
import pytest
from nasty import NASTY, Nasty, Reads

from segcore.data.open import open_source
from segcore.data.source import ImageSource
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


def test_the_collection_is_what_it_claims() -> None:
    assert len({nasty.name for nasty in NASTY}) == len(NASTY) >= 60
