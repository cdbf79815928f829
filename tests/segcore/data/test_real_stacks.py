"""Published data sets open as what their descriptions say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from segcore.config import DataConfig
from segcore.data.validate import check_data

REPOSITORY = Path(__file__).parents[3]
DATA = REPOSITORY / os.environ.get("SEGCORE_TEST_DATA", "../shared/data")

SETS: list[tuple[str, str, dict[str, Any], str, int]] = [
    ("isbi2012_em_membrane/raw", "isbi2012_em_membrane/labels", {"validation_slices": "24-29"},
     "30 × 512 × 512, ZYX, uint8", 2),
    ("sandstone_microct_4class/raw", "sandstone_microct_4class/labels", {}, "9 × 1024 × 996, ZYX, uint8", 4),
    ("ctc_dic_c2dh_hela/raw", "ctc_dic_c2dh_hela/labels", {"labels_as": "foreground"},
     "84 × 512 × 512, TYX, uint8", 2),
    ("imc_5channel_pancreas/images/E34", "imc_5channel_pancreas/masks/E34", {"labels_as": "foreground"},
     "5 × 100 × 100, CYX, float32", 2),
    ("two_channel_3d_fluorescence/raw", "two_channel_3d_fluorescence/labels_nuclei_ch0",
     {"labels_as": "foreground"}, "75 × 2 × 75 × 75, ZCYX, uint16", 2),
]  # fmt: skip


@pytest.mark.realdata
@pytest.mark.parametrize(("images", "labels", "options", "text", "classes"), SETS)
def test_real_data_is_good_data(
    images: str, labels: str, options: dict[str, Any], text: str, classes: int
) -> None:
    if not DATA.is_dir():
        pytest.skip(f"the real data sets are not at {DATA}")
    report = check_data(
        DataConfig(images=str(DATA / f"{images}.tif"), labels=str(DATA / f"{labels}.tif"), **options)
    )
    assert report.errors == ()
    assert report.images is not None
    assert report.images.text == text
    assert len(report.classes) == classes
