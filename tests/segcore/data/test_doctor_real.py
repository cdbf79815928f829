"""Published data sets that are fine raise no alarm; what is known to be special about others is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from doctored import diagnosis, found, kinds

from segcore.config import DataConfig

pytestmark = pytest.mark.realdata

SETS: list[tuple[str, str, str, dict[str, Any], set[str]]] = [
    ("isbi2012_em_membrane", "raw.tif", "labels.tif", {}, {"values"}),
    ("sandstone_microct_4class", "raw.tif", "labels.tif", {}, set()),
    ("confocal3d_ovule_cells", "raw.tif", "labels.tif", {"labels_as": "foreground"}, {"leakage"}),
    ("confocal3d_ovule_nuclei", "1135_raw.tif", "1135_labels.tif", {"labels_as": "foreground"}, set()),
    ("two_channel_3d_fluorescence", "raw.tif", "labels_ch1.tif", {"labels_as": "foreground"}, {"leakage"}),
    ("imc_5channel_pancreas", "images", "masks", {"labels_as": "foreground"}, set()),
    ("bacteria_phase_omnipose", "images", "masks", {}, {"depths", "instances"}),
    ("sparse_bbbc007_nuclei", "raw.tif", "labels_sparse.tif", {"unlabelled_value": 0}, {"instances"}),
    ("sparse_maize_scribbles", "raw.tif", "labels_scribbles.tif", {"unlabelled_value": 0}, set()),
]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at fewer slices than the doctor does."""
    monkeypatch.setattr("segcore.data.doctor.survey.SLICES", 80)
    monkeypatch.setattr("segcore.data.doctor.survey.PIXELS", 25_000_000)
    monkeypatch.setattr("segcore.data.doctor.survey.MATCHED", 6)


@pytest.mark.parametrize(("name", "images", "labels", "options", "expected"), SETS)
def test_good_data_raises_no_alarm(
    name: str,
    images: str,
    labels: str,
    options: dict[str, Any],
    expected: set[str],
    real_data: Callable[[str], Path],
) -> None:
    folder = real_data(name)
    data = DataConfig(images=str(folder / images), labels=str(folder / labels), **options)
    assert set(kinds(data)) == expected


def test_nuclei_that_are_dark_in_some_images_are_told_apart(real_data: Callable[[str], Path]) -> None:
    folder = real_data("dsb2018_nuclei")
    data = DataConfig(images=str(folder / "images"), labels=str(folder / "masks"))
    result = diagnosis(data)
    assert {proposal.kind for proposal in result.proposals} == {"instances", "inverted", "exposures"}
    (inverted,) = [proposal for proposal in result.proposals if proposal.kind == "inverted"]
    assert inverted.optional
    large = [item for item in sorted((folder / "images").iterdir()) if _height(item) == 1024]
    assert [line.partition("]")[0][1:] for line in inverted.recipe] == [item.name for item in large]


def test_membranes_that_were_mirrored_and_shifted_are_recognised(
    tmp_path: Path, real_data: Callable[[str], Path]
) -> None:
    folder = real_data("isbi2012_em_membrane")
    labels = tifffile.imread(folder / "labels.tif", key=range(6))
    tifffile.imwrite(tmp_path / "raw.tif", tifffile.imread(folder / "raw.tif", key=range(6)))
    for harmed, kind in ((labels[:, ::-1], "flipped"), (np.roll(labels, (0, 6, -4), (0, 1, 2)), "shifted")):
        tifffile.imwrite(tmp_path / "labels.tif", harmed)
        data = DataConfig(images=str(tmp_path / "raw.tif"), labels=str(tmp_path / "labels.tif"))
        assert found(data, kind).confidence > 0.3


def _height(path: Path) -> int:
    from PIL import Image

    with Image.open(path) as image:
        return image.height
